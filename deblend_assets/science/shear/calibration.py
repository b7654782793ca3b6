"""m and c of estimators, from tables of their estimates for the same scenes under known shears.

An estimate responds as <g_i> = (1 + m_i) g_i + c_i. Scenes are paired: the difference of the estimates of a scene under
+g and -g is its response, free of its own shape and mostly of its noise; the mean over both and over the scene turned
by 90° is its additive bias. Errors are jack-knife over blocks of target galaxies, so that they contain the scatter of
the population as well as the photon noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.statistics.jackknife import Measure, jackknife_error

Floats = NDArray[np.float64]

BLOCKS = 50
# LSST's requirement for ten years of data on |m| (DESC SRD, 1809.01669), and a tenth of it for c.
REQUIRED_M, REQUIRED_C = 3e-3, 3e-4
GROUPS = {"S/N": "snr", "size": "hlr_arcsec", "blendedness": "blendedness", "redshift": "redshift"}


@dataclass(frozen=True)
class SceneResponses:
    """Responses of the scenes all of whose estimates succeeded.

    Attributes:
        response: (S, 2), d estimate_i / d g_i of each scene; NaN for a component that was not sheared.
        offset: (S, 2), mean estimate over all its images.
        block: (S,) jack-knife block of its target.
        scene: (S,).
        failures: number of scenes with a failed estimate.
    """

    response: Floats
    offset: Floats
    block: NDArray[np.int64]
    scene: NDArray[np.int64]
    failures: int

    def of(self, chosen: NDArray[np.bool_]) -> SceneResponses:
        """The chosen scenes."""
        return SceneResponses(
            self.response[chosen], self.offset[chosen], self.block[chosen], self.scene[chosen], self.failures
        )


def require_split(ids: NDArray, splits: Mapping[int, str] | pd.Series, wanted: str, what: str) -> None:
    """Refuse galaxies of another split: an estimator is not evaluated on galaxies that it was trained on.

    Args:
        ids: `galtileid` of the galaxies.
        splits: split of each catalogue galaxy by its `galtileid`.
        wanted: the split they must belong to.
        what: is evaluated, for the message.

    Raises:
        MismatchError: names how many are of which other split.
    """
    found = pd.Series(splits).reindex(np.unique(ids)).fillna("no")
    wrong = found[found != wanted]
    if len(wrong):
        raise MismatchError(
            f"{len(wrong):,} of {len(found):,} galaxies are of the {', '.join(sorted(set(wrong)))} split, not {wanted}",
            where=what,
            remedy=f"evaluate on galaxies of the {wanted} split alone: the others were trained or calibrated on",
        )


def block_of(ids: NDArray) -> NDArray[np.int64]:
    """Jack-knife block of each galaxy; all scenes of one target are in one block."""
    unique, inverse = np.unique(ids, return_inverse=True)
    blocks = np.random.default_rng(0).permutation(len(unique)) % BLOCKS
    return np.asarray(blocks[inverse], dtype=np.int64)


def scene_responses(table: pd.DataFrame, method: str) -> SceneResponses:
    """Responses of a method for each scene of one condition.

    Args:
        table: one row for each scene and lens: `scene`, `galtileid`, `g1`, `g2` (applied), `{method}_1`, `{method}_2`.
        method: prefix of its columns.
    """
    columns = [f"{method}_{k}" for k in (1, 2)]
    worked = np.isfinite(table[columns].to_numpy(float)).all(axis=1)
    whole = pd.Series(worked).groupby(table["scene"].to_numpy()).all()
    scenes = whole.index[whole]
    kept = table[table["scene"].isin(scenes)]
    grouped = kept.groupby("scene")
    offset = grouped[columns].mean().to_numpy(float)
    response = np.full_like(offset, np.nan)
    for k in (0, 1):
        applied = kept[f"g{k + 1}"].to_numpy(float)
        if np.any(applied):
            # Least squares through the pairs: the sum of estimate × shear over that of shear².
            product = (kept[columns[k]] * applied).groupby(kept["scene"]).sum()
            response[:, k] = product / np.square(applied).sum() * len(scenes)
    first = grouped["galtileid"].first().to_numpy()
    return SceneResponses(response, offset, block_of(first), scenes.to_numpy(), int((~whole).sum()))


def jackknife_means(values: Floats, block: NDArray[np.int64]) -> Floats:
    """Mean over the rows, and over all rows but each block's.

    Args:
        values: (N, ...).
        block: (N,).

    Returns:
        (1 + blocks, ...), the whole first.
    """
    used = np.unique(block)
    total, count = values.sum(axis=0), len(values)
    sums = np.stack([values[block == b].sum(axis=0) for b in used])
    counts = np.array([(block == b).sum() for b in used]).reshape(-1, *([1] * (values.ndim - 1)))
    if len(used) < 2:
        return np.asarray(total / count)[None]
    return np.concatenate([np.asarray(total / count)[None], (total - sums) / (count - counts)])


def jackknife(values: Floats, block: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Means over the first axis (N, ...) and their errors, leaving out a block of rows (N,) at a time."""
    return jackknife_error(jackknife_means(values, block))


