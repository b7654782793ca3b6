"""Markdown summaries of the deblender, the tiles and the referee: the key figures with ± and units.

The UI shows Markdown without a click only below 1,000 characters: each summary stays below.
"""

from __future__ import annotations

from deblend_assets.science.evaluation.comparison import FLOOR, title_of
from deblend_assets.science.evaluation.shear import METHODS
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import Cell, Table, format_measure


def deblender_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.deblender.evaluate`: reconstruction and regressor on held-out blends."""
    regressor, label = evaluation["estimators"]["regressor"], evaluation["label_band"]
    similarity = {kind: evaluation["similarity"][kind]["images"] for kind in ("ssim", "cosine")}
    rows: list[tuple[Cell, ...]] = [
        ("SSIM, deblended", similarity["ssim"]["stage2"]["mean"], similarity["ssim"]["blend"]["mean"]),
        ("cosine, deblended", similarity["cosine"]["stage2"]["mean"], similarity["cosine"]["blend"]["mean"]),
        ("RMS Δe per component, regressor", regressor["both"]["rms"], evaluation["label_scatter"]["both"]),
        ("slope e1, regressor", regressor["e1"]["slope"], ""),
        ("slope e2, regressor", regressor["e2"]["slope"], ""),
        (f"flux error {label}, median", evaluation["flux_error"][label]["median"], ""),
    ]
    return _summary(
        f"{evaluation['scenes']:,} held-out blends; SSIM and cosine in Eq. 9 space against the isolated truth.",
        Table(("figure", "value", "blend, or scatter of e"), rows),
    )


def tile_summary(evaluation: Evaluation, *, simulated: bool) -> str:
    """Of `evaluation.tile.evaluate_tile`: our shapes against im3shape's and, where it is known, the truth."""
    shear, truth = evaluation["im3shape"]["shear"]["both"], evaluation["truth"]
    rows: list[tuple[Cell, ...]] = [
        ("slope of g on im3shape", shear["slope"]),
        ("slope, errors in variables", shear["eiv_slope"]),
        ("signs against im3shape", evaluation["orientation"]),
    ]
    if truth is not None:
        rows += [
            ("slope of g1 on the truth", truth["shapes"]["g"]["g1"]["slope"]),
            ("slope of g2 on the truth", truth["shapes"]["g"]["g2"]["slope"]),
            ("RMS error of g per component", truth["shapes"]["g"]["both"]["rms"]),
            ("position offset [arcsec]", truth["position"]["median_total"]),
        ]
    kind = "Simulated tile" if simulated else "Tile"
    return _summary(
        f"{kind}, {evaluation['matched']:,} galaxies matched to im3shape.", Table(("figure", "value"), rows)
    )


def peer_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.comparison.evaluate_peers`: RMS errors of every method on the same blends."""
    rows: dict[str, dict[str, Cell]] = {
        title_of(method): {
            "RMS Δe": found["groups"]["all"]["e"]["rms"],
            # A few unresolved galaxies dominate the RMS of the floor of g.
            "RMS Δg": "" if method == FLOOR else found["groups"]["all"]["g"]["rms"],
            "ms": found.get("milliseconds", ""),
        }
        for method, found in evaluation["methods"].items()
    }
    return _summary(
        f"{evaluation['n']:,} test blends. Per component; ms: time per galaxy on one core.", Table.of(rows, "method")
    )


def shear_summary(evaluation: Evaluation) -> str:
    """Of `evaluation.shear.evaluate_shear`: calibrated biases of every method."""
    biases = ("m1", "m2", "c1", "c2")
    rows: dict[str, dict[str, Cell]] = {
        METHODS[method]: {name: _bias(found["calibrated"][name], name) for name in biases}
        for method, found in evaluation["methods"].items()
    }
    by_images = evaluation["image_response"]["calibrated"]
    rows["posterior, response from images"] = {name: _bias(by_images[name], name) for name in biases}
    table = Table.of(rows, "calibrated")
    return _summary(f"{evaluation['n']['blended']:,} scenes. m in 1e-3, c in 1e-4; jack-knife errors.", table)


def _bias(measure: Evaluation, name: str) -> str:
    return format_measure(measure, 1e3 if name[0] == "m" else 1e4)


def _summary(head: str, table: Table, *more: str) -> str:
    return "\n\n".join([head, _narrow(table), *more])


def _narrow(table: Table) -> str:
    """The table in Markdown without the spaces that align its source: they count as characters."""
    rule = ["---"] * len(table.columns)
    return "\n".join(f"|{'|'.join(line)}|" for line in ([*table.columns], rule, *table.cells))
