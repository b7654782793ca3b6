"""The model for every sky as a `torch.export` program: one file that needs only torch, given what the network is given.

PSFs enter by the numbers of `skies.psf_images.measure_psf_images`: what the network knows of them.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from deblend_assets.science.sky_shapes.calibration import row_terms
from deblend_assets.science.sky_shapes.inputs import (
    BRIGHTEST,
    FWHM_ORIGIN,
    SIDE,
    GivenStamps,
    reference_mask,
    reference_values,
)
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.network import BLEND, STAR, oriented
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, point_source_error
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

# Error of a faint point source's flux for a pixel's noise of 1 and a FWHM of one pixel.
_FLUX = float(point_source_error(1.0, 1.0))
# Stamps and other detections of the example input: two, since torch.export specialises a dimension of one.
_EXAMPLE = 2
PSF_NUMBERS = ("fwhm", "g1", "g2", "wings", "kurtosis")
"""Of a PSF, as `PSFNumbers` has them, in the order of the program's input."""
LAGS = ("x 1", "y 1", "x 1, y 1", "x 1, y -1", "x 2", "y 2")
"""Of the noise's correlation, in the order of the program's input [pixel]."""
INPUTS: Mapping[str, str] = MappingProxyType(
    {
        "pixels": f"(N, band, {SIDE}, {SIDE}) float32 [image unit], sky subtracted; the target's pixel in the middle",
        "inverse_variance": "(N, band, y, x) float32, of the sky's noise; 0: lost or masked; of a whole band: absent",
        "psf": f"(N, band, {len(PSF_NUMBERS)}) float32: FWHM before the pixel [pixel], g1, g2, wings, kurtosis",
        "noise": f"(N, band, {len(LAGS)}) float32: correlation of the noise at the lags of `lags`; white: 0",
        "position": f"(N, 2) float32: x, y of the target on its stamp, within half a pixel of {SIDE // 2} [pixel]",
        "others": "(N, K, 2) float32: x, y of the other detections on the stamp, K >= 2, NaN where there are fewer",
        "pixel_scale": "(N,) float32 [arcsec / pixel]",
    }
)
OUTPUTS: Mapping[str, str] = MappingProxyType(
    {
        "mean": "(N, 9) float64, posterior means of `components`: g1, g2 before the PSF, shear-type (a-b)/(a+b); e1, "
        "e2 behind it, distortion (a^2-b^2)/(a^2+b^2), reference band; ln half-light radius [arcsec]; ln flux in the "
        "reference band [image unit]; concentration 5 log10(r80 / r20); true less given x, y [pixel]; pixel frame, x "
        "with the column, y with the row; not calibrated for shear",
        "covariance": "(N, 9, 9) float64, calibrated: a standard error holds 68 % of the truths",
        "star": "(N,) float64, probability that the target is a star",
        "blend": "(N,) float64, probability that it is an unrecognised blend",
    }
)
USE = (
    "program = torch.export.load(path).module(); mean, covariance, star, blend = "
    "program(pixels, inverse_variance, psf, noise, position, others, pixel_scale)"
)


