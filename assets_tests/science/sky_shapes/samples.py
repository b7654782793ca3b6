"""Observed stamps of no meaning in which everything has a direction, and the same turned."""

from __future__ import annotations

import numpy as np
import torch

from deblend_assets.science.sky_shapes.inputs import SCALARS, SPINS, GivenStamps, given
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.symmetries import transform_images, transform_vectors

SIDE = 49
SIGMA = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


def psf(fwhm: float, g1: float, g2: float) -> np.ndarray:
    """Elliptical Gaussian of unit light on 41 pixels."""
    axis = np.arange(41) - 20.0
    shape = complex(g1, g2)
    e = 2 * shape / (1 + abs(shape) ** 2)
    square = (1 - e.real) * axis**2 + (1 + e.real) * axis[:, None] ** 2 - 2 * e.imag * axis * axis[:, None]
    image = np.exp(-0.5 * square / np.sqrt(1 - abs(e) ** 2) / (fwhm / 2.3548) ** 2)
    return (image / image.sum()).astype(np.float32)


def observed(number: int = 6, seed: int = 1) -> ObservedStamps:
    """Stamps in all bands; u of the first is absent, pixels of the second are lost, the last has no other detection."""
    rng = np.random.default_rng(seed)
    bands = len(CATSIM_BANDS)
    shape = (number, bands, SIDE, SIDE)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    light = np.exp(-0.5 * ((x - 1.5) ** 2 + (y + 0.8) ** 2 + 0.5 * x * y) / 9)
    weight = np.broadcast_to(SIGMA[:, None, None] ** -2.0, shape).astype(np.float32)
    weight[0, 0] = 0
    weight[1, 2:4, 20:27, 10:25] = 0
    correlation = np.zeros((number, bands, 5, 5), dtype=np.float32)
    correlation[..., 2, 2] = 1
    for (dy, dx), value in {(0, 1): 0.3, (1, 0): 0.2, (1, 1): 0.15, (1, -1): 0.05, (0, 2): 0.04, (2, 0): 0.02}.items():
        correlation[..., 2 + dy, 2 + dx] = correlation[..., 2 - dy, 2 - dx] = value
    others = rng.uniform(5, 44, (number, 3, 2))
    count = rng.integers(1, 4, number)
    count[-1] = 0
    others[np.arange(3) >= count[:, None]] = np.nan
    psfs = [psf(fwhm, g1, g2) for fwhm, g1, g2 in rng.uniform([3, -0.08, -0.08], [5, 0.08, 0.08], (bands, 3))]
    return ObservedStamps(
        bands=CATSIM_BANDS,
        pixels=((30 * light + rng.normal(size=shape)) * SIGMA[:, None, None]).astype(np.float32),
        inverse_variance=weight,
        mask=np.zeros(shape, dtype=np.uint16),
        psf=np.broadcast_to(np.stack(psfs), (number, bands, 41, 41)),
        noise_correlation=correlation,
        position=SIDE // 2 + rng.uniform(-0.45, 0.45, (number, 2)),
        others=others,
        others_count=count,
        corner=np.zeros((number, 2), dtype=np.int32),
        pixel_scale=np.full(number, 0.25),
        zero_point=np.full((number, bands), 30.0),
        jacobian=np.broadcast_to(0.25 * np.eye(2), (number, 2, 2)),
        sky_position=np.full((number, 2), np.nan),
    )


def turned_in_the_sky(stamps: ObservedStamps, element: int) -> ObservedStamps:
    """All arrays and positions after an element of the square's group, as if the camera had been turned."""
    elements = torch.full((len(stamps),), element)
    changed = stamps.arrays()
    for name in ("pixels", "inverse_variance", "psf", "noise_correlation"):
        changed[name] = transform_images(torch.from_numpy(np.ascontiguousarray(changed[name])), elements).numpy()
    middle = (stamps.side - 1) / 2
    for name in ("position", "others"):
        offset = torch.from_numpy(changed[name] - middle).flatten(1)
        changed[name] = transform_vectors(offset, elements).view(changed[name].shape).numpy() + middle
    return ObservedStamps(stamps.bands, **changed)


def skies(number: int, stamps: int, seed: int, side: int = 1) -> GivenStamps:
    """As many stamps of each of some skies, one after the other, with blank pixels; u and y are absent from half."""
    rng = np.random.default_rng(seed)
    bands = len(CATSIM_BANDS)
    scalars = rng.normal(size=(number, bands, len(SCALARS))) * np.array([*SCALARS.values()])
    spins = rng.normal(size=(number, bands, len(SPINS), 2)) * np.array([*SPINS.values()])[:, None]
    present = np.ones((number, bands), dtype=bool)
    present[::2, [0, -1]] = False
    scalars[~present] = spins[~present] = 0
    scale = rng.choice([0.168, 0.2, 0.263], number)
    count = number * stamps
    shape = (count, bands, side, side)
    there = np.repeat(present, stamps, axis=0)
    return GivenStamps(
        images=torch.zeros(shape, dtype=torch.float16),
        seen=torch.from_numpy(np.broadcast_to(there[:, :, None, None], shape).copy()),
        neighbours=torch.zeros((count, 1, side, side), dtype=torch.float16),
        present=torch.from_numpy(there),
        scalars=torch.from_numpy(np.repeat(scalars, stamps, axis=0)).float(),
        spins=torch.from_numpy(np.repeat(spins, stamps, axis=0)).float(),
        vectors=torch.from_numpy(rng.uniform(-0.5, 0.5, (count, 1, 2))).float(),
        pixel_scale=torch.from_numpy(np.repeat(scale, stamps)).float(),
    )


def given_of_every_kind(number: int = 6) -> GivenStamps:
    """What is given of `observed`: absent bands, lost pixels, other detections, noise with a direction."""
    return given(observed(number))
