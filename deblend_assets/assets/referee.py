"""Group `referee`: our estimates and the peers' on the same held-out galaxies, and the calibration of the shear."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import accelerated, asset
from deblend_assets.assets.keys import (
    CATALOG,
    DES_SHEAR_CALIBRATION,
    PEER_COMPARISON,
    RECIPES,
    REFEREE_REPORT,
    SHAPES,
    SHEAR_CALIBRATION,
    SIMULATED,
    SKY_MODEL,
    STATISTICS,
)
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def _report_configuration() -> list[dg.AssetKey]:
    """The deblender and the regressor of the report's own recipe."""
    return [RECIPES["baseline"].stage(name) for name in ("stage2_deblender", "stage3_regressor")]


def peer_comparison_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`peer_comparison`, for the LSST model; key `referee/peer_comparison`."""

    @asset(
        PEER_COMPARISON,
        deps=[
            CATALOG,
            *(SIMULATED[name] for name in ("truth", "isolated", "blended")),
            STATISTICS,
            RECIPES["training"].stage("stage2_deblender"),
            SHAPES["shape_posterior"],
            SHAPES["fisher_floor"],
            *_report_configuration(),
        ],
        version="peer_comparison",
        kinds={"pytorch", "parquet"},
        op_tags=accelerated(profile.run),
        checks={
            "unbiased": "Bias and slope of our likelihood-only estimate agree with 0 and 1 within three errors.",
            "no_regression": "None of our errors grew by more than two errors since the last run.",
        },
    )
    def peer_comparison(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Our estimates, the report's configuration and the methods in use today, on the same held-out test blends.

        Methods: adaptive moments and REGAUSS with and without SEP's masks, AnaCal, scarlet2 and a Sérsic fit with
        true positions, the report's configuration, ours, and the Fisher floor. Errors of observed distortion e
        (Eq. 12) and intrinsic shear-type g, fluxes, SSIM, cosine, failures, time on one core; bootstrap errors. A peer
        that is not installed or a stage that is not trained is left out and named in the log.
        """
        from deblend_assets.steps.referee.peer_comparison import write_peer_comparison

        with devices.allocate(PEER_COMPARISON.to_user_string(), context.log) as lease:
            outcome = write_peer_comparison(storage.open(profile), lease.torch_device, workers, context.log.info)
        return outcome.with_device(lease.metadata())

    return [peer_comparison]


def shear_calibration_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`shear_calibration`, on scenes of LSST and of DES; keys `referee/…`."""
    lsst = [SHAPES["shape_posterior"], SHAPES["fisher_floor"], *_report_configuration(), STATISTICS]
    return [_shear_calibration(profile, profile, lsst), _shear_calibration(profile.des_leg, profile, [])]


def _shear_calibration(profile: Profile, main: Profile, specialists: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """On scenes of a leg.

    Args:
        profile: of the leg.
        main: of the LSST leg, whose model for every sky is evaluated.
        specialists: what is of this leg's survey alone.
    """
    key = SHEAR_CALIBRATION if profile.leg == "main" else DES_SHEAR_CALIBRATION

    @asset(
        key,
        deps=[CATALOG, SKY_MODEL, *specialists],
        version="shear_calibration",
        kinds={"pytorch", "parquet"},
        op_tags=accelerated(profile.run),
        checks={
            "calibrated": "|m| of calibrated posterior means is below 3e-3 and |c| below 3e-4, or within two errors of "
            "these limits: a small run cannot decide more.",
            "responses_agree": "Responses from the images alone and from pairs of simulations agree within three "
            "errors.",
            "no_regression": "No bias grew by more than two errors since the last run.",
        },
    )
    def shear_calibration(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices, workers: RenderingWorkers
    ) -> Outcome:
        """Multiplicative and additive bias of the shear estimates (section 4.3 of the report).

        Constant-shear simulations of test galaxies: the same galaxies and noise under each shear, with pairs rotated
        by 90°. m, c and response (jack-knife errors) of SEP + REGAUSS and the model for every sky, on LSST's scenes of
        the report's regressor and the shape posterior too, uncalibrated and calibrated on validation galaxies; the
        response from images alone; selection, PSF leakage, PSF size and another population. Convention: shear-type g,
        pixel frame.
        """
        from deblend_assets.steps.referee.shear_calibration import write_shear_calibration

        with devices.allocate(key.to_user_string(), context.log) as lease:
            store, lsst = (storage.open(leg) for leg in (profile, main))
            outcome = write_shear_calibration(store, lsst, lease.torch_device, workers, context.log.info)
        return outcome.with_device(lease.metadata())

    return shear_calibration


def referee_report_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`referee_report`, for both surveys; key `referee/referee_report`."""

    @asset(
        REFEREE_REPORT,
        deps=[
            PEER_COMPARISON,
            SHEAR_CALIBRATION,
            DES_SHEAR_CALIBRATION,
            # The stamps of the worst failures, and the photons' limit beside the shape noise.
            SIMULATED["blended"],
            SHAPES["fisher_floor"],
        ],
        version="referee_report",
        kinds={"html"},
    )
    def referee_report(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """One page for lensing users: which method is better, where it fails, how fast it is, how to calibrate it.

        Tables computed from the stored estimates alone, figures, and the ten worst failures of every method, as in
        section 4.3 of the report.
        """
        from deblend_assets.steps.referee.referee_page import write_referee_page

        return write_referee_page(storage.open(profile), storage.open(profile.des_leg))

    return [referee_report]
