"""scarlet2 (Sampson et al. 2024, 2401.07313): a scene of non-parametric galaxies fitted to a stamp, all bands at once.

As its quick start has it: Gaussian moments, or where these fail a compact source, to start from; spectra positive,
morphologies between 0 and 1; Adam for at most 200 steps or a relative change of 1e-4. Positions are the true ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import galsim
import numpy as np

from deblend_assets.science.moments import image_moments

MAX_STEPS = 200
TOLERANCE = 1e-4
# Width of the model's own PSF [pixel].
_MODEL_PSF_SIGMA = 0.7


@dataclass(frozen=True)
class Fit:
    """The target as fitted.

    Attributes:
        image: (band, y, x), with the observed PSF, in the unit of the stamp.
        e1, e2: distortion of its morphology, under the model's PSF, pixel frame.
    """

    image: np.ndarray
    e1: float
    e2: float


def psf_images(psfs: list[galsim.GSObject], scale: float, side: int = 41) -> np.ndarray:
    """(band, y, x) with an odd side, as scarlet2 wants its PSFs centred."""
    drawn = [psf.drawImage(nx=side, ny=side, scale=scale).array for psf in psfs]
    return np.stack([image / image.sum() for image in drawn]).astype(np.float32)


def fit(stamp: np.ndarray, noise: np.ndarray, psf: np.ndarray, positions: np.ndarray, bands: list[str]) -> Fit:
    """Fit one blend.

    Args:
        stamp: (band, y, x), without sky.
        noise: (band,), standard deviation of a sky pixel in the same unit.
        psf: as `psf_images` gives it.
        positions: (galaxy, 2), row and column of each galaxy [pixel], the target first.
        bands: names.
    """
    import jax.numpy as jnp
    import scarlet2
    from numpyro.distributions import constraints

    scarlet2.set_validation(False)  # its checks print, and cost time
    weights = np.broadcast_to(1 / np.square(noise)[:, None, None], stamp.shape)
    observed = scarlet2.Observation(
        jnp.asarray(stamp), jnp.asarray(weights), psf=scarlet2.ArrayPSF(jnp.asarray(psf)), channels=bands
    )
    frame = scarlet2.Frame(scarlet2.Box(stamp.shape), psf=scarlet2.GaussianPSF(_MODEL_PSF_SIGMA), channels=bands)
    with scarlet2.Scene(frame) as scene:
        for position in positions:
            center = jnp.asarray(position, dtype=float)
            scarlet2.Source(center, *_start(scarlet2, observed, center))
    step = partial(scarlet2.relative_step, factor=0.05)
    with scarlet2.Parameters(scene):
        for k, source in enumerate(scene.sources):
            scarlet2.Parameter(source.spectrum, name=f"spectrum.{k}", constraint=constraints.positive, stepsize=step)
            scarlet2.Parameter(
                source.morphology, name=f"morphology.{k}", constraint=constraints.unit_interval, stepsize=0.1
            )
    fitted = scene.fit(observed, max_iter=MAX_STEPS, e_rel=TOLERANCE, progress_bar=False)
    target = fitted.sources[0]
    shape = image_moments(np.asarray(target.morphology))
    return Fit(np.asarray(observed.render(fitted.evaluate_source(target))), float(shape.e1), float(shape.e2))


def _start(scarlet2: Any, observed: Any, center: Any) -> tuple[Any, Any]:
    import jax.numpy as jnp

    try:
        spectrum, morphology = scarlet2.init.from_gaussian_moments(observed, center)
        if bool(jnp.isfinite(spectrum).all() & (spectrum > 0).all() & jnp.isfinite(morphology).all()):
            return spectrum, morphology
    except (ValueError, AssertionError):
        pass
    spectrum = jnp.maximum(scarlet2.init.pixel_spectrum(observed, center, correct_psf=True), 1e-3)
    return spectrum, scarlet2.init.compact_morphology()
