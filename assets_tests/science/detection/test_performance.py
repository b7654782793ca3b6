"""Figures of merit: on tables whose answer is known, and of the detection on a field."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from assets_tests.science.detection.images import FWHM, sources
from deblend_assets.errors import MismatchError
from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.detection.light import light_of_pieces, nearby, sum_weights, true_snr
from deblend_assets.science.detection.performance import EDGES, detection_table, performance, source_table
from deblend_assets.science.detection.truth import NEAR_FWHM, match
from deblend_assets.science.reports.figures.detection import detection_performance, detections_on_image
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.stamps.source_light import SourceLight


def found_at(x: list[float], y: list[float], snr: list[float]) -> Detections:
    return Detections(pd.DataFrame({"x": x, "y": y, "snr": snr}), np.zeros((9, 9), np.int32), FWHM)


def tables(light: list[list[float]], snr: list[float], measured: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sources along a line, 2 FWHM apart, and detections half a pixel to the right of the first of them."""
    x, y = 2 * FWHM * np.arange(len(snr)), np.zeros(len(snr))
    truth = match(csr_array(np.array(light)), csr_array(np.ones(np.shape(light))), np.zeros(len(snr), bool), 1.0)
    rows = source_table(x, y, snr, 20.5 + np.arange(len(snr)), FWHM, truth)
    found = found_at([2 * FWHM * n + 0.5 for n in range(len(measured))], [0.25] * len(measured), measured)
    return rows, detection_table(found, rows, x, y, truth)


def test_rows_of_sources_and_detections() -> None:
    # Three sources; the second detection is spurious, the third a shred of the first source.
    rows, found = tables([[50, 6, 0], [0, 0, 0], [40.0, 0, 0]], [30, 20, 1], [29, 12, 11])
    assert rows["detected"].tolist() == [True, False, False]
    assert rows["separation"].tolist() == [2.0, 2.0, 2.0], "from the nearest other source of S/N 3"
    assert found["pure"].tolist() == [True, False, False]
    assert found["spurious"].tolist() == [False, True, False]
    assert found["shred"].tolist() == [False, False, True]
    assert found["unrecognized"].tolist() == [True, False, False]
    assert found["dx"].tolist()[0] == 0.5
    assert found["dy"].tolist()[0] == 0.25
    assert np.isnan(found[["dx", "magnitude", "separation"]].to_numpy()[1]).all()
    assert found["dx"].tolist()[2] == pytest.approx(4 * FWHM + 0.5), "a shred's offset is from its target"


def test_a_faint_source_is_no_neighbour_and_one_alone_has_none() -> None:
    truth = match(csr_array((0, 2)), csr_array((0, 2)), np.zeros(2, bool), 1.0)
    assert source_table([0, 4], [0, 0], [10, 2], [20, 20], 4.0, truth)["separation"].tolist() == [np.inf, 1.0]
    truth = match(csr_array((0, 1)), csr_array((0, 1)), np.zeros(1, bool), 1.0)
    assert source_table([0], [0], [10], [20], 4.0, truth)["separation"].tolist() == [np.inf]


def test_shares_totals_bins_and_errors() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    rows = pd.DataFrame(
        {
            "snr": rng.uniform(5, 60, n),
            "magnitude": rng.uniform(20, 28, n),
            "separation": rng.uniform(0.3, 6, n),
            "detected": rng.random(n) < 0.8,
        }
    )
    found = rows.drop(columns="detected").assign(
        dx=rng.normal(0, 0.2, n), dy=rng.normal(0, 0.2, n), spurious=False, shred=False, unrecognized=False
    )
    found["pure"] = rng.random(n) < 0.95
    result = performance(rows, found)
    bright = rows[rows["snr"] >= 10]
    assert result["completeness"]["all"]["n"] == len(bright)
    assert result["completeness"]["all"]["value"] == pytest.approx(bright["detected"].mean())
    assert result["completeness"]["all"]["error"] == pytest.approx(np.sqrt(0.16 / len(bright)), rel=0.05)
    assert result["centroid"]["all"]["value"] == pytest.approx(0.2, rel=0.05)
    for merit in ("completeness", "purity", "unrecognized", "centroid"):
        for by, edges in EDGES.items():
            assert len(result[merit][by]) == len(edges) - 1
    assert sum(b["n"] for b in result["completeness"]["snr"]) == n, "bins of S/N go below the limit"
    assert sum(b["n"] for b in result["completeness"]["magnitude"]) == len(bright)
    assert result["unrecognized"]["all"]["value"] == 0
    assert result["unrecognized"]["all"]["error"] > 0


