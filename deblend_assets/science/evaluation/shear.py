"""Evaluation of estimators under shear: m, c and what changes them, from the table of estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.shear.calibration import (
    GROUPS,
    REQUIRED_C,
    REQUIRED_M,
    SceneResponses,
    additive,
    jackknife,
    jackknife_means,
    meets,
    multiplicative,
    pooled,
    scene_responses,
    selection_response,
)
from deblend_assets.science.shear.conditions import BLENDED, PSF_SHEAR, SIDES
from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS, Evaluation
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.statistics.jackknife import Measure, jackknife_error
from deblend_assets.science.statistics.metrics import thirds

# Column prefix of each method, and its name on pages and figures.
METHODS = {
    "hsm": "SEP + REGAUSS, r",
    "report": "report's regressor (observed e)",
    "posterior": "LSST's shape posterior, mean of g",
    "free": "LSST's shape posterior, likelihood-only g",
    "sky": "model for every sky, mean of g",
    "sky_free": "model for every sky, likelihood-only g",
}
# HSM with the sheared PSF known to it.
KNOWN = "hsm_known"
# Methods that are given the PSF of every condition; the others assume the survey's.
GIVEN_PSF = ("sky", "sky_free")
# Methods that measure what the selection cuts on, the first choice of all others first.
_CUTTING = ("posterior", "sky")
_CERTAIN = 2.0  # errors


def methods_of(table: pd.DataFrame) -> list[str]:
    """The methods with estimates in the table."""
    return [m for m in METHODS if f"{m}_1" in table and table[f"{m}_1"].notna().any()]


def evaluate_shear(table: pd.DataFrame) -> Evaluation:
    """m, c and what changes them.

    Args:
        table: a row a scene, lens and condition: `condition`, `scene`, `galtileid`, the truth's columns
            (`conditions.TRUTH`, as `true_g1`, `true_g2` where they would be taken for the applied shear `g1`, `g2`),
            `turned`, `{method}_1` and `{method}_2` of METHODS; of `posterior` or `sky` also `_err` and `_ln_size`, and
            `_response_1` and `_2` from the images, NaN where they were not measured.

    Returns:
        `n` scenes of each condition; of each method `response`, `failures`, `uncalibrated` and `calibrated` m1, m2, c1,
        c2 (`met`: whether all are below the requirement, errors included), `groups`, `conditions`, `selection`,
        `shape_noise`, and `image_response` where it was measured. Measures are `{"value", "error"}`.
    """
    parts = {str(name): part for name, part in table.groupby("condition", sort=False)}
    found: Evaluation = {"n": {name: int(part["scene"].nunique()) for name, part in parts.items()}, "methods": {}}
    truth = parts["blended"].groupby("scene").first()
    for method in methods_of(table):
        at = {name: scene_responses(part, method) for name, part in parts.items()}
        response, whole = pooled(at["calibration"]), at["blended"]
        found["methods"][method] = {
            "response": response.as_json(),
            "failures": whole.failures / found["n"]["blended"],
            "uncalibrated": _biases(whole, None),
            "calibrated": _biases(whole, response),
            "groups": _groups(whole, truth, response),
            "conditions": _changes(parts, at, method, response),
            "selection": _selection(parts["blended"], method, response),
            "shape_noise": _shape_noise(parts["blended"], method, response),
        }
        if f"{method}_response_1" in table:
            found["methods"][method]["image_response"] = _image_response(parts["blended"], truth, method)
    return found


def with_image_response(evaluation: Mapping[str, Any]) -> list[str]:
    """The methods whose response is also measured from the images alone."""
    return [method for method, found in evaluation["methods"].items() if "image_response" in found]


def _biases(found: SceneResponses, response: Measure | None) -> Evaluation:
    m, c = multiplicative(found, response), additive(found, response)
    named = {"m1": m[0], "m2": m[1], "c1": c[0], "c2": c[1]}
    met = meets(m, REQUIRED_M) and meets(c, REQUIRED_C)
    return {name: measure.as_json() for name, measure in named.items()} | {"met": met}


def _groups(whole: SceneResponses, truth: pd.DataFrame, response: Measure) -> Evaluation:
    groups: Evaluation = {}
    for name, chosen in _thirds(whole, truth):
        m = pooled(whole.of(chosen))
        scaled = Measure(m.value / response.value - 1.0, m.error / response.value)
        groups[name] = {"n": int(chosen.sum()), "m": scaled.as_json()}
    return groups


def _thirds(scenes: SceneResponses, truth: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Thirds of the scenes by their true properties; thirds of blendedness among blended scenes only."""
    for name, column in GROUPS.items():
        values = truth[column].reindex(scenes.scene).to_numpy(float)
        usable = np.where(values > 0, values, np.nan) if name == "blendedness" else values
        for third, chosen in thirds(usable):
            if chosen.sum() >= MINIMUM_ROWS:
                yield f"{name}, {third} third", chosen


