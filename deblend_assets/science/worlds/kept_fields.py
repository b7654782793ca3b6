"""A field as it is kept to be observed again: its light and its truth, rendered and measured once.

An observation needs no galaxy, no PSF profile and no catalogue: noise, artefacts, detection and stamps are made from
the arrays of one file. Light is float16 in units of its own peak: within 2⁻¹¹ of its value, and far below the noise
where it is faint.

Of each source alone, its light on the detection image is kept, which decides what is a detection's target; the S/N, the
moments behind the PSF and the overlap with other light are numbers. They are of the image without masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deblend_assets.science.detection.light import light_of_pieces, sum_weights
from deblend_assets.science.simulation.fields import Field, Observation, observe, observed_image
from deblend_assets.science.simulation.patch_psfs import KnownPSFs
from deblend_assets.science.skies.background import SkyResidual
from deblend_assets.science.skies.measured_psf import MeasuredPSF
from deblend_assets.science.skies.noise import NoiseCorrelation
from deblend_assets.science.skies.psf_shape import PSFShape
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.stamps.source_light import SourceLight
from deblend_assets.science.worlds.observed_fields import fwhm_pixels, noise_lags
from deblend_assets.science.worlds.sources_alone import RenderedAlone, on_field
from deblend_assets.settings import MaskSettings

LEAST_SNR = 2.0
"""True S/N over all bands from which on a source alone is kept: fainter ones are light of the field only."""
# float16 ends at 65,504.
_LARGEST = 60_000.0
# FWHM and half-light radius of a Gaussian over its sigma.
_FWHM_OVER_SIGMA, _HLR_OVER_SIGMA = 2.3548, 1.1774
_TRUTH = "truth_"

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray]


@dataclass(frozen=True, eq=False)
class KeptAlone:
    """What is true of S sources alone; see `SourcesAlone`.

    Attributes:
        pieces: light of each on the detection image, (1, y, x), cut at the field's edges.
        true_snr: over all bands, nothing masked, (S,).
        shapes: e1, e2, sigma [pixel] behind the PSF, (S, band, 3); NaN where moments do not converge.
        overlaps: sums of own light squared, and of own times others', (S, 2, band).
    """

    pieces: Sequence[SourceLight]
    true_snr: Floats
    shapes: Floats
    overlaps: Floats

    def light_within(self, x: Floats, y: Floats, radius: float, weights: Floats) -> csr_array:
        """See `SourcesAlone`; with the weights of an image in which no band is lost."""
        return light_of_pieces(x, y, radius, self.pieces, np.ones(1))

    def snr(self, inverse_variance: NDArray[np.float32], correlations: Sequence[Floats | None]) -> Floats:
        """See `SourcesAlone`; nothing masked."""
        return self.true_snr

    def moments(self, source: int, band: int, guess: float) -> tuple[float, float, float]:
        """See `SourcesAlone`."""
        e1, e2, sigma = self.shapes[source, band].tolist()
        return e1, e2, sigma

    def overlap(self, source: int) -> tuple[Floats, Floats]:
        """See `SourcesAlone`."""
        own, others = self.overlaps[source]
        return own, others


@dataclass(frozen=True, eq=False)
class KeptField:
    """A field to observe; a `LitField`.

    Attributes:
        sky: what it is observed with; its PSFs are `MeasuredPSF`.
        psfs: of its patches.
        light: of all sources, (band, y, x) float32 [image unit].
        truth: one row a kept source, `sources.TRUTH_COLUMNS`.
        alone: of the kept sources.
    """

    sky: Sky
    psfs: KnownPSFs
    light: NDArray[np.float32]
    truth: pd.DataFrame
    alone: KeptAlone

    def observe(self, seed: int | Sequence[int], masks: MaskSettings | None = None) -> Observation:
        """See `fields.observe`."""
        return observe(self.sky, self.light, seed, masks)

    def observed_image(self, seen: Observation, psf_side: int, lags: int = 6) -> ObservedImage:
        """See `fields.observed_image`."""
        return observed_image(self.psfs, seen, psf_side, lags)


def kept_arrays(field: Field, psf_side: int, least_snr: float = LEAST_SNR) -> dict[str, NDArray]:
    """Render a field and measure all that `kept_field` needs.

    Args:
        field: which; not turned.
        psf_side: of the PSFs' images, odd [pixel].
        least_snr: true S/N from which on a source is kept.
    """
    sky, rendered = field.sky, RenderedAlone.of(field)
    inverse = np.broadcast_to(sky.column("sigma")[:, None, None] ** -2, rendered.light.shape).astype(np.float32)
    snr = rendered.snr(inverse, noise_lags(sky))
    rows = np.flatnonzero(snr >= least_snr)
    light, light_scale = packed(rendered.light)
    weights, _ = sum_weights(inverse, sky.column("zero_point").tolist())
    pieces = [_on_sum(on_field(rendered.pieces[row], *sky.shape), weights) for row in rows]
    flat = [packed(piece.light) for piece in pieces]
    boxes = [(piece.x, piece.y, *piece.light.shape[1:]) for piece in pieces]
    return {
        "light": light,
        "light_scale": light_scale,
        "pieces": np.concatenate([values.ravel() for values, _ in flat] or [np.zeros(0, np.float16)]),
        "piece_scale": np.array([scale[0] for _, scale in flat], np.float64),
        "boxes": np.array(boxes, np.int32).reshape(-1, 4),
        "true_snr": snr[rows],
        "shapes": _shapes(field, rendered, rows),
        "overlaps": np.array([rendered.overlap(row) for row in rows]).reshape(len(rows), 2, len(sky.names)),
        **{f"{_TRUTH}{name}": values.to_numpy()[rows] for name, values in field.truth.items()},
        **_sky_arrays(sky),
        **_psf_arrays(field, psf_side),
    }


def kept_field(arrays: Arrays) -> KeptField:
    """The field that `kept_arrays` describes."""
    sky = _sky(arrays)
    columns = {name.removeprefix(_TRUTH): values for name, values in arrays.items() if name.startswith(_TRUTH)}
    alone = KeptAlone(_pieces(arrays), arrays["true_snr"], arrays["shapes"], arrays["overlaps"])
    light = unpacked(arrays["light"], arrays["light_scale"])
    return KeptField(sky, _psfs(sky, arrays), light, pd.DataFrame(columns), alone)


def packed(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], Floats]:
    """Light as float16, and the unit of each of its planes, along the first axis.

    Args:
        values: (N, …), not negative but for rounding.
    """
    peak = np.abs(values).reshape(len(values), -1).max(axis=1, initial=0.0)
    scale = np.where(peak > 0, peak / _LARGEST, 1.0).astype(np.float64)
    return (values / _along(scale, values)).astype(np.float16), scale


def unpacked(values: NDArray[np.float16], scale: Floats) -> NDArray[np.float32]:
    """What was `packed`, float32."""
    return values.astype(np.float32) * _along(scale, values).astype(np.float32)


def _along(scale: Floats, values: NDArray) -> Floats:
    return scale.reshape(-1, *[1] * (values.ndim - 1))


def _on_sum(piece: SourceLight, weights: Floats) -> SourceLight:
    """A piece on the detection image."""
    return SourceLight(np.tensordot(weights, piece.light, axes=1)[None].astype(np.float32), piece.x, piece.y)


def _shapes(field: Field, rendered: RenderedAlone, rows: NDArray[np.int64]) -> Floats:
    """Moments of some sources behind the PSF of each band, (R, band, 3)."""
    size = field.truth["hlr_arcsec"].to_numpy() / _HLR_OVER_SIGMA / field.sky.pixel_scale
    widths = np.array(fwhm_pixels(field.sky)) / _FWHM_OVER_SIGMA
    found = [
        [rendered.moments(row, k, float(np.hypot(width, size[row]))) for k, width in enumerate(widths)] for row in rows
    ]
    return np.array(found, np.float64).reshape(len(rows), len(widths), 3)


def _pieces(arrays: Arrays) -> list[SourceLight]:
    boxes = arrays["boxes"]
    sizes = boxes[:, 2].astype(np.int64) * boxes[:, 3]
    light = arrays["pieces"].astype(np.float32) * np.repeat(arrays["piece_scale"].astype(np.float32), sizes)
    parts = np.split(light, np.cumsum(sizes)[:-1]) if len(boxes) else []
    return [
        SourceLight(part.reshape(1, ny, nx), x, y) for part, (x, y, ny, nx) in zip(parts, boxes.tolist(), strict=True)
    ]


def _sky_arrays(sky: Sky) -> dict[str, NDArray]:
    bands = sky.bands.values()
    reach = max(band.correlation.reach for band in bands)
    measured = [sky.measured_psf(name) for name in sky.names]
    return {
        "survey": np.array(sky.name),
        "bands": np.array(sky.names),
        "pixel_scale": np.array(sky.pixel_scale),
        "sigma": sky.column("sigma"),
        "zero_point": sky.column("zero_point"),
        "gain": sky.column("gain"),
        "residual": np.array([astuple(band.residual) for band in bands]),
        "correlation": np.stack([band.correlation.lags(reach) for band in bands]),
        "reach": np.array([band.correlation.reach for band in bands]),
        "central_psf": np.array([(*astuple(psf.shape), psf.peak, psf.flux_error) for psf in measured]),
    }


def _sky(arrays: Arrays) -> Sky:
    middle = arrays["correlation"].shape[-1] // 2
    bands = {}
    for k, (name, reach) in enumerate(zip(arrays["bands"].tolist(), arrays["reach"].tolist(), strict=True)):
        *shape, peak, flux_error = arrays["central_psf"][k].tolist()
        lags = slice(middle - reach, middle + reach + 1)
        bands[name] = SkyBand(
            psf=MeasuredPSF(PSFShape(*shape), peak, flux_error),
            sigma=float(arrays["sigma"][k]),
            zero_point=float(arrays["zero_point"][k]),
            gain=float(arrays["gain"][k]),
            correlation=NoiseCorrelation(arrays["correlation"][k, lags, lags]),
            residual=SkyResidual(*arrays["residual"][k].tolist()),
        )
    _, height, width = arrays["light"].shape
    return Sky(str(arrays["survey"]), float(arrays["pixel_scale"]), (height, width), bands)


def _psf_arrays(field: Field, side: int) -> dict[str, NDArray]:
    """Images and shapes of the PSFs of all patches and bands: (patch, band, y, x) and (patch, band, 6)."""
    psfs, bands = field.psfs, len(field.sky.names)
    patches = range(psfs.patches**2)
    return {
        "psf_images": np.stack([psfs.psf_images(*psfs.centre(number), side) for number in patches]),
        "psf_shapes": np.array([[astuple(psfs.psf_shape(n, band)) for band in range(bands)] for n in patches]),
    }


def _psfs(sky: Sky, arrays: Arrays) -> KnownPSFs:
    images, shapes = arrays["psf_images"], arrays["psf_shapes"]
    known = {
        (number, band): PSFShape(*shapes[number, band].tolist())
        for number in range(len(images))
        for band in range(len(sky.names))
    }
    return KnownPSFs(sky, round(len(images) ** 0.5), images, known)
