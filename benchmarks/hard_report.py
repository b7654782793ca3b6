"""Stamps unlike their training, by the networks for the report's scenes: the last table of docs/limits.md.

python -m benchmarks.hard_report
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.hard_stamps import BLENDS, MOVED_AND_SMOOTHED, SCALE, SIDE, Kind, moffat, psfs, scenes, wider
from deblend_assets.science.measuring.observed import POSTERIOR, measure_observed
from deblend_assets.science.stamps.observed import of_report
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.measuring.model import shipped_model

KINDS = (
    *BLENDS,
    Kind("PSF 5 % wider", psf=wider(1.05)),
    Kind("… 10 %", psf=wider(1.1)),
    Kind("… 30 %", psf=wider(1.3)),
    Kind("Moffat PSF (β = 3) of the same FWHM", psf=moffat),
    *MOVED_AND_SMOOTHED,
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300, help="stamps of each kind")
    number, model = parser.parse_args().number, shipped_model("LSST", "cpu")
    frame = model.frame
    psf = np.stack([p.drawImage(nx=25, ny=25, scale=SCALE).array for p in psfs()]).astype(np.float32)
    print("| input | flagged [%] | slope of g | RMS pull of g | flux in r; in i: median error, robust σ [%] |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        stamps, truth = scenes(kind, number, 1)
        middle = np.full((number, 2), (SIDE - 1) / 2)
        table = measure_observed([model], of_report(stamps, frame, psf, middle))[POSTERIOR]
        g, error = (table[[f"g{k}{end}" for k in (1, 2)]].to_numpy() for end in ("", "_err"))
        slope = (g * truth.g).sum() / (truth.g**2).sum()
        scatter = (g - slope * truth.g).std() / np.sqrt((truth.g**2).sum())
        pull = np.sqrt((((g - truth.g) / error) ** 2).mean())
        fluxes = []
        for name in "ri":
            electrons = 10 ** (0.4 * (frame.zero_points[frame.bands.index(name)] - truth.mag))
            ratio = table[f"flux_{name}"].to_numpy() / electrons
            fluxes.append(f"{100 * (np.median(ratio) - 1):+.1f}, {100 * float(robust_sigma(ratio)):.1f}")
        print(
            f"| {kind.name} | {100 * table['flag'].mean():.0f} | {slope:.3f} ± {scatter:.3f} | {pull:.2f} | "
            f"{'; '.join(fluxes)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
