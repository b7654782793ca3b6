"""The light of a deblended galaxy, band by band, from the pixels it was deblended from.

The network reconstructs a galaxy's shape and colours well, its brightness in single bands less so: to a tenth, where
the photons allow a hundredth. The reconstruction is therefore the profile of a fit of one amplitude per band, with the
network's typical error as the prior: for bright galaxies the pixels dominate, for faint ones the network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deblend_assets.science.training.photons import photon_variance

# Relative error of the network's flux in a band: 0.08 to 0.18 on validation blends, see docs/shapes.md.
_SCATTER = 0.15
_LIMITS = (0.3, 3.0)


def amplitudes(model: Tensor, stamps: Tensor, present: Tensor, sky_sigma: Tensor) -> Tensor:
    """Factors on the reconstruction, (N, band): the maximum of Gaussian likelihood times a prior of 1 ± 0.15.

    A neighbour's light under the profile is attributed to the galaxy: the factor is too high by about the blendedness.

    Args:
        model: the reconstructed galaxy, (N, band, y, x) in units of the sky's noise.
        stamps: the stamp, in the same units; any value where a band is absent.
        present: (N, band) bool; the factor of an absent band is 1.
        sky_sigma: (band, 1, 1), root of the sky's electrons a pixel.
    """
    weight = model / photon_variance(model, sky_sigma)
    known = torch.where(present[..., None, None], stamps, model)
    along, norm = ((weight * light).sum(dim=(2, 3)) for light in (known, model))
    prior = 1.0 / _SCATTER**2
    return ((along + prior) / (norm + prior)).clamp(*_LIMITS)
