"""Definitions of steps that say which GPUs they see, run on the tests' cluster."""

import os
import time
from pathlib import Path

import dagster as dg

from assets_tests.cluster.ray_nodes import JOBS_URL
from deblend_assets.assets.declare import accelerated, cores
from deblend_assets.automation.executors import build_executor
from deblend_assets.resources.storage import Storage
from deblend_assets.settings import RunSettings, storage_root

RUN = RunSettings(executor="ray", ray_address=JOBS_URL, require_cuda=True)
TAGS = {"first": accelerated(RUN), "second": accelerated(RUN), "without": cores(1)}
PATIENCE_SECONDS = 120.0


def sight(name: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, op_tags=TAGS[name])
    def sees(context: dg.AssetExecutionContext, storage: Storage) -> dg.MaterializeResult:
        """Stays until all three are there, so that no GPU is given twice because the first has ended."""
        here = Path(storage.root)
        here.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all((here / other).exists() for other in TAGS):
            assert time.monotonic() < deadline, "waited in vain for the other steps"
            time.sleep(0.1)
        return dg.MaterializeResult(metadata={"sees": os.environ.get("CUDA_VISIBLE_DEVICES", "all")})

    return sees


defs = dg.Definitions(
    assets=[sight(name) for name in TAGS],
    resources={"storage": Storage(root=str(storage_root()))},
    executor=build_executor(RUN),
)
