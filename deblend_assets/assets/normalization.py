"""Group `normalization`: the statistics of Eq. 9."""

from collections.abc import Sequence

import dagster as dg

from deblend_assets.assets.declare import asset
from deblend_assets.assets.keys import SIMULATED, STATISTICS
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Outcome


def normalization_assets(profile: Profile) -> Sequence[dg.AssetsDefinition]:
    """`normalization_statistics`; key `normalization/…`."""

    @asset(
        STATISTICS,
        deps=[SIMULATED["isolated"], SIMULATED["noisy"], SIMULATED["blended"]],
        version="normalization",
        kinds={"numpy"},
        checks={
            "normalised_range": "Clean training stamps lie in [0, 1) after Eq. 9.",
            "round_trip": "Eq. 9 and its inverse give the electrons back.",
        },
    )
    def normalization_statistics(context: dg.AssetExecutionContext, storage: Storage) -> Outcome:
        """⟨max x_raw,b⟩ of the noisy isolated training stamps, one per band (Eq. 9; Fig. 7 and 20 of the report).

        Streaming: one pass over the training shards, one shard in memory. Validation and test stamps take no part.
        Every checkpoint carries these statistics, and refuses others.
        """
        from deblend_assets.steps.normalization.statistics import measure_statistics

        return measure_statistics(storage.open(profile), context.log.info)

    return [normalization_statistics]
