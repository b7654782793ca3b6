"""Starting a survey's networks from the weights of another survey's; bands are matched by name.

In units of the sky's noise galaxies look much alike in all surveys. Only the first and the last layers depend on the
bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deblend_assets.errors import MismatchError
from deblend_assets.science.statistics.metrics import Floats

# Names of the layers that take bands as input, by their ends, and of those that output bands.
_STAMPS, _MASK = "first.weight", "dense.0.weight"
_LIGHT = ("decoder.last.weight", "decoder.last.bias")
# Not trained: they belong to the survey and its normalisation.
_UNITS = (".units.sky_sigma", ".units.scale")


def for_bands(
    weights: Mapping[str, Tensor], theirs: Sequence[str], ours: Sequence[str], where: str
) -> dict[str, Tensor]:
    """A state dict without its survey's units, with the wanted bands in the wanted order.

    Args:
        weights: of a `VAE` of residual networks, or of a network with a `StampTrunk` as `trunk`.
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
            f"the weights have no band {', '.join(missing)} (they have {''.join(theirs)})",
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
    """Weights of a `ShapeNetwork` for quantities standardized by another population: the same posterior in new units.

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
    """Load a state dict, which may lack the survey's units.

    Raises:
        MismatchError: it belongs to another network.
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
