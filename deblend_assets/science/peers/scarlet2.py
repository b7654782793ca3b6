"""scarlet2 (Sampson et al. 2024, 2401.07313): a scene of non-parametric galaxies fitted to a stamp, all bands at once.

As its quick start has it: Gaussian moments, or where these fail a compact source, to start from; spectra positive,
morphologies between 0 and 1; Adam for at most 200 steps or a relative change of 1e-4. Positions are the true ones.

Its own `Scene.fit` traces and compiles every scene again, because the boxes' places are constants of its program. Here
the same steps are one program for each number of galaxies: places are data and boxes are padded to few sizes. Padding
has no gradient and does not enter the norms, so that the result equals `Scene.fit`'s to rounding.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.peers.blends import Blends, Measured, Peer
from deblend_assets.science.peers.sep_hsm import regauss

MAX_STEPS = 200
TOLERANCE = 1e-4
# Width of the model's own PSF [pixel].
_MODEL_PSF_SIGMA = 0.7
# Side of the PSFs' images [pixel], odd as scarlet2 requires.
_PSF_SIDE = 41
# Steps of Adam: relative to a spectrum's norm, and of a morphology.
_SPECTRUM_STEP, _MORPHOLOGY_STEP = 0.05, 0.1
# Unit of its data, in a sky pixel's noise (median of the bands). A spectrum's step is relative to its logarithm's norm:
# in electrons it is so large that galaxies are lost in the first steps (RMS Δg on 64 LSST blends: 0.13, here 0.07).
_NOISES_PER_UNIT = 10.0
# Boxes are padded to multiples of it [pixel].
_BOX_STEP = 24


class Fitter:
    """Fits blends of one noise, one set of PSFs and one size of stamp, one at a time.

    Args:
        noise: (band, y, x), standard deviation of a pixel in the stamps' unit; infinite where lost.
        psfs: images of odd sides, (band, y, x), pixel included; their sums are made 1.
        bands: names.
    """

    def __init__(self, noise: np.ndarray, psfs: np.ndarray, bands: tuple[str, ...]) -> None:
        import jax.numpy as jnp
        import scarlet2

        scarlet2.set_validation(False)  # its checks print, and cost time
        self._scarlet2, self._bands = scarlet2, list(bands)
        shape = noise.shape[1:]
        self._psf = scarlet2.ArrayPSF(jnp.asarray(np.stack([p / p.sum() for p in psfs]), dtype=jnp.float32))
        self._unit = _NOISES_PER_UNIT * float(np.median(noise[np.isfinite(noise)]))
        self._weights = jnp.asarray(np.square(self._unit / noise))
        # Its own box sizes, limited to the stamp: moments over a larger box would be wrong.
        width = float(scarlet2.measure.fwhm(self._psf()).min())
        self._sizes = [size for size in (int(6 * width * 1.5**k) for k in range(10)) if size <= min(shape)]
        model_psf = scarlet2.GaussianPSF(_MODEL_PSF_SIGMA)
        self._frame = scarlet2.Frame(scarlet2.Box((len(bands), *shape)), psf=model_psf, channels=self._bands)
        matched = self._observation(jnp.zeros(self._weights.shape))
        matched.match(self._frame)
        self._renderer = matched.renderer

    def _observation(self, data: Any, renderer: Any = None) -> Any:
        return self._scarlet2.Observation(data, self._weights, psf=self._psf, channels=self._bands, renderer=renderer)

    def fit(self, stamp: np.ndarray, positions: np.ndarray) -> NDArray[np.float32]:
        """The target with the observed PSF, (band, y, x) in the unit of the stamp.

        Args:
            stamp: (band, y, x), without sky.
            positions: (galaxy, 2), row and column of each galaxy [pixel], the target first.
        """
        observed, scene = self._started(stamp, positions)
        boxes = [np.asarray(source.morphology) for source in scene.sources]
        side = _BOX_STEP * -(-max(max(box.shape) for box in boxes) // _BOX_STEP)
        morphologies = np.full((len(boxes), side, side), 0.5, dtype=np.float32)  # logit 0: does not enter a norm
        inside = np.zeros(morphologies.shape, dtype=np.float32)
        for k, box in enumerate(boxes):
            morphologies[k, : box.shape[0], : box.shape[1]], inside[k, : box.shape[0], : box.shape[1]] = box, 1
        corners = np.array([source.bbox.spatial.start for source in scene.sources])
        spectra = np.stack([np.asarray(source.spectrum) for source in scene.sources])
        image = _program()(observed.data, self._weights, self._renderer, spectra, morphologies, inside, corners)
        return np.asarray(image, dtype=np.float32) * np.float32(self._unit)

    def plain_fit(self, stamp: np.ndarray, positions: np.ndarray) -> NDArray[np.float32]:
        """The same by `Scene.fit`, as scarlet2's users run it: the reference in the test of `fit`, ten times slower."""
        from numpyro.distributions import constraints

        observed, scene = self._started(stamp, positions)
        step = partial(self._scarlet2.relative_step, factor=_SPECTRUM_STEP)
        with self._scarlet2.Parameters(scene):
            for k, source in enumerate(scene.sources):
                self._scarlet2.Parameter(
                    source.spectrum, name=f"spectrum.{k}", constraint=constraints.positive, stepsize=step
                )
                self._scarlet2.Parameter(
                    source.morphology,
                    name=f"morphology.{k}",
                    constraint=constraints.unit_interval,
                    stepsize=_MORPHOLOGY_STEP,
                )
        fitted = scene.fit(observed, max_iter=MAX_STEPS, e_rel=TOLERANCE, progress_bar=False)
        image = observed.render(fitted.evaluate_source(fitted.sources[0]))
        return np.asarray(image, dtype=np.float32) * np.float32(self._unit)

    def _started(self, stamp: np.ndarray, positions: np.ndarray) -> tuple[Any, Any]:
        """Observation, and the scene to start from."""
        import jax.numpy as jnp

        observed = self._observation(jnp.asarray(stamp / self._unit), self._renderer)
        # It prints when spectra are not positive; `_start` makes them so.
        with redirect_stdout(io.StringIO()), self._scarlet2.Scene(self._frame) as scene:
            for position in positions:
                center = jnp.asarray(position, dtype=float)
                self._scarlet2.Source(center, *_start(self._scarlet2, observed, center, self._sizes))
        return observed, scene


