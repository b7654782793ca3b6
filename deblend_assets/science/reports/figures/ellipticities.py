"""Figures of ellipticities, all of them the observed distortion e = (a² - b²)/(a² + b²)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from scipy.ndimage import gaussian_filter

from deblend_assets.science.reports.figures.style import (
    ESTIMATOR_COLOURS,
    ESTIMATOR_LABELS,
    ESTIMATOR_SHORT,
    TRUTH_COLOUR,
    legend_below,
    new_figure,
)
from deblend_assets.science.stamps.conventions import position_angle
from deblend_assets.science.statistics.metrics import line

_SHOWN_POINTS = 3_000
CONTOURS = (0.68, 0.95)  # shares of the errors that the contours hold
_TRUE, _FOUND = "red", "yellow"  # the report's colours; the line styles differ too
_ELLIPSE_RADIUS, _WHISKER = 1.3, 6.0  # [arcsec]; of the circle of e = 0, and a whisker's length at e = 1


def ellipses(
    reconstruction: np.ndarray,
    true_e: np.ndarray,
    found_e: np.ndarray,
    *,
    band: str,
    pixel_scale: float,
    labels: Sequence[str],
) -> Figure:
    """Reconstructions with the true and the regressor's distortion over them (the report's Fig. 12).

    An ellipse has b/a = √((1 - e)/(1 + e)) and the same area for every e; a whisker lies along the major axis, at
    ½ atan2(e2, e1) from +x towards +y, and is as long as e is large.

    Args:
        reconstruction: (N, y, x) [electron].
        true_e, found_e: (N, 2), distortion e1, e2.
        band: of the images.
        pixel_scale: [arcsec/pixel].
        labels: one a scene.
    """
    columns = min(4, len(reconstruction))
    rows = -(-len(reconstruction) // columns)
    figure = new_figure(0.4 + 2.0 * columns, 1.2 + 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(reconstruction) :]:
        axis.set_axis_off()
    for axis, image, true, found, label in zip(axes.flat, reconstruction, true_e, found_e, labels, strict=False):
        half_y, half_x = (0.5 * pixel_scale * side for side in image.shape)
        peak = float(image.max()) or 1.0
        extent = (-half_x, half_x, -half_y, half_y)
        axis.imshow(image, origin="lower", extent=extent, norm=AsinhNorm(0.03 * peak, vmin=0, vmax=peak), cmap="gray")
        _draw_ellipticity(axis, true, _TRUE, "-")
        _draw_ellipticity(axis, found, _FOUND, "--")
        axis.set_title(
            f"{label}\ntrue ({true[0]:+.2f}, {true[1]:+.2f})\nfound ({found[0]:+.2f}, {found[1]:+.2f})", fontsize=8
        )
    for axis in axes[:, 0]:
        axis.set_ylabel("y [arcsec]")
    for axis in axes[-1]:
        axis.set_xlabel("x [arcsec]")
    handles = [Line2D([], [], color=_TRUE), Line2D([], [], color=_FOUND, linestyle="--")]
    legend = figure.legend(
        handles, ["truth", "regressor"], loc="outside lower center", ncols=2, facecolor="0.3", labelcolor="white"
    )
    legend.get_frame().set_alpha(1.0)
    figure.suptitle(f"Distortion e over the reconstruction, band {band}", fontsize=11)
    return figure


def _draw_ellipticity(axis: Axes, distortion: np.ndarray, colour: str, style: str) -> None:
    e = min(float(np.hypot(*distortion)), 0.999)
    if not np.isfinite(e):
        return
    angle = float(position_angle(distortion[0], distortion[1]))
    ratio = ((1 - e) / (1 + e)) ** 0.5
    width, height = 2 * _ELLIPSE_RADIUS / ratio**0.5, 2 * _ELLIPSE_RADIUS * ratio**0.5
    axis.add_patch(
        Ellipse(
            (0, 0), width, height, angle=np.degrees(angle), fill=False, color=colour, linestyle=style, linewidth=1.4
        )
    )
    reach = 0.5 * _WHISKER * e
    x, y = reach * np.cos(angle), reach * np.sin(angle)
    axis.plot([-x, x], [-y, y], color=colour, linestyle=style, linewidth=1.4)


def ellipticity_scatter(estimates: pd.DataFrame) -> Figure:
    """Estimate against truth for e1, e2 and |e|, and the errors' contours (the report's Fig. 15).

    At most 3,000 scenes are shown as points, evenly spaced in the table; lines and contours use all.

    Args:
        estimates: with `e1`, `e2` and `{e1,e2}_{regressor,reconstruction}`.
    """
    figure = new_figure(8.4, 8.4)
    axes = figure.subplots(2, 2)
    truth = _modulus_too(estimates, "")
    known = [estimate for name in ESTIMATOR_COLOURS for estimate in _modulus_too(estimates, f"_{name}")[:2]]
    finite = np.abs(np.concatenate([*truth[:2], *known]))
    reach = float(np.quantile(finite[np.isfinite(finite)], 0.997)) * 1.15
    for axis, name, true, k in zip(axes.flat, ("e1", "e2", "|e|"), truth, range(3), strict=False):
        low = 0.0 if k == 2 else -reach
        high = 1.25 * reach if k == 2 else reach
        slopes: list[str] = []
        axis.plot([low, high], [low, high], color=TRUTH_COLOUR, linewidth=1.0, linestyle=":", label="estimate = truth")
        for order, (estimator, colour) in enumerate(reversed(ESTIMATOR_COLOURS.items())):
            found = _modulus_too(estimates, f"_{estimator}")[k]
            worked = np.isfinite(found) & np.isfinite(true)
            every = max(1, -(-int(worked.sum()) // _SHOWN_POINTS))
            size, alpha = (8, 0.8) if worked.sum() < 200 else (4, 0.4)
            axis.plot(
                true[worked][::every],
                found[worked][::every],
                ".",
                color=colour,
                markersize=size,
                alpha=alpha,
                zorder=1 + order,
                markeredgewidth=0,
            )
            if worked.sum() > 1:
                slope, intercept = line(true[worked], found[worked])
                slopes.append(f"{slope:.2f} ({ESTIMATOR_SHORT[estimator]})")
                ends = np.array([low, high])
                axis.plot(
                    ends,
                    slope * ends + intercept,
                    color=colour,
                    linewidth=1.8,
                    zorder=4,
                    label=ESTIMATOR_LABELS[estimator],
                )
        axis.set(xlim=(low, high), ylim=(low, high), xlabel=f"true {name}", ylabel=f"estimated {name}")
        axis.set_aspect("equal")
        if slopes:
            axis.set_title(f"slope {', '.join(reversed(slopes))}", fontsize=9)
    _error_contours(axes[1, 1], estimates)
    legend_below(figure)
    figure.suptitle("Observed distortion e: estimate against truth", fontsize=11)
    return figure


def _modulus_too(estimates: pd.DataFrame, suffix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e1, e2 = (estimates[f"{c}{suffix}"].to_numpy(dtype=np.float64) for c in ("e1", "e2"))
    return e1, e2, np.hypot(e1, e2)


def _error_contours(axis: Axes, estimates: pd.DataFrame) -> None:
    """Contours that hold the densest 68 and 95 % of the errors of both components."""
    errors = {}
    for estimator in ESTIMATOR_COLOURS:
        pair = np.stack([estimates[f"{c}_{estimator}"] - estimates[c] for c in ("e1", "e2")]).astype(np.float64)
        errors[estimator] = pair[:, np.isfinite(pair).all(axis=0)]
    spread = [np.quantile(np.abs(pair), 0.995) for pair in errors.values() if pair.shape[1]]
    reach = 1.8 * float(max(spread, default=1.0)) or 1.0
    edges = np.linspace(-reach, reach, 161)
    middles = 0.5 * (edges[1:] + edges[:-1])
    for estimator, pair in errors.items():
        colour = ESTIMATOR_COLOURS[estimator]
        density, _, _ = np.histogram2d(pair[0], pair[1], bins=(edges, edges))
        if not density.any():
            continue
        # Twice Silverman's width, in bins: at that width, single errors in the tails would be islands.
        width = np.maximum(2 * pair.std(axis=1) * pair.shape[1] ** (-1 / 6) / (edges[1] - edges[0]), 1.0)
        density = gaussian_filter(density, width)
        # The level that a share of the errors exceeds: what a contour holds does not depend on the smoothing.
        inside = (np.abs(pair) < reach).all(axis=0)
        places = [np.digitize(axis_errors[inside], edges) - 1 for axis_errors in pair]
        levels = np.unique(np.quantile(density[places[0], places[1]], [1 - share for share in CONTOURS]))
        axis.contour(middles, middles, density.T, levels=levels, colors=colour, linewidths=1.5)
        axis.plot(*pair.mean(axis=1), "x", color=colour)
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set(
        xlabel="Δe1 = estimate − truth", ylabel="Δe2 = estimate − truth", xlim=(-reach, reach), ylim=(-reach, reach)
    )
    axis.set_title("contours hold 68 and 95 % of the errors; ×: mean", fontsize=9)
    axis.set_aspect("equal")