class _Program(nn.Module):
    """The exported module: from stamps to calibrated posteriors in own units."""

    _widths: Tensor
    _centre: Tensor
    _unit: Tensor

    def __init__(self, model: SkyModel) -> None:
        super().__init__()
        self.network, self.calibration = model.network, model.calibration
        self.bands, self.orientations = model.bands, model.orientations
        self.register_buffer("_widths", model.calibration.core_widths())
        self.register_buffer("_centre", torch.tensor(model.population.mean, dtype=torch.float64))
        self.register_buffer("_unit", torch.from_numpy(model.population.scale).double())

    def forward(
        self,
        pixels: Tensor,
        inverse_variance: Tensor,
        psf: Tensor,
        noise: Tensor,
        position: Tensor,
        others: Tensor,
        pixel_scale: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sigma = _sky_sigma(inverse_variance)
        seen = inverse_variance > 0
        present = seen.any(dim=(2, 3))
        reference = reference_mask(self.bands, present)
        fwhm = reference_values(psf[:, :, :1].double(), reference)[:, 0]
        scalars, spins = _by_band(psf, noise, present)
        given = GivenStamps(
            images=torch.where(seen, pixels / sigma[:, :, None, None], 0.0).clamp(-BRIGHTEST, BRIGHTEST).half(),
            seen=seen,
            neighbours=_neighbours(others, fwhm).half(),
            present=present,
            scalars=scalars,
            spins=spins,
            vectors=(position - SIDE // 2)[:, None],
            pixel_scale=pixel_scale,
        )
        found = oriented(self.network, given, self.orientations)
        found = self.calibration(found, row_terms(self.bands, given, found), self._widths)
        # In the units of stamp and sky: see `quantities.Units`.
        flux = reference_values(sigma[:, :, None].double(), reference)[:, 0] * fwhm * _FLUX
        nothing, one = torch.zeros_like(fwhm), torch.ones_like(fwhm)
        shift = {"ln_size": (fwhm * pixel_scale.double()).log(), "ln_flux": flux.log()}
        scale = torch.stack([fwhm if name in ("dx", "dy") else one for name in QUANTITIES], dim=1)
        unit = self._unit * scale
        mean = self._centre * scale + found.mean * unit
        mean = mean + torch.stack([shift.get(name, nothing) for name in QUANTITIES], dim=1)
        covariance = found.covariance * unit[:, :, None] * unit[:, None, :]
        star, blend = (found.log_odds[name][:, 0].sigmoid() for name in (STAR, BLEND))
        return mean, covariance, star, blend


def _sky_sigma(weight: Tensor) -> Tensor:
    """Noise of a pixel by the median weight of those that have one, (N, band); infinite where none has."""
    ascending = weight.flatten(2).sort(dim=2).values
    number, size = (ascending > 0).sum(dim=2, keepdim=True), ascending.shape[2]
    # The mean of both middle ones, of an even number.
    middle = [(size - number + (number - low) // 2).clamp(max=size - 1) for low in (1, 0)]
    return 1 / torch.cat([ascending.gather(2, at) for at in middle], dim=2).double().mean(dim=2).sqrt().float()


def _by_band(psf: Tensor, noise: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """`scalars` and `spins` of `GivenStamps`."""
    along_x, along_y, rising, falling, second_x, second_y = noise.unbind(2)
    lags = [(along_x + along_y) / 2, (rising + falling) / 2, (second_x + second_y) / 2]
    scalars = torch.stack([(psf[:, :, 0] / FWHM_ORIGIN).log(), psf[:, :, 3], psf[:, :, 4], *lags], dim=2)
    directions = torch.stack([along_x - along_y, rising - falling], dim=2) / 2
    spins = torch.stack([psf[:, :, 1:3], directions], dim=2)
    there = present[:, :, None]
    return torch.where(there, scalars, 0.0), torch.where(there[..., None], spins, 0.0)


def _neighbours(others: Tensor, fwhm: Tensor) -> Tensor:
    """`neighbours` of `GivenStamps`, (N, 1, SIDE, SIDE) float64."""
    apart = torch.arange(SIDE) - others.double()[..., None]
    light = torch.exp(-0.5 * (apart * (FWHM_OVER_SIGMA / fwhm)[:, None, None, None]).square()).nan_to_num(0.0)
    return (light[:, :, 1].mT @ light[:, :, 0])[:, None]


def export(model: SkyModel) -> bytes:
    """Serialise the program for the CPU, any number of stamps and of other detections (`INPUTS`, `OUTPUTS`)."""
    # The file's format supports contiguous layouts only.
    network = _Program(copy.deepcopy(model)).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    bands = len(model.bands)
    example = (
        torch.zeros(_EXAMPLE, bands, SIDE, SIDE),
        torch.ones(_EXAMPLE, bands, SIDE, SIDE),
        torch.tensor([3.5, 0.0, 0.0, 0.1, 0.1]).expand(_EXAMPLE, bands, -1).contiguous(),
        torch.zeros(_EXAMPLE, bands, len(LAGS)),
        torch.full((_EXAMPLE, 2), SIDE / 2 - 0.5),
        torch.full((_EXAMPLE, _EXAMPLE, 2), torch.nan),
        torch.full((_EXAMPLE,), 0.2),
    )
    # Run once before tracing: else `symmetries` would cache tracing tensors.
    network(*example)
    stamps, others = torch.export.Dim("stamps", min=1), torch.export.Dim("others", min=2)
    shapes = tuple({0: stamps, 1: others} if given is example[5] else {0: stamps} for given in example)
    program = torch.export.export(network, example, dynamic_shapes=shapes)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()
