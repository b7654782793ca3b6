"""The truth table: one row for every galaxy of every scene."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.stamps.conventions import add_shear
from deblend_assets.science.stamps.moments import half_light_radius, image_moments, intrinsic_shear
from deblend_assets.settings import SceneSettings

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
    "hlr_arcsec": ("arcsec", "circularised half-light radius of bulge + disc, which an AGN has no part in"),
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


def scene_truth(
    shard: Shard,
    table: pd.DataFrame,
    isolated: NDArray,
    catalog: Mapping[str, NDArray],
    magnitudes: NDArray,
    survey: SurveyModel,
    settings: SceneSettings,
) -> pd.DataFrame:
    """The truth table of some scenes of a shard.

    Args:
        shard: whose split the rows name.
        table: one row a galaxy, see `SceneSampler.sample`, with snr, snr_{band} and blendedness.
        isolated: noiseless stamps of the targets, (scene, band, y, x) [electron].
        catalog: CatSim's columns, each (N,).
        magnitudes: in the survey's bands, (N, band) [AB mag].
        survey: bands, pixel scale, zero points.
        settings: of the simulation.

    Returns:
        One row a galaxy, see TRUTH_COLUMNS.
    """
    rows = table["row"].to_numpy()
    source = {column: values[rows] for column, values in catalog.items()}
    scale = survey.pixel_scale
    middle = (settings.stamp_pixels - 1) / 2
    disc, bulge, agn = (source[f"fluxnorm_{part}"].astype(float) for part in ("disk", "bulge", "agn"))
    turn = table["rotation_deg"].to_numpy()
    angle, stars = _angle(source, turn), _bulge_of_stars(source)
    with np.errstate(invalid="ignore", divide="ignore"):
        q_disc = np.where(disc > 0, source["b_d"] / source["a_d"], np.nan)
        q_bulge = np.where(bulge > 0, source["b_b"] / source["a_b"], np.nan)
    g = intrinsic_g(source, turn, complex(settings.shear_g1, settings.shear_g2))
    moments = image_moments(isolated[:, survey.band_index(settings.label_band)])
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
        "hlr_arcsec": half_light_radius(
            np.sqrt(source["a_d"] * source["b_d"]), np.sqrt(source["a_b"] * source["b_b"]), stars
        ),
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
    for k, band in enumerate(survey.bands):
        magnitude = magnitudes[rows, k]
        columns[f"mag_{band}"] = magnitude
        columns[f"flux_{band}"] = 10 ** (-0.4 * (magnitude - survey.zero_point[k]))
        columns[f"snr_{band}"] = table[f"snr_{band}"]
    return pd.DataFrame(columns)


def nearest_neighbour(truth: pd.DataFrame, scenes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance from the target to the nearest neighbour [arcsec], (N,), NaN without one.

    Args:
        truth: rows of all galaxies of the scenes.
        scenes: in the order of the result.
    """
    x, y, scene = (truth[c].to_numpy() for c in ("x_arcsec", "y_arcsec", "scene"))
    target = truth["member"].to_numpy() == 0
    at = pd.DataFrame({"x": x[target], "y": y[target]}, index=scene[target]).loc[scene[~target]].to_numpy()
    distance = pd.Series(np.hypot(x[~target] - at[:, 0], y[~target] - at[:, 1]), index=scene[~target])
    return np.asarray(distance.groupby(level=0).min().reindex(scenes).to_numpy(float))


def intrinsic_g(source: Mapping[str, NDArray], turn: NDArray, shear: complex) -> NDArray[np.complex128]:
    """Shear-type ellipticity of galaxies before PSF and pixel, by adaptive moments; see `moments.intrinsic_shear`.

    Args:
        source: CatSim's columns of these galaxies, each (G,).
        turn: added to the catalogue's position angle [deg], (G,).
        shear: g1 + i g2 applied after the turn.

    Returns:
        g1 + i g2, (G,); NaN for a galaxy of AGN light alone, which has no extent and no shape.
    """
    stars = _bulge_of_stars(source)
    along = intrinsic_shear(source["a_d"], source["b_d"], source["a_b"], source["b_b"], stars)
    along = np.where(np.isnan(stars), np.nan, along)  # whatever axes the catalogue gives to parts without light
    with np.errstate(invalid="ignore"):
        g: NDArray[np.complex128] = add_shear(along * np.exp(2j * np.radians(_angle(source, turn))), shear)
    return g


def _angle(source: Mapping[str, NDArray], turn: NDArray) -> NDArray:
    """Position angle of the components before shear [deg], (G,)."""
    angle: NDArray = np.where(source["fluxnorm_disk"].astype(float) > 0, source["pa_disk"], source["pa_bulge"]) + turn
    return angle


def _bulge_of_stars(source: Mapping[str, NDArray]) -> NDArray:
    """Bulge light over bulge + disc light, (G,); NaN without either."""
    disc, bulge = (source[f"fluxnorm_{part}"].astype(float) for part in ("disk", "bulge"))
    with np.errstate(invalid="ignore", divide="ignore"):
        share: NDArray = bulge / (bulge + disc)
    return share
