"""Print a task's slice of the shards, as `dagster asset materialize --partition-range` takes it.

    python shard_slice.py 3 16     the fourth of sixteen slices of the shards, such as train_012...train_015

Slices are contiguous and differ in length by at most one shard; an empty
one prints nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.settings import load_profile


def shard_slice(keys: Sequence[str], task: int, tasks: int) -> str:
    """The range of task `task` (from 0) of `tasks`; empty where no shard is left for it.

    Raises:
        SettingsError: the task is not one of them; shards of omitted tasks would not be rendered.
    """
    if not 0 <= task < tasks:
        raise SettingsError(
            f"task {task} is not one of {tasks}", where="--array", remedy="number the tasks from 0, and leave none out"
        )
    mine = keys[task * len(keys) // tasks : (task + 1) * len(keys) // tasks]
    return f"{mine[0]}...{mine[-1]}" if mine else ""


def main(task: str, tasks: str) -> None:
    """Print the slice for the profile of `DEBLEND_PROFILE`."""
    try:
        keys = [shard.key for shard in all_shards(load_profile().simulation)]
        print(shard_slice(keys, int(task), int(tasks)))
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:3])
