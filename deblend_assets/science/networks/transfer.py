"""Weights of one survey's networks as the beginning of another's: the bands are matched by their names.

Galaxies look much alike in all surveys, once they are in units of the sky's noise; what a band is, only the first and
the last layers know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deblend_assets.errors import MismatchError
from deblend_assets.science.statistics.metrics import Floats

# Layers by the ends of their names: what they take bands in, and what they give them out.
_STAMPS, _MASK = "first.weight", "dense.0.weight"
_LIGHT = ("decoder.last.weight", "decoder.last.bias")
# Not learnt: they are of the survey and its normalisation.
_UNITS = (".units.sky_sigma", ".units.scale")


def for_bands(
    weights: Mapping[str, Tensor], theirs: Sequence[str], ours: Sequence[str], where: str
) -> dict[str, Tensor]:
    """A state dict without what is of its survey alone, its bands chosen and put in order.

    Args:
        weights: of a `VAE` of residual networks, or of whatever has a `StampTrunk` as `trunk`.
        theirs: the bands of these weights, in order.
        ours: those wanted; names are compared without case.
        where: the weights, for the message.

    Raises:
        MismatchError: a wanted band is not among them.
    """
    known = [band.lower() for band in theirs]
    missing = [band for band in ours if band.lower() not in known]
    if missing:
        raise MismatchError(
            f"the weights know no band {', '.join(missing)} (they know {''.join(theirs)})",
            where=where,
            remedy='set start = "fresh", or name weights of a survey with these bands',
        )
    chosen = torch.tensor([known.index(band.lower()) for band in ours])
    made = {}
    for name, tensor in weights.items():
        if name.endswith(_UNITS):
            continue
        if name.endswith(f"trunk.{_STAMPS}"):
            tensor = tensor[:, chosen]
        elif name.endswith(f"trunk.{_MASK}"):
            features = tensor.shape[1] - len(theirs)
            tensor = torch.cat([tensor[:, :features], tensor[:, features + chosen]], dim=1)
        elif name in _LIGHT:
            tensor = tensor[chosen]
        made[name] = tensor
    return made


def in_units(
    weights: Mapping[str, Tensor], theirs: tuple[Floats, Floats], ours: tuple[Floats, Floats]
) -> dict[str, Tensor]:
    """Weights of a `ShapeNetwork` for quantities whitened by another population: the same posterior in new units.

    Args:
        weights: its state dict.
        theirs, ours: mean and scatter of the quantities, each (K,), before and after.
    """
    (mean, scale), (new_mean, new_scale) = ((torch.from_numpy(v).float() for v in pair) for pair in (theirs, ours))
    ratio = scale / new_scale
    rows, columns = torch.tril_indices(len(ratio), len(ratio))
    # A row of the Cholesky factor scales with its quantity; the diagonal is kept as a logarithm.
    diagonal = rows == columns
    factor = torch.where(diagonal, torch.ones(len(rows)), ratio[rows])
    made = dict(weights)
    made["mean.weight"] = weights["mean.weight"] * ratio[:, None]
    made["mean.bias"] = weights["mean.bias"] * ratio + (mean - new_mean) / new_scale
    made["spread.weight"] = weights["spread.weight"] * factor[:, None]
    made["spread.bias"] = weights["spread.bias"] * factor + torch.where(
        diagonal, ratio.log()[rows], torch.zeros(len(rows))
    )
    return made


def load_matching(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict that may lack the units of the survey.

    Raises:
        MismatchError: it is of another network.
    """
    own = network.state_dict()
    other = [
        name
        for name in own.keys() | weights.keys()
        if (name not in weights and not name.endswith(_UNITS))
        or name not in own
        or (name in weights and own[name].shape != weights[name].shape)
    ]
    if other:
        raise MismatchError(
            f"they are of another network: {', '.join(sorted(other)[:3])} and {max(0, len(other) - 3)} more differ",
            where=where,
            remedy="set widths, dense, latent and stamp_pixels to theirs (docs/training.md)",
        )
    network.load_state_dict(weights, strict=False)