def _changes(
    parts: Mapping[str, pd.DataFrame], at: Mapping[str, SceneResponses], method: str, response: Measure
) -> Evaluation:
    """Changes of m and c under a condition: differences between scenes of the same galaxies, lenses and noise."""
    changes: Evaluation = {}
    blended = parts["blended"]
    whole = scene_responses(blended[blended["g2"] == 0], method)
    for condition in SIDES:
        if condition.name not in at:
            continue
        n, m, c = _difference(at[condition.name], whole, response)
        given = method in GIVEN_PSF
        changes[condition.name] = {
            "n": n,
            "words": f"{condition.words}, given" if given and condition.psf != BLENDED.psf else condition.words,
            "m": multiplicative(at[condition.name], response)[0].as_json(),
            "change_of_m": m.as_json(),
        }
        if condition.psf.g1:
            leakage = Measure(c.value / PSF_SHEAR, c.error / PSF_SHEAR).as_json()
            changes[condition.name]["leakage_known" if given else "leakage"] = leakage
            if method == "hsm" and f"{KNOWN}_1" in parts[condition.name]:
                _, _, c = _difference(scene_responses(parts[condition.name], KNOWN), whole, response)
                known = Measure(c.value / PSF_SHEAR, c.error / PSF_SHEAR)
                changes[condition.name]["leakage_known"] = known.as_json()
    return changes


def _difference(side: SceneResponses, whole: SceneResponses, response: Measure) -> tuple[int, Measure, Measure]:
    """Number of scenes in both, and the differences of m and c of component 1 there."""
    scenes = np.intersect1d(side.scene, whole.scene)
    here, there = (s.of(np.isin(s.scene, scenes)) for s in (side, whole))
    off = np.stack([here.response[:, 0] - there.response[:, 0], here.offset[:, 0] - there.offset[:, 0]], axis=1)
    mean, error = jackknife(off / response.value, here.block)
    return len(scenes), Measure(float(mean[0]), float(error[0])), Measure(float(mean[1]), float(error[1]))


def _selection(blended: pd.DataFrame, method: str, response: Measure) -> Evaluation:
    """m under cuts on measured quantities, at their medians: the method's own network's, or the first that there is."""
    own = "sky" if method in GIVEN_PSF else next(name for name in _CUTTING if f"{name}_err" in blended)
    cuts = {"expected error of g below its median": (f"{own}_err", -1), "size above its median": (f"{own}_ln_size", 1)}
    found: Evaluation = {}
    for words, (column, sign) in cuts.items():
        values = sign * blended[column].to_numpy(float)
        fixed, further = selection_response(blended, method, values > np.nanmedian(values))
        found[words] = {
            "m": Measure(fixed.value / response.value - 1.0, fixed.error / response.value).as_json(),
            "selection": Measure(further.value / response.value, further.error / response.value).as_json(),
        }
    return found


def _shape_noise(blended: pd.DataFrame, method: str, response: Measure) -> Evaluation:
    """Scatter of the calibrated estimate, of the true shapes, and the effective share of the galaxies."""
    upright = blended[~blended["turned"].to_numpy(bool) & (blended["g1"].to_numpy() > 0)]
    scatter, true, share = [], [], []
    for k in (1, 2):
        values = upright[f"{method}_{k}"].to_numpy(float) / response.value
        truth = upright[f"true_g{k}"].to_numpy(float)
        kept = np.isfinite(values)
        scatter.append(np.var(values[kept]))
        true.append(np.var(truth[kept]))
        # A failed galaxy has no information.
        share.append(kept.mean() * true[-1] / scatter[-1])
    return {
        "sigma": float(np.sqrt(np.mean(scatter))),
        "sigma_true": float(np.sqrt(np.mean(true))),
        "effective_share": float(np.mean(share)),
    }


