"""The figure of a training: its losses, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deblend_assets.science.reports.figures.style import BLUE, ORANGE, legend_below, new_figure, plain_log_ticks
from deblend_assets.science.statistics.format import format_number

_LOSSES = {
    "total": "total loss",
    "reconstruction": "reconstruction loss",
    "kl": "KL divergence [nat]",
    "nll": "-ln likelihood [nat]",
    "squares": "squared error / expected",
}


def loss_curves(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Losses of training and validation, a panel each (the report's Fig. 22 and 23), and the learning rate.

    One epoch makes no curve: its losses are shown side by side, training and validation, and the learning rate stands
    in the title.

    Args:
        history: one row an epoch, of `training.TrainingResult`: `epoch`, `train_<loss>`, `validation_<loss>` for
            "total" and, of a VAE, "reconstruction" and "kl"; `learning_rate` at the epoch's end.
        title: what was trained.
    """
    losses = {name: label for name, label in _LOSSES.items() if f"train_{name}" in history[0]}
    return _one_epoch(history[0], losses, title) if len(history) == 1 else _curves(history, losses, title)


def _one_epoch(row: Mapping[str, float], losses: Mapping[str, str], title: str) -> Figure:
    figure = new_figure(2.1 * len(losses) + 0.6, 2.9)
    for axis, (name, label) in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses.items(), strict=True):
        for at, (part, colour, marker) in enumerate((("train", BLUE, "o"), ("validation", ORANGE, "s"))):
            value = row[f"{part}_{name}"]
            axis.plot(at, value, marker, color=colour, markersize=8)
            axis.annotate(
                format_number(value), (at, value), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9
            )
        axis.set_xticks((0, 1), ("training", "validation"), fontsize=9)
        axis.set_xlim(-0.6, 1.6)
        axis.margins(y=0.4)
        axis.set_ylabel(label)
        axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axis.ticklabel_format(axis="y", useOffset=False)
    rate = f", learning rate {row['learning_rate']:.3g} at its end" if "learning_rate" in row else ""
    figure.suptitle(f"{title}: one epoch{rate}", fontsize=11)
    return figure


def _curves(history: Sequence[Mapping[str, float]], losses: Mapping[str, str], title: str) -> Figure:
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["validation_total"])
    rated = "learning_rate" in history[0]
    panels = len(losses) + rated
    columns = min(panels, 2 if panels == 4 else 3)
    rows = -(-panels // columns)
    figure = new_figure(4.2 * columns if columns < 3 else 8.4, 0.7 + 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[panels:]:
        axis.set_axis_off()
    for axis, (name, label) in zip(axes, losses.items(), strict=False):
        for part, colour, style in (("train", BLUE, "o-"), ("validation", ORANGE, "s--")):
            values = [row[f"{part}_{name}"] for row in history]
            axis.plot(epochs, values, style, color=colour, markersize=3, label="training" if part == "train" else part)
        # The KL divergence may rise and fall within a factor of two: a linear axis shows that better.
        if name != "kl" and all(row[f"{part}_{name}"] > 0 for row in history for part in ("train", "validation")):
            axis.set_yscale("log")
            plain_log_ticks(axis, "y")
        axis.axvline(best["epoch"], color="0.5", linewidth=0.9, linestyle=":", label="kept: lowest validation total")
        axis.set_ylabel(label)
    if rated:
        axes[panels - 1].plot(epochs, [row["learning_rate"] for row in history], ".-", color="0.3")
        axes[panels - 1].set(ylabel="learning rate", yscale="log")
    for axis in axes[:panels]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    legend_below(figure)
    figure.suptitle(title, fontsize=11)
    return figure
