"""Private names of Dagster are imported in two modules, which say why, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWED = {"deblend_assets/automation/dagster_internals.py", "assets_tests/dagster_internals.py"}


def test_private_names_of_dagster_are_imported_in_one_module_of_each_package() -> None:
    private = re.compile(r"^\s*(from|import) dagster\._", re.MULTILINE)
    found = {
        str(path.relative_to(ROOT))
        for folder in ("deblend_assets", "assets_tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
