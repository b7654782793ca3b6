"""What large runs cost, from measured rates; prints the table of docs/scale.md, or writes it there.

    python -m benchmarks.cost --scenes RATE --training RATE --measuring RATE [--write docs/scale.md]

Rates are those of one machine, on all of its cores; hours are of that machine, core-hours of its cores.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from deblend_assets.settings import load_profile

# Six bands, 45 x 45 pixels, float32.
STAMP_BYTES = 6 * 45 * 45 * 4
ARRAYS = 3
# A row of a catalogue of `measure`, as written (2,000 LSST blends, zstd).
ROW_BYTES = 289
# Galaxies that the surveys measure, to an order of magnitude.
DES, LSST = 10**8, 10**10
# Between them the table lies in a page.
_BEGIN, _END = "<!-- cost -->", "<!-- end of cost -->"


@dataclass(frozen=True)
class Rates:
    """Measured on one machine.

    Attributes:
        scenes: drawn and stored a second.
        training: stamps a second in stages 1 and 2.
        measuring: stamps a second, deblended and measured from Zarr to a catalogue.
        cores: of the machine.
        compression: stored bytes over raw ones, of the simulated arrays.
    """

    scenes: float
    training: float
    measuring: float
    cores: int
    compression: float


def cost_table(rates: Rates) -> str:
    """The table as Markdown."""
    profile = load_profile("report")
    scenes, recipe = profile.simulation.scenes, profile.recipes.training
    number = scenes.train + scenes.validation + scenes.test
    epochs = recipe.stage1.epochs + recipe.stage2.epochs
    # A validation stamp goes forward only: a third of the arithmetic of a training step.
    passes = epochs * (scenes.train + scenes.validation / 3)
    arrays_gb = number * ARRAYS * STAMP_BYTES * rates.compression / 1e9
    lines = [
        "| run | what | units | machine-hours | core-hours | storage |",
        "| --- | --- | --- | --- | --- | --- |",
        _line("report", "simulation", number, "scenes", rates.scenes, rates.cores, _bytes(arrays_gb)),
        _line("report", f"stages 1 and 2, {epochs} epochs", passes, "stamps", rates.training, rates.cores, "1 GB"),
    ]
    for name, galaxies in (("DES", DES), ("LSST", LSST)):
        stamps, rows = galaxies * STAMP_BYTES / 1e9, galaxies * ROW_BYTES / 1e9
        words = f"catalogue {_bytes(rows)}; stamps, if kept, {_bytes(stamps)}"
        lines.append(_line(name, "measuring", galaxies, "galaxies", rates.measuring, rates.cores, words))
    return "\n".join(lines)


def _line(run: str, what: str, units: float, unit: str, rate: float, cores: int, storage: str) -> str:
    hours = units / rate / 3600
    return f"| {run} | {what} | {units:,.0f} {unit} | {_figure(hours)} | {_figure(hours * cores)} | {storage} |"


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def _bytes(gigabytes: float) -> str:
    return f"{_figure(gigabytes / 1000)} TB" if gigabytes >= 1000 else f"{_figure(gigabytes)} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=float, required=True, help="drawn and stored a second, all cores")
    parser.add_argument("--training", type=float, required=True, help="stamps a second, stages 1 and 2")
    parser.add_argument("--measuring", type=float, required=True, help="stamps a second, all cores")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--compression", type=float, default=0.76, help="stored over raw bytes of the simulated arrays")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table there, in the place of the last one")
    given = parser.parse_args()
    rates = Rates(given.scenes, given.training, given.measuring, given.cores, given.compression)
    said = (
        f"From {rates.scenes:,.0f} scenes/s drawn and stored, {rates.training:,.0f} stamps/s trained on and "
        f"{rates.measuring:,.0f} stamps/s measured, on {rates.cores} cores:"
    )
    if given.write:
        before, _, rest = given.write.read_text(encoding="utf-8").partition(_BEGIN)
        _, _, after = rest.partition(_END)
        content = f"{before}{_BEGIN}\n\n{said}\n\n{cost_table(rates)}\n\n{_END}{after}"
        given.write.write_text(content, encoding="utf-8")
    else:
        print(f"{said}\n\n{cost_table(rates)}")


if __name__ == "__main__":
    main()
