"""From stamps in electrons to deblended stamps, shapes and fluxes: what is applied wherever a trained model measures.

The tiles, `deblend_assets measure` and the exported model deblend with `StampNetwork`, which the held-out evaluation
judges, and take shapes from `ShapePosterior`, which an evaluation of its own judges. The frame is the pixel frame:
x with the column, y with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from deblend_assets.errors import MismatchError
from deblend_assets.science.amplitudes import amplitudes
from deblend_assets.science.batches import in_batches
from deblend_assets.science.des.shape_columns import (
    BAD_SHAPE,
    FLAGS,
    MISSING_BAND,
    NEGATIVE_FLUX,
    estimated_blendedness,
    flag_bits,
)
from deblend_assets.science.moments import image_moments
from deblend_assets.science.networks import DISTORTION, SHEAR, VAE, Regressor, ShapeEstimate
from deblend_assets.science.networks.residual_vae import ResidualDecoder
from deblend_assets.science.normalization import Normalization
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.shapes.neighbours import chance_columns, chances
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS
from deblend_assets.science.shapes.quantities import QUANTITIES
from deblend_assets.science.stages import named_estimates

# Stamps computed at a time: of more, the feature maps leave a core's cache; on a GPU 128 keep it as busy.
BATCH = 128
# A bit of the column `flags` beside those of `shape_columns`.
NOT_FINITE = 16
MEASURED_FLAGS = {
    **{bit: FLAGS[bit] for bit in (MISSING_BAND, BAD_SHAPE, NEGATIVE_FLUX)},
    NOT_FINITE: "a pixel of a band that is there is not a number, or no band is there: nothing is measured",
}


class StampNetwork(nn.Module):
    """Eq. 9, the encoder of stage 2, its decoder and the regressor, from electrons to electrons.

    Args:
        deblender, regressor: trained networks; they are set to evaluation mode and laid out channels last, which
            makes the convolutions 1.6 times as fast on a CPU. Without a regressor nothing but images is estimated.
        normalization: Eq. 9.
    """

    def __init__(self, deblender: VAE, regressor: Regressor | None, normalization: Normalization) -> None:
        super().__init__()
        self.deblender, self.regressor, self.normalization = deblender, regressor, normalization
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def deblended(self, electrons: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The target of each stamp; of a residual network with the brightness of each band fitted (`amplitudes`).

        Args:
            electrons: (N, band, y, x) float32 [electron]; any value where a band is absent.
            present: (N, band) bool.

        Returns:
            The target alone, (N, band, y, x) float32 [electron], and its latent mean (N, latent).
        """
        latent = self.deblender.encoder(self.normalization.forward(electrons), present).mean
        decoder = self.deblender.decoder
        if isinstance(decoder, ResidualDecoder):
            light, sky_sigma = decoder.light(latent), decoder.units.sky_sigma
            factors = amplitudes(light, electrons / sky_sigma, present, sky_sigma)
            return light * factors[..., None, None] * sky_sigma, latent
        deblended: Tensor = self.normalization.inverse(decoder(latent))
        return deblended, latent


@dataclass(frozen=True)
class Model:
    """A trained model and the frame it works in.

    Attributes:
        network: deblends, on the device it computes on.
        shapes: measures, on the same device.
        zero_points: AB magnitude of one electron, one a band.
        pixel_scale: [arcsec / pixel].
        label_band: band of the observed distortion.
        version: fingerprint of both, and so of everything before them.
    """

    network: StampNetwork
    shapes: ShapePosterior
    zero_points: Sequence[float]
    pixel_scale: float
    label_band: str
    version: str

    @property
    def bands(self) -> tuple[str, ...]:
        return self.network.normalization.bands

    @property
    def pixels(self) -> int:
        """Side of a stamp."""
        return int(self.network.deblender.decoder.pixels)  # type: ignore[arg-type]


