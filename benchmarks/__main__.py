"""`python -m benchmarks`: every comparison, one table; ends with 0 where no bar is missed.

Each module runs in a process of its own, so that no threads, caches or memory of one affect another; one that fails or
dies is a row. Rows are printed as they come, with the time they took: an interruption loses the one being measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import each_from_fresh_process
from benchmarks.rows import Row, rows_of

MODULES = (
    "rendering",
    "detection",
    "training",
    "feeding",
    "measuring",
    "sky_speed",
    "lineage",
    "scaling",
    "memory",
    "linear",
)
LIBRARIES = ("torch", "numpy", "zarr", "galsim", "blending-toolkit", "dagster", "scarlet2", "jax", "sep")
_HEADER = ("what", "against", "ratio (least to greatest)", "bar", "", "detail")


def run(name: str, quick: bool) -> Iterator[Row]:
    """The rows of a module, run in a fresh process; a failure is a row whose bar is missed."""
    try:
        yield from each_from_fresh_process(rows_of, name, quick)
    except EOFError:
        yield Row(name, "-", None, None, "", False, "failed: its process died")
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        yield Row(name, "-", None, None, "", False, f"failed: {line[:300]}")


def machine(quick: bool) -> dict[str, str]:
    """Date, processor, cores and versions: what the ratios depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(cores),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "size": "quick: small, to see that everything runs; no figure for a report" if quick else "full",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, aligned, for the terminal and docs/performance.md alike."""
    cells = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    # The detail is long; to pad it would only fill the screen.
    widths[-1] = 0
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * max(width, 3) for width in widths) + " |")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "-" if row.ratio is None else _figure(row.ratio)
    if row.spread is not None:
        ratio += f" ({_figure(row.spread[0])} to {_figure(row.spread[1])})"
    verdict = {True: "met", False: "MISSED", None: "not measured" if row.bar and row.ratio is None else ""}[row.met]
    return row.what, row.peer, ratio, row.bar, verdict, row.detail.replace("|", "/")


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen modules and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: minutes, and no figures to report")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    given = parser.parse_args(arguments)
    about = machine(given.quick)
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    rows: list[Row] = []
    try:
        for name in given.only:
            began = time.monotonic()
            for row in run(name, given.quick):
                rows.append(row)
                seconds, began = time.monotonic() - began, time.monotonic()
                print(f"{name}, {seconds:.0f} s: {' | '.join(_cells(row))}", flush=True)
                if given.json:
                    content = {"machine": about, "rows": [asdict(row) for row in rows]}
                    given.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        print("\n" + table(rows))
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