def _image_response(blended: pd.DataFrame, truth: pd.DataFrame, method: str) -> Evaluation:
    """The response from the images and from pairs, for the same scenes."""
    columns = [f"{method}_response_{k}" for k in (1, 2)]
    rows = blended[np.isfinite(blended[columns[0]].to_numpy(float))]
    values = rows[columns].to_numpy(float)
    per_scene = pd.Series(values.mean(axis=1)).groupby(rows["scene"].to_numpy()).mean()
    paired = scene_responses(blended[blended["scene"].isin(per_scene.index)], method)
    both = np.stack([per_scene.reindex(paired.scene).to_numpy(float), paired.response.mean(axis=1)], axis=1)

    def compared(chosen: NDArray[np.bool_]) -> Evaluation:
        three = np.concatenate([both[chosen], both[chosen, :1] - both[chosen, 1:]], axis=1)
        mean, error = jackknife(three, paired.block[chosen])
        names = ("images", "pairs", "difference")
        return {n: Measure(float(v), float(e)).as_json() for n, v, e in zip(names, mean, error, strict=True)}

    found = {"n": len(both), **compared(np.ones(len(both), dtype=bool)), "groups": {}}
    for name, chosen in _thirds(paired, truth):
        found["groups"][name] = compared(chosen)
    return found | {"calibrated": _by_images(paired, both[:, 0])}


def _by_images(paired: SceneResponses, images: NDArray[np.float64]) -> Evaluation:
    """Biases of estimates that are divided by the mean response of their own images, without simulations.

    Numerator and denominator are of the same galaxies, so that their common scatter is not an error of the ratio.
    """
    columns = np.concatenate([images[:, None], paired.response, paired.offset], axis=1)
    means = jackknife_means(columns, paired.block)
    value, error = jackknife_error(means[:, 1:] / means[:, :1])
    named = {
        name: Measure(float(v) - (1.0 if name[0] == "m" else 0.0), float(e))
        for name, v, e in zip(("m1", "m2", "c1", "c2"), value, error, strict=True)
    }
    met = meets([named["m1"], named["m2"]], REQUIRED_M) and meets([named["c1"], named["c2"]], REQUIRED_C)
    return {name: measure.as_json() for name, measure in named.items()} | {"met": met}


def floor_share(floor: NDArray[np.float64], scatter: float) -> float:
    """Effective share of galaxies with shapes measured at the Fisher floor.

    Args:
        floor: lowest standard errors of a component, (N,) or (N, 2); NaN or infinite without information.
        scatter: of the true component.
    """
    return float(np.mean(scatter**2 / (scatter**2 + np.where(np.isfinite(floor), floor, np.inf) ** 2)))


def findings(evaluation: Evaluation) -> list[str]:
    """Calibrated biases of methods with an image response that are beyond the requirement by more than two errors."""
    beyond = []
    for method in with_image_response(evaluation):
        found = evaluation["methods"][method]["calibrated"]
        for name, required in (("m1", REQUIRED_M), ("m2", REQUIRED_M), ("c1", REQUIRED_C), ("c2", REQUIRED_C)):
            value, error = found[name]["value"], found[name]["error"]
            if value is None or error is None:
                beyond.append(f"{METHODS[method]}: {name} is not known")
            elif abs(value) - required > _CERTAIN * error:
                beyond.append(f"{METHODS[method]}: {name} {format_measure(found[name])}, required {required:g}")
    return beyond


def errors_apart(evaluation: Evaluation) -> float:
    """Largest difference of the two routes to a method's response, in its errors; infinite where one is not known."""
    differences = [evaluation["methods"][m]["image_response"]["difference"] for m in with_image_response(evaluation)]
    return max(abs(d["value"]) / d["error"] if d["error"] else float("inf") for d in differences)


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that a row of the UI shows."""
    flat: dict[str, float | None] = {f"scenes_{name}": n for name, n in evaluation["n"].items()}
    for method, found in evaluation["methods"].items():
        for which in ("uncalibrated", "calibrated"):
            flat |= _named(f"{which}_{{}}_{method}", found[which])
        flat[f"response_{method}"] = found["response"]["value"]
        flat[f"effective_share_{method}"] = found["shape_noise"]["effective_share"]
        if "image_response" in found:
            flat |= _named(f"by_images_{{}}_{method}", found["image_response"]["calibrated"])
            difference = found["image_response"]["difference"]
            flat[f"response_difference_{method}"] = difference["value"]
            flat[f"response_difference_{method}_error"] = difference["error"]
    return {name: value for name, value in flat.items() if value is not None and np.isfinite(value)}


def _named(name: str, biases: Evaluation) -> dict[str, float | None]:
    """Of m1, m2, c1 and c2: value and error."""
    found = {}
    for bias in ("m1", "m2", "c1", "c2"):
        found[name.format(bias)] = biases[bias]["value"]
        found[f"{name.format(bias)}_error"] = biases[bias]["error"]
    return found
