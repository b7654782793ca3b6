"""The light of a deblended galaxy, band by band, from the pixels it was deblended from.

A network draws a galaxy's shape and colours well and its brightness in single bands less so: a tenth off, where the
photons tell a hundredth. The drawn galaxy is therefore used as the profile of a fit of one amplitude a band, with what
the network is known to be off by as the prior: bright galaxies follow their pixels, faint ones the network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deblend_assets.science.training.photons import photon_variance

# What a network's flux of a band is off by, as a share: on validation blends 0.08 to 0.18, see docs/shapes.md.
_SCATTER = 0.15
_LIMITS = (0.3, 3.0)


def amplitudes(drawn: Tensor, seen: Tensor, present: Tensor, sky_sigma: Tensor) -> Tensor:
    """Factors on the drawn galaxy, (N, band): the peak of Gaussian likelihood times a prior of 1 ± 0.15.

    A neighbour's light under the profile is taken for the galaxy's: the factor is too high by about the blendedness.

    Args:
        drawn: the galaxy without noise, (N, band, y, x) in units of the sky's noise.
        seen: the stamp, in the same units; any value where a band is absent.
        present: (N, band) bool; the factor of an absent band is 1.
        sky_sigma: (band, 1, 1), root of the sky's electrons a pixel.
    """
    weight = drawn / photon_variance(drawn, sky_sigma)
    known = torch.where(present[..., None, None], seen, drawn)
    along, norm = ((weight * light).sum(dim=(2, 3)) for light in (known, drawn))
    prior = 1.0 / _SCATTER**2
    return ((along + prior) / (norm + prior)).clamp(*_LIMITS)