def test_nothing_gives_none_and_infinity_is_in_the_last_bin() -> None:
    rows = pd.DataFrame({"snr": [20.0], "magnitude": [22.5], "separation": [np.inf], "detected": [True]})
    found = pd.DataFrame(columns=["snr", "magnitude", "separation", "dx", "dy", "pure", "unrecognized"]).astype(
        {"pure": bool, "unrecognized": bool, "snr": float, "magnitude": float, "separation": float}
    )
    result = performance(rows, found)
    assert result["purity"]["all"] == {"n": 0, "value": None, "error": None}
    assert result["completeness"]["separation"][-1]["n"] == 1
    assert result["completeness"]["separation"][-1]["high"] is None


def test_tables_of_another_field_are_refused() -> None:
    truth = match(csr_array((1, 2)), csr_array((1, 2)), np.zeros(2, bool), 1.0)
    with pytest.raises(MismatchError):
        source_table([0], [0], [10], [20], 4.0, truth)
    rows = source_table([0, 1], [0, 1], [10, 9], [20, 20], 4.0, truth)
    with pytest.raises(MismatchError):
        detection_table(found_at([], [], []), rows, [0, 1], [0, 1], truth)


def test_pairs_far_apart_are_found_and_close_ones_are_unrecognised() -> None:
    """The whole chain: pairs of stars 0.5 FWHM apart merge, those 2 FWHM apart do not; nothing else is found."""
    rng = np.random.default_rng(8)
    apart = np.array([0.5, 2.0])[np.arange(16) % 2] * FWHM
    x0, y0 = (20.0 + 40 * grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(4)))
    x, y = np.concatenate([x0 - apart / 2, x0 + apart / 2]), np.concatenate([y0, y0])
    pieces = [
        SourceLight(sources(41, [20 + i % 1], [20 + j % 1], [2000.0])[None], int(i // 1) - 20, int(j // 1) - 20)
        for i, j in zip(x, y, strict=True)
    ]
    images = sources(180, list(x), list(y), [2000.0] * len(x))[None]
    images = images + rng.normal(size=images.shape).astype(np.float32)
    ivar = np.ones_like(images)
    found = detect(images, ivar, [FWHM], ["r"])
    weights, noise = sum_weights(ivar)
    light = light_of_pieces(found.table["x"], found.table["y"], found.fwhm, pieces, weights)
    near = nearby(found.table["x"], found.table["y"], x, y, NEAR_FWHM * found.fwhm)
    truth = match(light, near, np.ones(len(x), bool), noise * np.sqrt(np.pi) * found.fwhm)
    snr = [true_snr(piece, ivar) for piece in pieces]
    rows = source_table(x, y, snr, np.full(len(x), 22.0), found.fwhm, truth)
    merits = performance(rows, detection_table(found, rows, x, y, truth))
    assert merits["purity"]["all"]["value"] == 1.0
    assert merits["completeness"]["all"]["value"] == 0.75, "one of each close pair"
    close, far = (merits["unrecognized"]["separation"][k] for k in (0, 4))
    assert (close["n"], close["value"]) == (8, 1.0)
    assert (far["n"], far["value"]) == (16, 0.0)
    assert merits["centroid"]["separation"][4]["value"] < 0.15


def test_figures_show_what_they_are_given() -> None:
    rows, found = tables([[50, 6, 0], [0, 0, 0], [40.0, 0, 0]], [30, 20, 1], [29, 12, 11])
    many = [pd.concat([table] * 20, ignore_index=True) for table in (rows, found)]
    merits = performance(many[0], many[1])
    figure = detection_performance({"one": merits, "other": merits})
    assert len(figure.axes) == 12
    shown = figure.axes[0].containers[0].lines[0].get_ydata()
    assert list(shown) == [b["value"] for b in merits["completeness"]["snr"] if b["n"] >= 5]
    assert to_png(figure, dpi=30).startswith(b"\x89PNG")
    image = np.ones((12, 20), np.float32)
    picture = detections_on_image(image, 0.5, [3.0], [4.0], lost=image[:, :] < 0, title="field")
    np.testing.assert_allclose(picture.axes[0].images[0].get_array(), 2.0)
    assert picture.axes[0].lines[0].get_xydata().tolist() == [[3.0, 4.0]]
