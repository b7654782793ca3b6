"""The reference renderer: BTK's own `render_single_catsim_galaxy`, one galaxy and band at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.surveys import SurveyModel


class BtkRenderer:
    """Bulge + disc + AGN, sheared, through the survey's PSF and the pixel, as BTK 1.0.9 and GalSim render them.

    See `renderers.new_galaxy_renderer` for the arguments.
    """

    def __init__(
        self, catalog: Mapping[str, NDArray], magnitudes: NDArray, survey: SurveyModel, pixels: int, shear: complex
    ) -> None:
        self.catalog, self.magnitudes, self.survey, self.pixels = catalog, magnitudes, survey, pixels
        self.shear = shear

    def render(self, row: NDArray, x: NDArray, y: NDArray, turn: NDArray) -> NDArray[np.float32]:
        """See `renderers.GalaxyRenderer`."""
        from btk.draw_blends import SourceNotVisible, render_single_catsim_galaxy

        btk_survey = self.survey.btk_survey
        images = np.zeros((len(row), len(self.survey.bands), self.pixels, self.pixels), dtype=np.float32)
        for k, galaxy in enumerate(row):
            # BTK reads a galaxy by key only, and a dict costs a fraction of an astropy row.
            entry = {
                **{column: values[galaxy] for column, values in self.catalog.items()},
                "ra": x[k],
                "dec": y[k],
                "btk_rotation": turn[k],
                "g1": self.shear.real,
                "g2": self.shear.imag,
            }
            for b, band in enumerate(self.survey.bands):
                entry[f"{band}_ab"] = self.magnitudes[galaxy, b]
                band_filter = btk_survey.get_filter(band)
                try:
                    stamp = render_single_catsim_galaxy(
                        entry, band_filter, btk_survey, band_filter.psf, self.pixels, apply_shear=True
                    )
                except SourceNotVisible:  # less than one electron in the whole exposure
                    continue
                images[k, b] = stamp.array
        return images
