"""`des/des_evaluation`: is the shape catalogue of a tile what im3shape says, and is the tile like what was learnt?"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from deblend_assets.assets.common import OWNERS, check, clear_errors, code_version, cores, rounded
from deblend_assets.assets.keys import DES, RECIPES, TILE_ASSETS, shape_keys, simulated_keys, statistics_key
from deblend_assets.partitions import TILES
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

# A simulated tile's truth is known: the whole chain from images to catalogue must give it back to within these.
MOST_OFFSET_ARCSEC, MOST_FLUX_ERROR = 0.1, 0.01
_CHECKS = {
    "like_training": "Noise, PSF width and fluxes of the tile are like those of the training scenes.",
    "signs": "Both components of our g follow im3shape's with the same sign.",
}
_TRUTH_CHECKS = {
    "positions": f"Simulated tile: median distance from the true position below {MOST_OFFSET_ARCSEC} arcsec.",
    "flux_calibration": f"Simulated tile: light of the cutouts over the truth's is 1 ± {MOST_FLUX_ERROR}, every band.",
    "true_signs": "Simulated tile: both components of our g follow the truth with the same sign.",
    "agrees_with_test_blends": "Simulated tile: slopes on the truth are those on the model's simulated test blends.",
}


def tile_evaluation_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """The evaluation asset, one partition a tile."""
    key, leg, model = TILE_ASSETS["des_evaluation"], profile.des_leg, RECIPES["des"]
    simulated = profile.des.archive.simulated
    described = {**_CHECKS, **(_TRUTH_CHECKS if simulated else {})}

    @dg.asset(
        key=key,
        group_name=DES,
        deps=[
            TILE_ASSETS["im3shape_catalog"],
            TILE_ASSETS["des_cutouts"],
            TILE_ASSETS["shape_catalog"],
            model.stage("stage3_regressor"),
            shape_keys(leg)["shape_posterior"],
            statistics_key(leg),
            dg.AssetDep(simulated_keys(leg)["blended"], partition_mapping=dg.AllPartitionMapping()),
            shape_keys(leg)["shape_evaluation"],
        ],
        partitions_def=TILES,
        owners=OWNERS,
        op_tags=cores(1),
        kinds={"html", "pandas"},
        code_version=code_version("des_evaluation"),
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=words) for name, words in described.items()],
    )
    @clear_errors
    def des_evaluation(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        """The DES model on a tile (section 4.3, Fig. 7, 17 and 18 of the report), like with like.

        Our intrinsic g against im3shape's shear-type e, ordinary and errors-in-variables slopes with bootstrap errors;
        the report's own comparison, observed distortion against it, beside; how unlike the tile is what was learnt. On
        a simulated tile, all of it against the truth: positions, orientation, fluxes, slopes.
        """
        from deblend_assets.assets.des.tile_evaluation import write_tile_evaluation
        from deblend_assets.science.des.tiles import tile_name
        from deblend_assets.stores.des import DesStore

        name, store = tile_name(context.partition_key), storage.open(leg)
        des = DesStore(store)
        outcome = write_tile_evaluation(des, name)
        evaluation, likeness = outcome.evaluation, outcome.likeness
        results = [
            check(
                "like_training",
                not likeness.warnings,
                "; ".join(likeness.warnings) or "no limit exceeded",
                {"unlike": len(likeness.warnings)},
                warn=True,
            ),
            check(
                "signs",
                evaluation["orientation"] == "right",
                evaluation["orientation"],
                {"galaxies": evaluation["matched"]},
                warn=evaluation["orientation"] == "undecided",
            ),
        ]
        if evaluation["truth"] is not None:
            results += _against_truth(evaluation["truth"])
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(str(outcome.report)),
                **outcome.plots,
                "simulated_tile": des.simulated,
                "model_version": store.model_version(),
                **rounded(outcome.numbers),
            },
            check_results=results,
        )

    return [des_evaluation]


def _against_truth(truth: Any) -> list[dg.AssetCheckResult]:
    offset = truth["position"]["median_total"]["value"]
    ratios = {band: found["ratio"] for band, found in truth["cutout_flux"].items()}
    # Within the tolerance, or not beyond it by more than the noise of the images allows to say.
    off = {
        band: abs(r["value"] - 1) - 2 * r["error"] for band, r in ratios.items() if None not in (r["value"], r["error"])
    }
    agreement = {name: found for name, found in truth["test_blends"].items() if isinstance(found, dict)}
    undecided = any(found["agrees"] is None for found in agreement.values())
    sigmas = {f"sigmas_{name}": found["sigmas"] for name, found in agreement.items() if found["sigmas"] is not None}
    return [
        check(
            "positions",
            offset is not None and offset < MOST_OFFSET_ARCSEC,
            f"median {offset:.3f} arcsec" if offset is not None else "too few galaxies",
            {"median_arcsec": offset} if offset is not None else {},
            warn=offset is None,
        ),
        check(
            "flux_calibration",
            bool(off) and max(off.values()) < MOST_FLUX_ERROR,
            ", ".join(f"{b} {r['value']:.4f} ± {r['error']:.4f}" for b, r in ratios.items() if b in off) or "too few",
            {f"ratio_{band}": ratios[band]["value"] for band in off},
            warn=not off,
        ),
        check(
            "true_signs",
            truth["orientation"] == "right",
            truth["orientation"],
            {},
            warn=truth["orientation"] == "undecided",
        ),
        check(
            "agrees_with_test_blends",
            all(found["agrees"] for found in agreement.values()) and not undecided,
            "difference of the slopes over its error, tile less test blends",
            sigmas,
            warn=True,
        ),
    ]