def survey_fitter(
    noise: np.ndarray, psfs: Sequence[galsim.GSObject], scale: float, bands: tuple[str, ...], shape: tuple[int, int]
) -> Fitter:
    """For the blends of one survey.

    Args:
        noise: (band,), standard deviation of a sky pixel in the stamps' unit.
        psfs: one a band, without the pixel.
        scale: [arcsec / pixel].
        bands: names.
        shape: of a stamp, (y, x).
    """
    drawn = [psf.drawImage(nx=_PSF_SIDE, ny=_PSF_SIDE, scale=scale).array for psf in psfs]
    return Fitter(np.broadcast_to(noise[:, None, None], (len(bands), *shape)), np.stack(drawn), bands)


def _start(scarlet2: Any, observed: Any, center: Any, sizes: list[int]) -> tuple[Any, Any]:
    import jax.numpy as jnp

    try:
        spectrum, morphology = scarlet2.init.from_gaussian_moments(observed, center, box_sizes=sizes)
        if bool(jnp.isfinite(spectrum).all() & (spectrum > 0).all() & jnp.isfinite(morphology).all()):
            return spectrum, morphology
    except (ValueError, AssertionError):
        pass
    spectrum = jnp.maximum(scarlet2.init.pixel_spectrum(observed, center, correct_psf=True), 1e-3)
    return spectrum, scarlet2.init.compact_morphology()


