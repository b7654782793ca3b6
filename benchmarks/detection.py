"""Completeness and purity of the detection against SEP with its usual settings, on the same fields.

    python -m benchmarks.detection --figure detection.png        # all figures of merit, as numbers and as a figure

SEP's usual settings: threshold 1.5 σ of a pixel, 3 × 3 kernel, 5 pixels, contrast 0.005; on the band i, and on the
sum of the bands weighted by their inverse variances. Detections of each are judged by the same S/N and truth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sep

from benchmarks.detection_fields import Field, Fields
from benchmarks.rows import Row
from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.detection.light import light_of_pieces, nearby, sum_weights
from deblend_assets.science.detection.performance import detection_table, performance, source_table
from deblend_assets.science.detection.signal import measure_signal
from deblend_assets.science.detection.truth import NEAR_FWHM, match
from deblend_assets.science.reports.figures.detection import detection_performance
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.settings import DetectionSettings

_FIELDS, _QUICK_FIELDS = 20, 2
# Seeds below it served to choose the settings.
_FIRST_SEED = 100
# Exposure time in units of LSST's ten years.
_EXPOSURES = (1.0, 0.1)
_USUAL = 1.5
_OURS = "this package"

Finder = Callable[[Fields, Field], Detections]


def ours(fields: Fields, field: Field) -> Detections:
    """The package's detection with its default settings."""
    survey = fields.survey
    return detect(
        field.images,
        field.inverse_variance,
        field.fwhm,
        survey.bands,
        DetectionSettings(background_pixels=0),  # the fields have no sky
        zero_points=survey.zero_point,
        noise_correlation=[field.correlation] * len(survey.bands),
    )


def usual_sum(fields: Fields, field: Field) -> Detections:
    """SEP's usual settings on the sum of the bands."""
    response = 10 ** (0.4 * (np.asarray(fields.survey.zero_point) - max(fields.survey.zero_point)))
    ivar = field.inverse_variance.astype(np.float64)
    norm = np.tensordot(response**2, ivar, axes=1)
    total = np.tensordot(response, np.where(ivar > 0, ivar * field.images, 0.0), axes=1)
    safe = np.where(norm > 0, norm, 1.0)
    return _usual(field, total / safe, 1 / np.sqrt(safe), norm == 0)


def usual_i(fields: Fields, field: Field) -> Detections:
    """SEP's usual settings on the band i."""
    k = fields.survey.bands.index("i")
    ivar = field.inverse_variance[k]
    lost = ivar == 0
    return _usual(field, np.where(lost, 0.0, field.images[k]), 1 / np.sqrt(np.where(lost, 1.0, ivar)), lost)


def _usual(field: Field, image: np.ndarray, error: np.ndarray, lost: np.ndarray) -> Detections:
    found, segments = sep.extract(
        np.ascontiguousarray(image, dtype=np.float32),
        _USUAL,
        err=error.astype(np.float32),
        mask=lost,
        segmentation_map=True,
    )
    seeing = float(np.mean(field.fwhm))
    images = np.where(field.inverse_variance > 0, field.images, np.float32(0))
    signal = measure_signal(
        images,
        field.inverse_variance,
        found["x"],
        found["y"],
        segments,
        field.fwhm,
        seeing,
        [field.correlation] * len(images),
    )
    return Detections(pd.DataFrame({"x": found["x"], "y": found["y"], "snr": signal.snr}), segments, seeing)


FINDERS: dict[str, Finder] = {_OURS: ours, "SEP, usual, sum of bands": usual_sum, "SEP, usual, i": usual_i}


def judged(fields: Fields, field: Field, found: Detections, fwhm: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of sources and of detections; `fwhm` is the radius within which light counts [pixel]."""
    weights, noise = sum_weights(field.inverse_variance, fields.survey.zero_point)
    light = light_of_pieces(found.table["x"], found.table["y"], fwhm, field.pieces, weights)
    spread = 1.0 if field.correlation is None else float(field.correlation.sum())
    near = nearby(found.table["x"], found.table["y"], field.x, field.y, NEAR_FWHM * fwhm)
    truth = match(light, near, field.star, noise * float(np.sqrt(np.pi * spread)) * fwhm)
    sources = source_table(field.x, field.y, field.snr, field.magnitude, fwhm, truth)
    return sources, detection_table(found, sources, field.x, field.y, truth)


def compare(count: int, exposures: tuple[float, ...], *, correlated: bool) -> dict[str, dict[str, Any]]:
    """`performance` of each finder over `count` fields of each exposure time, with `seconds` a field."""
    fields = Fields()
    tables: dict[str, list[tuple[pd.DataFrame, pd.DataFrame]]] = {name: [] for name in FINDERS}
    seconds: dict[str, list[float]] = {name: [] for name in FINDERS}
    for exposure in exposures:
        for seed in range(_FIRST_SEED, _FIRST_SEED + count):
            field = fields.draw(seed, exposure, correlated=correlated)
            found = {}
            for name, finder in FINDERS.items():
                start = time.perf_counter()
                found[name] = finder(fields, field)
                seconds[name].append(time.perf_counter() - start)
            fwhm = found[_OURS].fwhm
            for name, detections in found.items():
                tables[name].append(judged(fields, field, detections, fwhm))
    evaluations = {}
    for name, parts in tables.items():
        sources, detections = (pd.concat(list(part), ignore_index=True) for part in zip(*parts, strict=True))
        evaluations[name] = performance(sources, detections) | {"seconds": float(np.median(seconds[name]))}
    return evaluations


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table: completeness and purity at S/N ≥ 10, white and correlated noise, over both peers' values."""
    for correlated in (False, True):
        found = compare(_QUICK_FIELDS if quick else _FIELDS, _EXPOSURES, correlated=correlated)
        mine = found.pop(_OURS)
        noise = "correlated" if correlated else "white"
        for peer, theirs in found.items():
            for merit in ("completeness", "purity"):
                yield _row(f"{merit} at S/N ≥ 10, {noise} noise", peer, mine[merit]["all"], theirs[merit]["all"])


def _row(what: str, peer: str, mine: dict[str, Any], theirs: dict[str, Any]) -> Row:
    """Ratio of two shares; the bar is missed where the first is lower by more than twice the error."""
    error = float(np.hypot(mine["error"], theirs["error"]))
    ratio, spread = mine["value"] / theirs["value"], 2 * error / theirs["value"]
    detail = f"{mine['value']:.4f} of {mine['n']:,} against {theirs['value']:.4f} of {theirs['n']:,}; range: ± 2 σ"
    met = mine["value"] >= theirs["value"] - 2 * error
    return Row(what, peer, ratio, (ratio - spread, ratio + spread), "≥ 1 − 2 σ", met, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=_FIELDS, help="fields of each exposure time")
    parser.add_argument("--correlated", action="store_true", help="correlated noise instead of white")
    parser.add_argument("--figure", type=Path, help="draw the figures of merit here")
    parser.add_argument("--json", type=Path, help="write them here")
    given = parser.parse_args()
    found = compare(given.fields, _EXPOSURES, correlated=given.correlated)
    for name, evaluation in found.items():
        shares = ", ".join(
            f"{merit} {format_measure(evaluation[merit]['all'])} (N = {evaluation[merit]['all']['n']:,})"
            for merit in ("completeness", "purity", "unrecognized", "centroid")
        )
        print(f"{name}: {shares}; {1000 * evaluation['seconds']:.0f} ms a field")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    if given.figure:
        given.figure.write_bytes(to_png(detection_performance(found), dpi=110))


if __name__ == "__main__":
    main()
