"""From a galaxy's parameters to its noiseless pixels, by two independent renderers.

* `btk`: BTK and GalSim, one galaxy and band at a time: the reference that the other is tested against.
* `torch`: the same light in Fourier space, a whole batch at once, on the CPU or a CUDA device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.surveys import SurveyModel


class GalaxyRenderer(Protocol):
    """Renders galaxies, each alone and without noise."""

    def render(self, row: NDArray, x: NDArray, y: NDArray, turn: NDArray) -> NDArray[np.float32]:
        """Noiseless stamps.

        Args:
            row: index of each galaxy in the catalogue, (G,) integer.
            x, y: offsets from the stamp's centre [arcsec], (G,).
            turn: added to the catalogue's position angle [deg], (G,).

        Returns:
            (G, band, y, x) float32 [electron].
        """
        ...


def new_galaxy_renderer(
    kind: Literal["btk", "torch"],
    catalog: Mapping[str, NDArray],
    magnitudes: NDArray,
    survey: SurveyModel,
    pixels: int,
    shear: complex,
) -> GalaxyRenderer:
    """The galaxy renderer that a simulation's `renderer` names.

    Args:
        kind: see the module.
        catalog: CatSim's columns of the components: fluxnorm_*, a_*, b_*, pa_*; each (N,).
        magnitudes: in the survey's bands, (N, band) [AB mag].
        survey: bands, PSFs, pixel scale.
        pixels: stamp side.
        shear: g1 + i g2, applied to every galaxy's profile.
    """
    if kind == "btk":
        from deblend_assets.science.simulation.renderers.btk import BtkRenderer

        return BtkRenderer(catalog, magnitudes, survey, pixels, shear)
    from deblend_assets.science.simulation.renderers.fourier import FourierRenderer

    return FourierRenderer(catalog, magnitudes, survey, pixels, shear)
