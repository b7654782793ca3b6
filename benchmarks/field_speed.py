"""Time and memory of `deblend_assets measure` on a field of 5,000 galaxies in six bands: docs/performance.md.

Exponentials of i = 19 to 25.3 and stars behind a Moffat PSF, at the depth of one year of LSST, drawn by GalSim; how
right the rows are is not asked here. The command runs in a process of its own, its workers counted.

python -m benchmarks.field_speed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import galsim
import numpy as np
import psutil
from astropy.io import fits

_SCALE, _ZERO_POINT = 0.2, 27.0
# 5σ depths of point sources after one year [mag], colours of the mean galaxy less i, and FWHM [arcsec].
_BANDS = {
    "u": (24.1, 1.5, 0.90),
    "g": (25.5, 1.0, 0.85),
    "r": (25.6, 0.4, 0.80),
    "i": (25.0, 0.0, 0.78),
    "z": (24.3, -0.2, 0.76),
    "y": (23.4, -0.3, 0.75),
}
_REACH = 40  # half side of a source's square [pixel]


def draw(folder: Path, side: int, number: int, seed: int = 1) -> Path:
    """Write images, weights and PSFs, and return the field.toml."""
    rng = np.random.default_rng(seed)
    magnitude = 19 + np.log10(1 + rng.random(number) * (10 ** (0.3 * 6.3) - 1)) / 0.3
    size = np.exp(rng.normal(np.log(0.35), 0.4, number) - 0.25 * (magnitude - 23))
    g1, g2 = np.clip(rng.normal(0, 0.2, (2, number)), -0.5, 0.5)
    colour, star = rng.normal(1, 0.5, number), rng.random(number) < 0.04
    x, y = rng.uniform(0, side - 1, (2, number))
    lines = []
    for band, (depth, red, fwhm) in _BANDS.items():
        psf = galsim.Moffat(beta=3.0, fwhm=fwhm)
        stamp = psf.drawImage(nx=51, ny=51, scale=_SCALE, dtype=float).array
        # A point source of the depth has S/N 5.
        sigma = 10 ** (-0.4 * (depth - _ZERO_POINT)) * np.sqrt((stamp**2).sum()) / 5
        image = galsim.ImageF(rng.normal(0, sigma, (side, side)).astype(np.float32), xmin=0, ymin=0, scale=_SCALE)
        for n in range(number):
            flux = 10 ** (-0.4 * (magnitude[n] + red * colour[n] - _ZERO_POINT))
            galaxy = galsim.Exponential(half_light_radius=size[n]).shear(g1=g1[n], g2=g2[n])
            source = psf if star[n] else galsim.Convolve(galaxy, psf)
            ends = [round(v) + step for v in (x[n], y[n]) for step in (-_REACH, _REACH)]
            part = image[galsim.BoundsI(*ends) & image.bounds]
            source.withFlux(flux).drawImage(part, center=galsim.PositionD(x[n], y[n]), add_to_image=True)
        header = fits.Header(
            [("FILTER", band), ("MAGZERO", _ZERO_POINT), ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN")]
        )
        header.update(CRVAL1=30.0, CRVAL2=-5.0, CRPIX1=side / 2, CRPIX2=side / 2)
        header.update(CD1_1=-_SCALE / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=_SCALE / 3600)
        weight = np.full((side, side), sigma**-2, np.float32)
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image.array, header, "SCI"), fits.ImageHDU(weight, name="WGT")]
        fits.HDUList(hdus).writeto(folder / f"{band}.fits")
        fits.writeto(folder / f"psf_{band}.fits", stamp)
        lines += [f"[bands.{band}]", f'image = "{band}.fits[SCI]"', f'weight = "{band}.fits[WGT]"']
        lines += [f'psf = "psf_{band}.fits"', ""]
    toml = folder / "field.toml"
    toml.write_text("\n".join(lines), encoding="utf-8")
    return toml


def measure(toml: Path, out: Path) -> tuple[float, float]:
    """Seconds, and the greatest memory of the command and its workers [GB], shared pages counted once."""
    command = [str(Path(sys.executable).with_name("deblend_assets")), "measure", str(toml), "--out", str(out)]
    peak, start = 0.0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def listen() -> None:
            for line in process.stdout or ():
                print(f"{time.monotonic() - start:6.1f} s  {line.rstrip()}", flush=True)

        listener = threading.Thread(target=listen)
        listener.start()
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.5)
        listener.join()
    return time.monotonic() - start, peak


def _memory(pid: int) -> float:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # one has ended meanwhile
        return 0.0
    return total / 1e9


def main() -> None:
    """Print what the command prints, with times, then the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4_000, help="of the images [pixel]")
    parser.add_argument("--number", type=int, default=6_000, help="of sources; some 5,000 of 6,000 are found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        toml = draw(Path(folder), given.side, given.number)
        seconds, peak = measure(toml, Path(folder) / "out")
    print(f"{seconds:.0f} s, {peak:.2f} GB at most")


if __name__ == "__main__":
    main()