def deblend(
    network: StampNetwork, electrons: np.ndarray, present: np.ndarray, batch: int = BATCH
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The target of each stamp alone, and its ellipticities in the pixel frame.

    Args:
        network: on any device.
        electrons: (N, band, y, x) float32; any value where a band is absent.
        present: (N, band) bool.
        batch: stamps computed at a time.

    Returns:
        (N, band, y, x) float32 [electron], and `{component}`, `{component}_err` (N,) float64 of the regressor, if any.
    """
    device = next(network.parameters()).device
    images = np.empty(electrons.shape, dtype=np.float32)

    @torch.inference_mode()
    def compute(rows: slice) -> list[ShapeEstimate]:
        stamps = torch.from_numpy(np.ascontiguousarray(electrons[rows])).to(device, memory_format=torch.channels_last)
        deblended, latent = network.deblended(stamps, torch.from_numpy(present[rows]).to(device))
        images[rows] = deblended.cpu().numpy()
        return [] if network.regressor is None else [network.regressor(latent)]

    estimates = [estimate for part in in_batches(compute, len(electrons), batch, device) for estimate in part]
    return images, {} if network.regressor is None else named_estimates(estimates, network.regressor.components)


def measured_columns(bands: Sequence[str], label_band: str) -> dict[str, tuple[str, str]]:
    """Unit and meaning of every column of `measure`, in order.

    Args:
        bands: of the model, in order.
        label_band: the band of the observed ellipticities.
    """
    frame = "pixel frame: x with the column, y with the row"
    columns: dict[str, tuple[str, str]] = {}
    for names, words in (
        (SHEAR, "intrinsic shear-type (a-b)/(a+b), PSF removed, not calibrated"),
        (DISTORTION, f"observed distortion (a^2-b^2)/(a^2+b^2), band {label_band}, with PSF"),
    ):
        for k, name in enumerate(names, start=1):
            columns[name] = ("", f"component {k}: {words}, {frame}; posterior mean, drawn to round")
            columns[f"{name}_err"] = ("", f"posterior standard deviation of {name}")
        for name in names:
            columns[f"{name}_free"] = (
                "",
                f"{name} without the population's pull to round; NaN where shape_flags say so",
            )
            columns[f"{name}_free_err"] = ("", f"standard error of {name}_free")
    columns["ln_size"] = ("", "ln of the circularised half-light radius before PSF [arcsec], posterior mean")
    columns["ln_size_err"] = ("", "posterior standard deviation of ln_size")
    columns["ln_flux"] = ("", f"ln of the total flux, band {label_band} [electron], posterior mean")
    columns["ln_flux_err"] = ("", "posterior standard deviation of ln_flux")
    for k, name in enumerate(DISTORTION, start=1):
        columns[f"{name}_moments"] = (
            "",
            f"component {k}: distortion of the deblended stamp, band {label_band}, unweighted moments, {frame}",
        )
    for band in bands:
        columns[f"flux_{band}"] = ("electron", f"sum of the deblended stamp, band {band}; NaN where it is absent")
    bits = "; ".join(f"{bit} {words}" for bit, words in MEASURED_FLAGS.items())
    return columns | {
        "blendedness": (
            "",
            f"1 - sum(own^2)/sum(own*observed), band {label_band}, own: the deblended stamp; 0 alone, may be < 0",
        ),
        **{name: ("", meaning) for name, meaning in chance_columns(label_band).items()},
        "bands_present": ("", "bands with an image, in order"),
        "flags": ("", f"bits, 0 is good: {bits}"),
        "shape_flags": ("", "bits, 0 is good: " + "; ".join(f"{bit} {words}" for bit, words in SHAPE_FLAGS.items())),
    }


def measure(model: Model, electrons: np.ndarray, batch: int = BATCH) -> tuple[pd.DataFrame, np.ndarray]:
    """One row a stamp, and the deblended stamps.

    A band whose every pixel is NaN is absent. A stamp with any other pixel that is not a number, or without a band,
    is flagged and measured as NaN.

    Args:
        model: in whose frame the stamps are.
        electrons: (N, band, y, x) float32 [electron].
        batch: stamps computed at a time.

    Returns:
        The columns of `measured_columns`; (N, band, y, x) float32 [electron], NaN where nothing is measured.
    """
    present = ~np.isnan(electrons).all(axis=(-2, -1))
    broken = (~np.isfinite(electrons).all(axis=(-2, -1)) & present).any(axis=1) | ~present.any(axis=1)
    label = model.bands.index(model.label_band)
    seen = present & ~broken[:, None]
    images, _ = deblend(model.network, electrons, seen, batch)
    found = named_shapes(model.shapes, electrons, seen, batch)
    images[broken] = np.nan
    moments = image_moments(images[:, label])
    columns: dict[str, np.ndarray] = {}
    for name, numbers in found.items():
        columns[name] = np.where(broken, 0, numbers) if name == "shape_flags" else np.where(broken, np.nan, numbers)
    columns["e1_moments"], columns["e2_moments"] = moments.e1, moments.e2
    for k, band in enumerate(model.bands):
        # What a network makes up for a band that nobody saw is no measurement.
        flux = images[:, k].sum(axis=(-2, -1), dtype=np.float64)
        columns[f"flux_{band}"] = np.where(present[:, k], flux, np.nan)
    columns["blendedness"] = estimated_blendedness(images[:, label], electrons[:, label])
    columns["bands_present"] = band_names(model.bands, present)
    flags = flag_bits(
        present, np.zeros(len(present), bool), columns["g1"], columns["g2"], columns[f"flux_{model.label_band}"]
    )
    columns["flags"] = flags | np.where(broken, NOT_FINITE, 0).astype(flags.dtype)
    return pd.DataFrame(columns)[list(measured_columns(model.bands, model.label_band))], images


def named_shapes(
    shapes: ShapePosterior, electrons: np.ndarray, present: np.ndarray, batch: int = BATCH
) -> dict[str, np.ndarray]:
    """The columns of `measured_columns` that a shape posterior gives, (N,) each; arguments as of `whitened`."""
    seen = shapes.whitened(electrons, present, batch)
    found = shapes.summaries(seen)
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(QUANTITIES):
        columns[name] = found.mean[:, k]
        columns[f"{name}_err"] = np.sqrt(found.covariance[:, k, k])
        if name in (*SHEAR, *DISTORTION):
            free = found.is_free(k)
            columns[f"{name}_free"] = np.where(free, found.likelihood[:, k], np.nan)
            columns[f"{name}_free_err"] = np.where(free, np.sqrt(found.likelihood_covariance[:, k, k]), np.nan)
    return columns | {"shape_flags": found.flags} | chances(seen.neighbours)


def band_names(bands: Sequence[str], present: np.ndarray) -> np.ndarray:
    """The column `bands_present`, (N,) text, of a mask (N, band)."""
    kinds, which = np.unique(present, axis=0, return_inverse=True)
    words = ["".join(b for b, there in zip(bands, row, strict=True) if there) for row in kinds]
    return np.array(words, dtype=object)[which.ravel()]


def require_frame(model: Model, attributes: dict[str, object], where: str) -> None:
    """Refuse stamps whose attributes are not those of the model's frame.

    Args:
        model: whose bands, pixel scale and, where the stamps name them, zero points are asked.
        attributes: `bands`, `unit` and `pixel_scale_arcsec`; `zero_point_ab_mag_of_one_electron` if known.
        where: the stamps, for the message.

    Raises:
        MismatchError: one is missing or another; the line names it with both values.
    """
    wanted: dict[str, object] = {
        "bands": list(model.bands),
        "unit": "electron",
        "pixel_scale_arcsec": model.pixel_scale,
    }
    if "zero_point_ab_mag_of_one_electron" in attributes:
        wanted["zero_point_ab_mag_of_one_electron"] = list(model.zero_points)
    for name, value in wanted.items():
        given = attributes.get(name)
        if not _same(given, value):
            raise MismatchError(
                f"attribute {name} is {given!r}, the model's {value!r}",
                where=where,
                remedy="bring the stamps to the model's frame (docs/measuring.md), or measure them with another model",
            )


def _same(given: object, wanted: object) -> bool:
    if given is None or isinstance(wanted, str) or isinstance(given, str):
        return given == wanted
    try:
        # A header keeps fewer digits than a survey's description.
        return bool(np.allclose(np.asarray(given, float), np.asarray(wanted, float), rtol=1e-4, atol=0))
    except (TypeError, ValueError):
        return bool(given == wanted)
