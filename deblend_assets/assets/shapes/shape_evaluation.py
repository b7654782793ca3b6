"""`fisher_floor`, `shape_evaluation`: what the photons allow, and how near the shape posterior comes to it."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.common import (
    DISTRIBUTING,
    ONE_RUN,
    OWNERS,
    accelerated,
    check,
    clear_errors,
    code_version,
    rounded,
)
from deblend_assets.assets.keys import CATALOG, shape_keys, simulated_keys
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile

# Coverage that far from its level asks for a look: a demo's calibration stands on some thousand galaxies.
_COVERAGE_OFF = 0.05


def shape_evaluation_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """Of one leg; keys `shapes/…` or `des_model/…`."""
    keys, simulated = shape_keys(profile), simulated_keys(profile)
    group = keys["fisher_floor"].path[0]

    @dg.asset(
        key=keys["fisher_floor"],
        deps=[CATALOG, simulated["truth"]],
        group_name=group,
        description="Cramér-Rao error of g and e (Eq. 12) of each test galaxy in its blend: finite differences of the "
        "same renderer, position, size, fluxes and the neighbours' parameters marginalised.",
        owners=OWNERS,
        op_tags=DISTRIBUTING,
        backfill_policy=ONE_RUN,
        kinds={"parquet"},
        code_version=code_version("fisher_floor"),
    )
    @clear_errors
    def fisher_floor(
        context: dg.AssetExecutionContext, storage: Storage, workers: RenderingWorkers
    ) -> dg.MaterializeResult:
        from deblend_assets.steps.shapes.floor import write_floor

        return dg.MaterializeResult(metadata=write_floor(storage.open(profile), workers, context.log.info))

    key = keys["shape_evaluation"]

    @dg.asset(
        key=key,
        deps=[keys["shape_posterior"], keys["fisher_floor"], simulated["blended"], simulated["truth"]],
        group_name=group,
        description="The shape posterior on galaxies that it has not seen: errors of intrinsic shear-type g and "
        "observed distortion e (Eq. 12) beside the Fisher floor of the same galaxies, slope and scatter of the "
        "prior-free summary, coverage by S/N, blendedness and separation; bootstrap errors.",
        owners=OWNERS,
        op_tags=accelerated(profile.run),
        backfill_policy=ONE_RUN,
        kinds={"pytorch", "html"},
        code_version=code_version("shape_evaluation"),
        check_specs=[
            dg.AssetCheckSpec(
                "coverage",
                asset=key,
                description="Central intervals of e and g hold the truth as often as they say, within 5 points.",
            )
        ],
    )
    @clear_errors
    def shape_evaluation(
        context: dg.AssetExecutionContext, storage: Storage, devices: ComputeDevices
    ) -> dg.MaterializeResult:
        from deblend_assets.assets.shapes.evaluation import write_shape_evaluation

        with devices.allocate(key.to_user_string(), context.log) as lease:
            outcome = write_shape_evaluation(storage.open(profile), lease.torch_device, context.log.info)
        off = max(
            abs(outcome.numbers[f"coverage_{q}_{level}%"] - level / 100)
            for q in ("g1", "g2", "e1", "e2")
            for level in (68, 95)
        )
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(str(outcome.folder / "report.html")),
                **outcome.plots,
                **rounded(outcome.numbers),
                **lease.metadata(),
            },
            check_results=[
                check("coverage", off <= _COVERAGE_OFF, f"off by {off:.3f} at most", {"largest": off}, warn=True)
            ],
        )

    return [fisher_floor, shape_evaluation]
