"""Making the galaxy catalogue: read or generate the galaxies, split them, compare them with published relations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deblend_assets.science.reports.figures.population import catalog_overview
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS, assign_split, read_catsim
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.population_checks import check_population
from deblend_assets.science.statistics.format import Table
from deblend_assets.settings import SPLITS
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.project import ProjectStore

CATALOG_NOTE = (
    "CatSim columns (Connolly et al. 2014) and the split each galaxy belongs to, by a hash of its id. Sizes are "
    "half-light semi-axes in arcsec; magnitudes AB, without Galactic extinction."
)


def write_galaxy_catalog(store: ProjectStore, log: Callable[[str], None]) -> Outcome:
    """Store the galaxies that the profile names, from a CatSim file or generated, with their splits.

    Args:
        store: of the profile.
        log: takes progress lines.
    """
    profile, settings = store.profile, store.profile.catalog
    if settings.path:
        galaxies, source = read_catsim(Path(settings.path)), settings.path
    else:
        galaxies, source = generate_population(settings.galaxies, settings.seed), "generated population"
    log(f"{len(galaxies):,} galaxies from {source}")
    split = assign_split(galaxies["galtileid"].to_numpy(), settings.fractions, salt=str(settings.seed))
    columns = {name: (column.unit, column.meaning) for name, column in CATSIM_COLUMNS.items()}
    columns["split"] = ("", "train, validation or test, by a hash of the id")
    store.write_catalog(galaxies.assign(split=split), columns, CATALOG_NOTE, {"source": source, "rows": len(galaxies)})

    relations = check_population(galaxies)
    failed = [r.name for r in relations if not r.passed]
    shares = {name: float((split == name).mean()) for name in SPLITS}
    spread = {n: 4 * (f * (1 - f) / len(galaxies)) ** 0.5 for n, f in settings.fractions.items()}
    return Outcome(
        figures={"population": catalog_overview(galaxies)},
        numbers={
            "galaxies": len(galaxies),
            "possible_targets": int((galaxies["i_ab"] <= profile.simulation.target_i_max).sum()),
        },
        words={"source": source},
        tables={
            "relations": Table.of(
                {
                    r.name: {
                        "measured": r.measured,
                        "expected": r.expected,
                        "tolerance": r.tolerance,
                        "passed": bool(r.passed),
                        "reference": r.reference,
                    }
                    for r in relations
                },
                "relation",
            )
        },
        paths={"path": store.catalog_path},
        checks=[
            # A real catalogue may differ from the relations: a warning, not an error.
            Check(
                "published_relations",
                not failed,
                f"differ: {', '.join(failed) or 'none'}",
                {"relations": len(relations), "differ": len(failed)},
                warn=True,
            ),
            Check(
                "split_fractions",
                all(abs(shares[n] - f) < spread[n] for n, f in settings.fractions.items()),
                "within four binomial standard deviations",
                shares,
            ),
        ],
    )
