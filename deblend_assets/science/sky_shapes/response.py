"""Response of the network for every sky to a shear of the sky and to its PSF, of each stamp, from its own image.

Derivatives are exact ones of the network (forward mode) along the first-order changes of what it is given
(`changes.StampChanges`). Those of the images treat noise as light, which it is not: neither shear nor PSF changes it.
With noise z of the stamp's own variance and correlation, an estimate f of the stamp I and the operator A of a change,

    R = grad f(I) . A I - [grad f(I + sqrt(a) z) - grad f(I - sqrt(a) z)] . A z / (2 sqrt(a)):

the mean of the second term is the noise's part of the first (Gaussian integration by parts). The first is of the stamp
as it is; the second alone is of slightly more noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.shapes.orientations import canonical
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.calibration import Surroundings, row_terms, surroundings
from deblend_assets.science.sky_shapes.centring import centred
from deblend_assets.science.sky_shapes.changes import LIGHT, Changes, StampChanges
from deblend_assets.science.sky_shapes.inputs import Floats, GivenStamps, given
from deblend_assets.science.sky_shapes.model import SkyModel, rounding
from deblend_assets.science.sky_shapes.network import CHANCES, log_odds_of, oriented
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES, units_of
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.symmetries import ORDER

SHARE = 0.05
"""Default share of the stamps: with it the responses take no longer than the measurement."""
# Variance of the added noise over the stamp's own, a. The second term is that of so much more noise: with a = 0.25 it
# is up to a quarter too small. The smaller a is, the more the kinks of the network scatter R.
_ADDED = 0.05
# Step along a direction by which the prior is divided out of a changed posterior, in float64.
_STEP = 1e-4
_AT_ONCE = 32
_G = slice(QUANTITIES.index("g1"), QUANTITIES.index("g2") + 1)


class Response(NamedTuple):
    """Derivatives of g_i (row) along components j (column), (N, 2, 2) float64; NaN of stamps that were not chosen.

    For means over many stamps alone: of a single one they are mostly noise.

    Attributes:
        shear: by the shear of the sky: that of a sum of shapes divides it.
        psf: by g of the PSF of all bands, the images' and the given one: leakage.
        psf_model: by g of the given PSF of all bands alone: what an error of the PSF's model does.
    """

    shear: Floats
    psf: Floats
    psf_model: Floats

    def columns(self) -> dict[str, Floats]:
        """`R11`, `R12`, `R21`, `R22`, the same with `_psf` and `_psf_model`; (N,) each."""
        parts = {"": self.shear, "_psf": self.psf, "_psf_model": self.psf_model}
        return {
            f"R{i + 1}{j + 1}{name}": values[:, i, j] for name, values in parts.items() for i in (0, 1) for j in (0, 1)
        }


class SkyResponse(NamedTuple):
    """Of both answers of `SkyModel.measure`.

    Attributes:
        posterior: of the posterior mean of g.
        likelihood: of g of the likelihood alone. Where the pixels hold too little information it has a number too.
    """

    posterior: Response
    likelihood: Response


def chosen_rows(number: int, share: float, seed: int) -> NDArray[np.bool_]:
    """A random choice of a share of N rows, (N,)."""
    return np.asarray(np.random.default_rng(seed).random(number) < share)


def measure_response(
    model: SkyModel,
    stamps: ObservedStamps,
    share: float = SHARE,
    seed: int = 0,
    orientations: int | None = None,
    exact: bool = False,
) -> SkyResponse:
    """Responses of a share of N stamps.

    Args:
        model: calibrated.
        stamps: as `SkyModel.measure` takes them. Positions are brought to the light as there, once: the shift does
            not follow the changes.
        share: 0 to 1.
        seed: of the choice and of the added noise.
        orientations: as `SkyModel.posterior`. That in which a stamp is canonical is held.
        exact: everything in float32. Else as `SkyModel.posterior`, in half of the time: of 442 stamps R11 moves by
            0.0015 ± 0.0034 in the mean and by an RMS of 0.07, a tenth of its scatter.

    Raises:
        MismatchError: a band that the model does not have.
    """
    stamps = stamps.in_bands(model.bands)
    rows = np.flatnonzero(chosen_rows(len(stamps), share, seed) & stamps.present.any(axis=1))
    found = np.full((2, 3, len(stamps), 2, 2), np.nan)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        chosen = stamps.rows(part)
        chosen, _ = centred(chosen, units_of(chosen).fwhm)
        found[:, :, part] = _responses(model, chosen, orientations or model.orientations, generator, exact)
    return SkyResponse(*(Response(*of) for of in found))


def _responses(
    model: SkyModel, stamps: ObservedStamps, orientations: int, generator: torch.Generator, exact: bool
) -> Floats:
    """(2: posterior and likelihood, 3: shear, PSF, model of the PSF, N, 2, 2)."""
    part = given(stamps)
    operators, around = StampChanges(stamps, part), surroundings(model.bands, part)
    both = Changes.joined([operators.of_light(), operators.of_psf()])
    measured = _differentiated(model, part, both, orientations, exact)
    prior = model.prior(part, measured[0].mean)

    def slopes(posterior: GaussianPosterior, changed: list[_Change]) -> Floats:
        """Derivatives of both g, (2, direction, N, 2)."""
        scale = model.population.scale[_G]
        likelihood = [
            np.subtract(*(_likelihood(model, part, around, prior, posterior, change, s) for s in (_STEP, -_STEP)))
            for change in changed
        ]
        mean = np.stack([change.mean[:, _G].numpy() for change in changed])
        return np.stack([mean, np.stack(likelihood) / (2 * _STEP)]) * scale

    found = slopes(*measured)
    noise = operators.noise(generator)
    of_noise, added = operators.of_light(noise), np.sqrt(_ADDED)
    ahead, behind = (
        slopes(*_differentiated(model, operators.with_noise(sign * added * noise), of_noise, orientations, exact))
        for sign in (1.0, -1.0)
    )
    found[:, :LIGHT] -= (ahead - behind) / (2 * added)
    shear, image, psf_model = (found[:, k : k + 2] for k in (0, 2, 4))
    together = np.stack([shear, image + psf_model, psf_model], axis=1)
    return np.moveaxis(together, 2, -1)


class _Change(NamedTuple):
    """Derivative of a posterior's mean (N, 9) and covariance (N, 9, 9), float64."""

    mean: Tensor
    covariance: Tensor


