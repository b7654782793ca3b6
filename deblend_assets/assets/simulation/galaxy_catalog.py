"""`simulation/galaxy_catalog`: the galaxies every scene is drawn from."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from deblend_assets.assets.common import ONE_RUN, OWNERS, check, clear_errors, code_version, cores, plot, table
from deblend_assets.assets.keys import CATALOG
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import SPLITS, Profile

CATALOG_NOTE = (
    "CatSim columns (Connolly et al. 2014) and the split each galaxy belongs to, by a hash of its id. Sizes are "
    "half-light semi-axes in arcsec; magnitudes AB, without Galactic extinction."
)


def catalog_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The catalogue asset."""

    @dg.asset(
        key=CATALOG,
        group_name="simulation",
        owners=OWNERS,
        op_tags=cores(1),
        backfill_policy=ONE_RUN,
        kinds={"parquet", "astropy"},
        code_version=code_version("galaxy_catalog"),
        check_specs=[
            dg.AssetCheckSpec(
                "published_relations",
                asset=CATALOG,
                description="Counts, redshifts, sizes, axis ratios, bulge fractions, colours against the literature.",
            ),
            dg.AssetCheckSpec(
                "split_fractions",
                asset=CATALOG,
                description="Train, validation and test fractions are as asked, within binomial errors.",
            ),
        ],
    )
    @clear_errors
    def galaxy_catalog(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        """Galaxies with CatSim's columns (section 3.1.2 and Fig. 4 of the report).

        From a local CatSim FITS where the profile names one (`[catalog] path`), otherwise generated so that counts,
        redshifts, sizes, axis ratios, bulge fractions and colours follow published relations. Each galaxy is
        assigned to train, validation or test by a hash of its id, before any scene is drawn.
        """
        from deblend_assets.science.reports.figures.population import catalog_overview
        from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, assign_split, read_catsim
        from deblend_assets.science.simulation.population import generate_population
        from deblend_assets.science.simulation.population_checks import check_population

        settings = profile.catalog
        if settings.path:
            galaxies, source = read_catsim(Path(settings.path)), settings.path
        else:
            galaxies, source = generate_population(settings.galaxies, settings.seed), "generated population"
        context.log.info(f"{len(galaxies):,} galaxies from {source}")
        split = assign_split(galaxies["galtileid"].to_numpy(), settings.fractions, salt=str(settings.seed))
        columns = {name: (column.unit, column.meaning) for name, column in CATSIM_COLUMNS.items()}
        columns["split"] = ("", "train, validation or test, by a hash of the id")
        store = storage.open(profile)
        store.write_catalog(
            galaxies.assign(split=split), columns, CATALOG_NOTE, {"source": source, "rows": len(galaxies)}
        )

        relations = check_population(galaxies)
        failed = [r.name for r in relations if not r.passed]
        shares = {name: float((split == name).mean()) for name in SPLITS}
        spread = {n: 4 * (f * (1 - f) / len(galaxies)) ** 0.5 for n, f in settings.fractions.items()}
        return dg.MaterializeResult(
            metadata={
                "galaxies": len(galaxies),
                "possible_targets": int((galaxies["i_ab"] <= profile.simulation.target_i_max).sum()),
                "source": source,
                "path": dg.MetadataValue.path(str(store.catalog_path)),
                "population": plot(catalog_overview(galaxies)),
                "relations": table(
                    {
                        r.name: {
                            "measured": r.measured,
                            "expected": r.expected,
                            "tolerance": r.tolerance,
                            "passed": r.passed,
                            "reference": r.reference,
                        }
                        for r in relations
                    },
                    "relation",
                ),
            },
            check_results=[
                # A real catalogue may well differ from the relations: say so, and let it pass on.
                check(
                    "published_relations",
                    not failed,
                    f"differ: {', '.join(failed) or 'none'}",
                    {"relations": len(relations), "differ": len(failed)},
                    warn=True,
                ),
                check(
                    "split_fractions",
                    all(abs(shares[n] - f) < spread[n] for n, f in settings.fractions.items()),
                    "within four binomial standard deviations",
                    shares,
                ),
            ],
        )

    return [galaxy_catalog]
