"""From what is given of a stamp to a Gaussian posterior of its target's quantities, and log-odds of what it is.

The trunk is that of the shape network. PSF, noise, pixel scale, the detection's place and the present bands enter by an
embedding that scales and shifts the channels of its every layer. It begins at zero: a network that starts from shipped
weights first answers as these do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.science.networks.transfer import for_bands, in_units
from deblend_assets.science.networks.trunk import ModulatedTrunk
from deblend_assets.science.shapes.network import cholesky_of
from deblend_assets.science.shapes.orientations import canonical
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import SIDE, GivenStamps, count_of_numbers, numbers_of, turned
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES, point_source_error
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.stamps.symmetries import ORDER, inverse

STAR, BLEND = "star", "blend"
CHANCES: Mapping[str, str] = MappingProxyType({STAR: "star", BLEND: "unrecognized"})
"""Log-odds, (N, 1) each, and the columns of the truth that they are of: the target is a star; the detection is an
unrecognised blend, another source of a tenth of its light having no detection."""
# Units of the embedding's two layers.
_EMBEDDED = 128


class Embedding(nn.Module):
    """Numbers of a stamp to relative scales and shifts of a trunk's channels, all 0 at first.

    Args:
        numbers: how many there are.
        channels: of the trunk's modulated layers, in all.
    """

    def __init__(self, numbers: int, channels: int) -> None:
        super().__init__()
        last = nn.Linear(_EMBEDDED, 2 * channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(numbers, _EMBEDDED), nn.ReLU(), nn.Linear(_EMBEDDED, _EMBEDDED), nn.ReLU(), last
        )

    def forward(self, numbers: Tensor) -> Tensor:
        """(N, numbers) to (N, 2, channels), float32."""
        # A PSF's size must be known better than the three digits of bfloat16.
        with torch.autocast(numbers.device.type, enabled=False):
            return self.layers(numbers).unflatten(1, (2, -1))


class SkyShapeNetwork(nn.Module):
    """Given stamps to standardized posteriors of their targets.

    Args:
        widths, dense: of the trunk.
        bands: of the stamps.
        side: of the stamps [pixel].
    """

    _rows: Tensor
    _columns: Tensor

    def __init__(
        self, widths: Sequence[int], dense: int, bands: Sequence[str] = CATSIM_BANDS, side: int = SIDE
    ) -> None:
        super().__init__()
        self.bands, self.widths, self.units = tuple(bands), tuple(widths), dense
        quantities = len(QUANTITIES)
        self.trunk = ModulatedTrunk(len(bands), len(bands) + 1, side, widths, dense)
        self.embedding = Embedding(count_of_numbers(len(bands)), sum(self.trunk.channels))
        self.mean = nn.Linear(dense, quantities)
        self.spread = nn.Linear(dense, quantities * (quantities + 1) // 2)
        self.chances = nn.Linear(dense, len(CHANCES))
        for layer in (self.spread, self.chances):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        rows, columns = torch.tril_indices(quantities, quantities)
        self.register_buffer("_rows", rows, persistent=False)
        self.register_buffer("_columns", columns, persistent=False)

    def forward(self, given: GivenStamps) -> GaussianPosterior:
        """The posterior of `quantities.BLOCKS` with the log-odds of `CHANCES`, float32; any value of an absent band."""
        further = torch.cat([given.lost.float(), given.neighbours.float()], dim=1)
        modulation = self.embedding(numbers_of(given))
        features = self.trunk(given.images.float(), further, given.present, modulation).float()
        # The three digits of bfloat16 are not enough for a bright galaxy's shape.
        with torch.autocast(features.device.type, enabled=False):
            mean, spread, chances = self.mean(features), self.spread(features), self.chances(features)
        cholesky = cholesky_of(spread, self._rows, self._columns)
        return GaussianPosterior(mean, cholesky=cholesky, log_odds=log_odds_of(chances), blocks=BLOCKS)


def log_odds_of(chances: Tensor) -> dict[str, Tensor]:
    """By the names of `CHANCES`, (N, 1) each, of their columns side by side."""
    return dict(zip(CHANCES, chances.split(1, dim=1), strict=True))


def oriented(
    network: SkyShapeNetwork, given: GivenStamps, orientations: int, begun: Tensor | None = None
) -> GaussianPosterior:
    """Standardized posteriors, float64, averaged over orientations of each stamp and turned back; so are the log-odds.

    All that is given turns with the pixels. No direction is preferred, whatever the number: eight orientations are the
    whole group; fewer are counted from the canonical one of the images (`shapes.orientations.canonical`).

    Args:
        network: in evaluation mode.
        given: on the network's device.
        orientations: 1 to 8.
        begun: the canonical orientation, (N,), where it is held; None: that of the images.
    """
    if begun is None and orientations < ORDER:
        begun = canonical(given.images.float(), given.present)
    upright = given if begun is None else turned(given, begun)
    parts = []
    for number in range(orientations):
        elements = torch.full((given.images.shape[0],), number, device=given.images.device)
        posterior = _precise(network(turned(upright, elements) if number else upright)).turned(inverse(elements))
        parts.append(posterior if begun is None else posterior.turned(inverse(begun)))
    return GaussianPosterior.averaged(parts)


def _precise(posterior: GaussianPosterior) -> GaussianPosterior:
    """The same in float64: multiplied out in float32, a covariance may have a negative variance along a direction."""
    log_odds = {name: odds.double() for name, odds in posterior.log_odds.items()}
    mean, cholesky = posterior.mean.double(), posterior.cholesky.double()
    return GaussianPosterior(mean, cholesky=cholesky, log_odds=log_odds, blocks=posterior.blocks)


def started_from(
    weights: Mapping[str, Tensor], card: Mapping[str, Any], population: PriorMoments, fwhm: float
) -> SkyShapeNetwork:
    """A network that begins with the weights of a trained `ShapeNetwork`.

    On stamps of that network's own sky, PSF and depth, where nothing is lost and no other detection is given, its
    posterior of g, e, ln size and ln flux is that network's, in the new units and standardization. (The e that it
    estimates is still the old one, of unweighted moments.) Of concentration and position it knows the population, and
    of stars and blends nothing. PSF, noise, mask and other detections have no effect yet.

    Args:
        weights: of the `ShapeNetwork`; its bands include u, g, r, i, z and y.
        card: of its checkpoint: frame, population, network.
        population: by which the new quantities are standardized.
        fwhm: of the PSF that it was trained with, label band, before the pixel [arcsec]; 0.818 for LSST's r.

    Raises:
        MismatchError: a band is missing.
    """
    frame, before = StampFrame.from_card(card["frame"]), PriorMoments(**card["population"])
    network = SkyShapeNetwork(card["network"]["widths"], card["network"]["dense"])
    old = len(before.mean)
    shift = np.zeros(old)
    shift[QUANTITIES.index("ln_size")] = np.log(fwhm)
    shift[QUANTITIES.index("ln_flux")] = np.log(
        point_source_error(frame.sky_sigma[frame.label], fwhm / frame.pixel_scale)
    )
    theirs = for_bands(weights, frame.bands, network.bands, "shipped weights")
    theirs = in_units(
        theirs,
        (np.asarray(before.mean) - shift, before.scale),
        (np.asarray(population.mean)[:old], population.scale[:old]),
    )
    own = network.state_dict()
    for name, tensor in theirs.items():
        # What is new comes last: maps of the first layer, rows of mean and spread. It begins at zero.
        begun = torch.zeros_like(own[name])
        begun[tuple(slice(0, size) for size in tensor.shape)] = tensor
        own[name] = begun
    network.load_state_dict(own)
    return network


def continued(weights: Mapping[str, Tensor], card: Mapping[str, Any], population: PriorMoments) -> SkyShapeNetwork:
    """A network with the weights of another one of its kind, standardized by another population: the same posterior.

    Args:
        weights: of the other `SkyShapeNetwork`, of all its bands.
        card: of its checkpoint: bands, population, network.
        population: by which the quantities are standardized now.
    """
    network = SkyShapeNetwork(card["network"]["widths"], card["network"]["dense"], card["bands"])
    before = PriorMoments(**card["population"])
    units = ((np.asarray(before.mean), before.scale), (np.asarray(population.mean), population.scale))
    network.load_state_dict(in_units(weights, *units))
    return network