@torch.no_grad()
def _differentiated(
    model: SkyModel, at: GivenStamps, changes: Changes, orientations: int, exact: bool
) -> tuple[GaussianPosterior, list[_Change]]:
    """The network's posterior, and its derivative along each direction; float64 on the host, not calibrated."""
    device = next(model.network.parameters()).device
    there = GivenStamps(*(values.to(device) for values in at))
    begun = tuple(values.to(device) for values in (at.images.float(), at.neighbours.float(), at.spins))
    held = canonical(begun[0], there.present) if orientations < ORDER else None

    def answer(images: Tensor, neighbours: Tensor, spins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stamps = there._replace(images=images, neighbours=neighbours, spins=spins)
        with rounding(device, exact):
            found = oriented(model.network, stamps, orientations, held)
        return found.mean, found.covariance, torch.cat([found.log_odds[name] for name in CHANCES], dim=1)

    def along(*directions: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        found = torch.func.jvp(answer, begun, directions)
        return found[0], found[1]

    # The stamps' own answer is computed once, and is the same for all directions.
    values, slopes = torch.func.vmap(along)(*(values.to(device) for values in changes))
    mean, covariance, chances = (part[0].cpu().double() for part in values)
    changed = [part.cpu().double() for part in slopes]
    posterior = GaussianPosterior(mean, covariance=covariance, log_odds=log_odds_of(chances), blocks=BLOCKS)
    return posterior, [_Change(*parts) for parts in zip(*changed[:2], strict=True)]


def _likelihood(
    model: SkyModel,
    part: GivenStamps,
    around: Surroundings,
    prior: GaussianPosterior,
    posterior: GaussianPosterior,
    change: _Change,
    step: float,
) -> Floats:
    """Standardized g of the likelihood alone after a step along a change of the posterior, (N, 2).

    The errors' calibration follows the estimated flux and size; what it takes of the surroundings is held.
    """
    moved = GaussianPosterior(
        posterior.mean + step * change.mean,
        covariance=posterior.covariance + step * change.covariance,
        log_odds=posterior.log_odds,
        blocks=BLOCKS,
    )
    terms = row_terms(model.bands, part, moved, around)
    return np.asarray(model.calibration(moved, terms).likelihood_only(prior).mean[:, _G].numpy())