@cache
def _program() -> Any:
    """`scarlet2.fit`'s loop: Adam in unconstrained parameters, then the target alone."""
    import equinox
    import jax
    import jax.numpy as jnp
    import optax

    def source(spectrum: Any, morphology: Any, corner: Any, shape: tuple[int, ...]) -> Any:
        side = morphology.shape[-1]
        margins = jnp.zeros((shape[0], shape[1] + 2 * side, shape[2] + 2 * side))
        light = spectrum[:, None, None] * morphology
        placed = jax.lax.dynamic_update_slice(margins, light, (0, corner[0] + side, corner[1] + side))
        return placed[:, side:-side, side:-side]

    @equinox.filter_jit
    def run(data: Any, weights: Any, renderer: Any, spectra: Any, morphologies: Any, inside: Any, corners: Any) -> Any:
        galaxies = range(len(spectra))
        values = {
            "spectrum": [jnp.log(spectra[k]) for k in galaxies],
            "morphology": [jnp.log(morphologies[k]) - jnp.log1p(-morphologies[k]) for k in galaxies],
        }
        adam = optax.scale_by_adam()

        def light(values: Any, k: int) -> Any:
            morphology = jax.nn.sigmoid(values["morphology"][k]) * inside[k]
            return source(jnp.exp(values["spectrum"][k]), morphology, corners[k], data.shape)

        def loss(values: Any) -> Any:
            model = sum(light(values, k) for k in galaxies)
            return 0.5 * jnp.sum(weights * jnp.square(renderer(model) - data))

        def step(state: Any) -> Any:
            values, moments, _, number = state
            updates, moments = adam.update(jax.grad(loss)(values), moments, values)
            size = partial(jnp.maximum, 1e-6)
            updates = {
                "spectrum": [
                    -size(_SPECTRUM_STEP * jnp.linalg.norm(value)) * update
                    for value, update in zip(values["spectrum"], updates["spectrum"], strict=True)
                ],
                "morphology": [-_MORPHOLOGY_STEP * update for update in updates["morphology"]],
            }
            change = jax.tree.map(lambda v, u: jnp.linalg.norm(u) / jnp.linalg.norm(v), values, updates)
            largest = jnp.max(jnp.stack(jax.tree.leaves(change)))
            return optax.apply_updates(values, updates), moments, largest, number + 1

        def goes_on(state: Any) -> Any:
            return (state[3] < MAX_STEPS) & ~(state[2] < TOLERANCE)

        fitted = jax.lax.while_loop(goes_on, step, (values, adam.init(values), jnp.inf, 0))[0]
        return renderer(light(fitted, 0))

    return run


def measure(blends: Blends) -> Measured:
    """e and g by adaptive moments and REGAUSS of the target's fitted image, label band.

    Unweighted moments, the label's own, follow the noise at the edges of a free-form image: on 64 LSST blends RMS Δe
    is 0.074 a component with them, 0.054 with adaptive ones.
    """
    result = Measured.nothing(blends, images=True)
    assert result.images is not None
    fitter = survey_fitter(np.sqrt(blends.sky), blends.psfs, blends.scale, blends.bands, blends.images.shape[-2:])
    for k in np.flatnonzero(np.isfinite(blends.images).all(axis=(1, 2, 3))):
        try:
            image = fitter.fit(blends.images[k], blends.positions[k])
        except (ValueError, AssertionError):  # a place off the stamp
            continue
        if np.isfinite(image).all():
            result.images[k], result.flux[k] = image, image.sum(axis=(1, 2))
    g, e = regauss(result.images[:, blends.label], blends.psfs[blends.label], blends.scale)
    result.g[:], result.e[:] = g, e
    return result


SCARLET2 = Peer(
    name="scarlet2",
    title="scarlet2 + HSM",
    words=f"scarlet2, {MAX_STEPS} steps or {TOLERANCE:g}, HSM on its image of the target; given true positions, PSFs",
    module="scarlet2",
    given_positions=True,
    measure=measure,
)
