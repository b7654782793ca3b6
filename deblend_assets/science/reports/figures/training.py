"""The figure of a training: its losses, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deblend_assets.science.reports.figures.style import BLUE, ORANGE, new_figure

_LOSSES = {
    "total": "total loss",
    "reconstruction": "reconstruction loss",
    "kl": "KL divergence [nat]",
    "nll": "-ln likelihood [nat]",
    "squares": "squared error / expected",
}


def loss_curves(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Losses of training and validation, a panel each (the report's Fig. 22 and 23), and the learning rate.

    Args:
        history: one row an epoch, of `training.TrainingResult`: `epoch`, `train_<loss>`, `validation_<loss>` for
            "total" and, of a VAE, "reconstruction" and "kl"; `learning_rate` at the epoch's end.
        title: what was trained.
    """
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["validation_total"])
    losses = {name: label for name, label in _LOSSES.items() if f"train_{name}" in history[0]}
    rated = "learning_rate" in history[0]
    panels = len(losses) + rated
    # At 90 dots an inch four panels are as wide as the UI's dialog.
    figure = new_figure(3.1 * panels, 3.2)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis, (name, label) in zip(axes, losses.items(), strict=False):
        for part, colour, style in (("train", BLUE, "o-"), ("validation", ORANGE, "s--")):
            values = [row[f"{part}_{name}"] for row in history]
            axis.plot(epochs, values, style, color=colour, markersize=3, label="training" if part == "train" else part)
        # The KL divergence may rise and fall within a factor of two: a linear axis shows that better.
        if name != "kl" and all(row[f"{part}_{name}"] > 0 for row in history for part in ("train", "validation")):
            axis.set_yscale("log")
        axis.axvline(best["epoch"], color="0.5", linewidth=0.9, linestyle=":", label="kept: least validation total")
        axis.set_ylabel(label)
    axes[0].legend(fontsize=7)
    if rated:
        axes[-1].plot(epochs, [row["learning_rate"] for row in history], ".-", color="0.3")
        axes[-1].set(ylabel="learning rate", yscale="log")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    figure.suptitle(title, fontsize=11)
    return figure
