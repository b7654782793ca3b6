"""From scene tables to pixels: BTK and GalSim draw, then photons arrive.

BTK's own `render_single_catsim_galaxy` draws every galaxy in every band (bulge + disc + AGN, sheared, through
the survey's PSF and the pixel). Its generator is not used, for three reasons that BTK 1.0.9 leaves no way round:
its noise takes galaxy and background from one generator state, its default seed repeats between batches, and
a third of its time goes into copying astropy tables.

Noise: photon counting of everything that reaches the pixel, N ~ Poisson(light + sky) - sky, drawn independently
for each scene, band and array, in electrons of the whole exposure. This is the sum of BTK's "galaxy" and
"background" noise, with the two independent as photons are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.conventions import add_shear
from deblend_assets.science.moments import image_moments, intrinsic_shear
from deblend_assets.science.scenes import SceneSampler, Shard, scene_seed
from deblend_assets.science.surveys import SurveyModel, survey_magnitudes
from deblend_assets.settings import SimulationSettings


@dataclass(frozen=True)
class RenderedScenes:
    """Some scenes of a shard, ready to be stored.

    Attributes:
        isolated: (N, band, y, x) float32 [electron], the target alone, without noise.
        noisy: the same with photon noise of target and sky.
        blended: target and neighbours with photon noise of its own.
        truth: one row a galaxy, see `TRUTH_COLUMNS`.
    """

    isolated: np.ndarray
    noisy: np.ndarray
    blended: np.ndarray
    truth: pd.DataFrame

    def __post_init__(self) -> None:
        shapes = {self.isolated.shape, self.noisy.shape, self.blended.shape}
        if len(shapes) != 1 or self.isolated.ndim != 4:
            raise ValueError(f"three stacks of (N, band, y, x) expected, got {sorted(shapes)}")
        if int((self.truth["member"] == 0).sum()) != len(self.isolated):
            raise ValueError("one target a scene expected")


# Column: (unit, meaning). Columns named {band} stand for one a band of the survey.
TRUTH_COLUMNS: dict[str, tuple[str, str]] = {
    "scene": ("", "row along the first axis of the arrays"),
    "split": ("", "train, validation or test; of the scene and of all its galaxies"),
    "member": ("", "0: the target; 1, 2, ...: neighbours"),
    "galtileid": ("", "the catalogue's id of the galaxy"),
    "x_arcsec": ("arcsec", "offset from the stamp's centre along +x"),
    "y_arcsec": ("arcsec", "offset from the stamp's centre along +y"),
    "x_pixel": ("pixel", "0-based column of the centre"),
    "y_pixel": ("pixel", "0-based row of the centre"),
    "position_angle_deg": ("deg", "major axis of the components before shear, from +x towards +y"),
    "redshift": ("", "true redshift"),
    "bulge_fraction": ("", "bulge light over total light, the same in every band"),
    "hlr_disc_arcsec": ("arcsec", "circularised half-light radius sqrt(ab) of the disc; 0 without one"),
    "hlr_bulge_arcsec": ("arcsec", "circularised half-light radius sqrt(ab) of the bulge; 0 without one"),
    "q_disc": ("", "axis ratio b/a of the disc before shear; NaN without one"),
    "q_bulge": ("", "axis ratio b/a of the bulge before shear; NaN without one"),
    "shear1": ("", "constant shear g applied to the scene, component 1"),
    "shear2": ("", "constant shear g applied to the scene, component 2"),
    "g1": ("", "intrinsic shear-type g, applied shear included: adaptive moments without PSF"),
    "g2": ("", "second component of the same"),
    "e1": ("", "observed distortion e (Eq. 12) of the noiseless isolated stamp; targets only"),
    "e2": ("", "second component of the same"),
    "e": ("", "|e| (Eq. 14)"),
    "a_arcsec": ("arcsec", "observed semi-major axis, root of the larger eigenvalue of Q (Eq. 13)"),
    "b_arcsec": ("arcsec", "observed semi-minor axis"),
    "blendedness": ("", "1 - sum(own^2)/sum(own*all) in the label band (Bosch et al. 2018, 1705.06766)"),
    "snr": ("", "matched-filter S/N of the galaxy alone, all bands"),
    "mag_{band}": ("mag(AB)", "true total magnitude"),
    "flux_{band}": ("electron", "true total flux"),
    "snr_{band}": ("", "matched-filter S/N of the galaxy alone: sqrt(sum(own^2 / (own + sky)))"),
}


class ShardRenderer:
    """Draws the scenes of any shard of one simulation.

    Args:
        catalog: CatSim columns and `split`.
        settings: what a scene is.
        survey: how it is observed.
    """

    def __init__(self, catalog: pd.DataFrame, settings: SimulationSettings, survey: SurveyModel) -> None:
        self.settings, self.survey = settings, survey
        self.label_band = survey.band_index(settings.label_band)
        self.sampler = SceneSampler(catalog, settings, survey.pixel_scale)
        self.magnitudes = survey_magnitudes(
            {c: catalog[c].to_numpy() for c in catalog.columns if c.endswith("_ab")}, survey
        )
        self.catalog = {c: catalog[c].to_numpy() for c in catalog.columns if c != "split" and not c.endswith("_ab")}
        self.sky = np.asarray(survey.sky)[:, None, None]

    def render(self, shard: Shard, first: int, last: int) -> RenderedScenes:
        """Scenes first … last - 1 of a shard; the same whatever range they are asked for in."""
        isolated, noisy, blended, tables = [], [], [], []
        for scene in range(first, last):
            layout, noise_noisy, noise_blended = scene_seed(self.settings, shard, scene).spawn(3)
            table = self.sampler.sample(shard, scene, np.random.default_rng(layout))
            members = self._draw(table)
            isolated.append(members[0].astype(np.float32))
            noisy.append(self._expose(members[0], noise_noisy))
            blended.append(self._expose(members.sum(axis=0), noise_blended))
            tables.append(self._photometry(table, members))
        truth = self._truth(shard, pd.concat(tables, ignore_index=True), np.stack(isolated))
        return RenderedScenes(np.stack(isolated), np.stack(noisy), np.stack(blended), truth)

    def _draw(self, table: pd.DataFrame) -> np.ndarray:
        """(member, band, y, x) [electron], each galaxy alone, without noise."""
        from btk.draw_blends import SourceNotVisible, render_single_catsim_galaxy

        btk_survey, pixels = self.survey.btk_survey, self.settings.stamp_pixels
        images = np.zeros((len(table), len(self.survey.bands), pixels, pixels))
        x, y, turn = (table[c].to_numpy() for c in ("x_arcsec", "y_arcsec", "rotation_deg"))
        for k, row in enumerate(table["row"].to_numpy()):
            # BTK reads a galaxy by key only: a dict serves, at a fraction of an astropy row's cost.
            entry = {
                **{column: values[row] for column, values in self.catalog.items()},
                "ra": x[k],
                "dec": y[k],
                "btk_rotation": turn[k],
                "g1": self.settings.shear_g1,
                "g2": self.settings.shear_g2,
            }
            for b, band in enumerate(self.survey.bands):
                entry[f"{band}_ab"] = self.magnitudes[row, b]
                band_filter = btk_survey.get_filter(band)
                try:
                    drawn = render_single_catsim_galaxy(
                        entry, band_filter, btk_survey, band_filter.psf, pixels, apply_shear=True
                    )
                except SourceNotVisible:  # less than one electron in the whole exposure
                    continue
                images[k, b] = drawn.array
        return images

    def _expose(self, light: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
        """Photon noise of light and sky, each band from its own child of the seed."""
        exposed = np.empty(light.shape, dtype=np.float32)
        for b, child in enumerate(seed.spawn(len(light))):
            # FFT rounding leaves light of -1e-6 electron far from a galaxy; photons cannot follow it below 0.
            expected = np.maximum(light[b] + self.sky[b], 0.0)
            exposed[b] = np.random.default_rng(child).poisson(expected) - self.sky[b]
        return exposed

    def _photometry(self, table: pd.DataFrame, members: np.ndarray) -> pd.DataFrame:
        """S/N and blendedness of every member of one scene."""
        snr2 = (np.square(members) / np.maximum(members + self.sky, 1e-9)).sum(axis=(-2, -1))
        own = members[:, self.label_band]
        overlap = (own * own.sum(axis=0)).sum(axis=(-2, -1))
        table = table.assign(
            snr=np.sqrt(snr2.sum(axis=1)),
            blendedness=1.0 - np.square(own).sum(axis=(-2, -1)) / np.where(overlap > 0, overlap, np.nan),
        )
        return table.assign(**{f"snr_{band}": np.sqrt(snr2[:, b]) for b, band in enumerate(self.survey.bands)})

    def _truth(self, shard: Shard, table: pd.DataFrame, isolated: np.ndarray) -> pd.DataFrame:
        """Everything else that is known of the galaxies of these scenes; see TRUTH_COLUMNS."""
        rows = table["row"].to_numpy()
        source = {column: values[rows] for column, values in self.catalog.items()}
        settings, scale = self.settings, self.survey.pixel_scale
        middle = (settings.stamp_pixels - 1) / 2
        disc, bulge, agn = (source[f"fluxnorm_{part}"].astype(float) for part in ("disk", "bulge", "agn"))
        angle = np.where(disc > 0, source["pa_disk"], source["pa_bulge"]) + table["rotation_deg"].to_numpy()
        # A galaxy of AGN light alone has no extent and no shape: g is NaN there.
        with np.errstate(invalid="ignore", divide="ignore"):
            stars = bulge / (bulge + disc)
            q_disc = np.where(disc > 0, source["b_d"] / source["a_d"], np.nan)
            q_bulge = np.where(bulge > 0, source["b_b"] / source["a_b"], np.nan)
        along = intrinsic_shear(source["a_d"], source["b_d"], source["a_b"], source["b_b"], stars)
        shear = complex(settings.shear_g1, settings.shear_g2)
        g = add_shear(along * np.exp(2j * np.radians(angle)), shear)
        moments = image_moments(isolated[:, self.label_band])
        a, b = moments.axes
        target = table["member"].to_numpy() == 0
        columns: dict[str, object] = {
            "scene": table["scene"].to_numpy(np.int64),
            "split": shard.split,
            "member": table["member"].to_numpy(np.int16),
            "galtileid": source["galtileid"].astype(np.int64),
            "x_arcsec": table["x_arcsec"],
            "y_arcsec": table["y_arcsec"],
            "x_pixel": table["x_arcsec"] / scale + middle,
            "y_pixel": table["y_arcsec"] / scale + middle,
            "position_angle_deg": angle % 180.0,
            "redshift": source["redshift"],
            "bulge_fraction": bulge / (bulge + disc + agn),
            "hlr_disc_arcsec": np.where(disc > 0, np.sqrt(source["a_d"] * source["b_d"]), 0.0),
            "hlr_bulge_arcsec": np.where(bulge > 0, np.sqrt(source["a_b"] * source["b_b"]), 0.0),
            "q_disc": q_disc,
            "q_bulge": q_bulge,
            "shear1": settings.shear_g1,
            "shear2": settings.shear_g2,
            "g1": g.real,
            "g2": g.imag,
        }
        observed = {"e1": moments.e1, "e2": moments.e2, "e": np.hypot(moments.e1, moments.e2)}
        for name, values in {**observed, "a_arcsec": a * scale, "b_arcsec": b * scale}.items():
            column = np.full(len(table), np.nan)
            column[target] = values
            columns[name] = column
        columns["blendedness"] = table["blendedness"]
        columns["snr"] = table["snr"]
        for k, band in enumerate(self.survey.bands):
            magnitude = self.magnitudes[rows, k]
            columns[f"mag_{band}"] = magnitude
            columns[f"flux_{band}"] = 10 ** (-0.4 * (magnitude - self.survey.zero_point[k]))
            columns[f"snr_{band}"] = table[f"snr_{band}"]
        return pd.DataFrame(columns)