def responses(found: SceneResponses) -> tuple[Measure, Measure]:
    """Mean response of either component; NaN where it was not sheared."""
    mean, error = jackknife(found.response, found.block)
    return Measure(float(mean[0]), float(error[0])), Measure(float(mean[1]), float(error[1]))


def multiplicative(found: SceneResponses, calibration: Measure | None = None) -> tuple[Measure, Measure]:
    """m1 and m2 of an estimate divided by a response.

    Args:
        found: of the scenes evaluated.
        calibration: the response, of other galaxies than these; none: 1.
    """
    by = calibration or Measure(1.0, 0.0)
    both = []
    for measure in responses(found):
        ratio = measure.value / by.value
        error = np.hypot(measure.error / by.value, ratio * by.error / by.value)
        both.append(Measure(ratio - 1.0, float(error)))
    return both[0], both[1]


def additive(found: SceneResponses, calibration: Measure | None = None) -> tuple[Measure, Measure]:
    """c1 and c2 of an estimate divided by a response; arguments as `multiplicative`."""
    by = (calibration or Measure(1.0, 0.0)).value
    mean, error = jackknife(found.offset / by, found.block)
    return Measure(float(mean[0]), float(error[0])), Measure(float(mean[1]), float(error[1]))


def pooled(found: SceneResponses) -> Measure:
    """Mean response over the sheared components; an estimator without preferred direction has a single one."""
    sheared = np.isfinite(found.response).all(axis=0)
    mean, error = jackknife(found.response[:, sheared].mean(axis=1), found.block)
    return Measure(float(mean), float(error))


def selection_response(table: pd.DataFrame, method: str, selected: NDArray[np.bool_]) -> tuple[Measure, Measure]:
    """Responses of component 1's mean estimate under a cut on what is measured: of the galaxies, and of the cut.

    Args:
        table: as for `scene_responses`; rows with g1 = 0 and failed ones are not used.
        method: prefix.
        selected: (N,) rows that pass the cut.

    Returns:
        Response of the galaxies that pass in at least one image of a pair, weighted by how often; and the additional
        response due to galaxies that enter and leave the sample with the shear.
    """
    worked = (table["g1"].to_numpy() != 0) & np.isfinite(table[f"{method}_1"].to_numpy(float))
    rows, chosen = table[worked], selected[worked].astype(float)
    step = float(np.abs(rows["g1"]).max())
    sign = np.sign(rows["g1"].to_numpy(float))
    values, block = rows[f"{method}_1"].to_numpy(float), block_of(rows["galtileid"].to_numpy())
    pair = rows.groupby(["scene", "turned"]).ngroup().to_numpy()
    often = np.bincount(pair, chosen)[pair] / np.bincount(pair)[pair]
    # Sums over each block: of the selected and of the weighted estimates, for either sign of the shear.
    columns = []
    for weight in (chosen, often):
        for side in (1, -1):
            on = weight * (sign == side)
            columns += [np.bincount(block, on * values, BLOCKS), np.bincount(block, on, BLOCKS)]
    sums = np.stack(columns)

    def found(s: Floats) -> Floats:
        s = np.where(s == 0, np.nan, s)  # nothing selected for a sign: the response is undefined
        total = (s[0] / s[1] - s[2] / s[3]) / (2 * step)
        fixed = (s[4] / s[5] - s[6] / s[7]) / (2 * step)
        return np.stack([fixed, total - fixed])

    whole = sums.sum(axis=1)
    without = np.stack([found(whole - sums[:, b]) for b in range(BLOCKS)], axis=1)
    error = np.sqrt((BLOCKS - 1) / BLOCKS * np.square(without - without.mean(axis=1, keepdims=True)).sum(axis=1))
    value = found(whole)
    return Measure(float(value[0]), float(error[0])), Measure(float(value[1]), float(error[1]))


def meets(measures: Sequence[Measure], required: float) -> bool:
    """Whether all numbers and their errors are below the requirement."""
    return all(abs(m.value) < required and m.error < required for m in measures)
