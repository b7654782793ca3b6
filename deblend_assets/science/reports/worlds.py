"""The page `worlds`: methods side by side in every world, against truth, floor and their own errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deblend_assets.science.evaluation.bars import holds
from deblend_assets.science.evaluation.world_groups import ALL, SINGLE
from deblend_assets.science.evaluation.world_methods import METHODS, title_of
from deblend_assets.science.evaluation.worlds import BARS, UNREAL, shortfalls
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.statistics.format import Cell, Table, format_measure

Evaluation = Mapping[str, Any]
UNRECOGNIZED = "sources: unrecognised blend"
CAPTIONS = {
    "over_floor": "Robust σ of the errors over the robust σ of one random draw a galaxy from its Fisher floor, against "
    "S/N: g, e and flux of galaxies with a floor. Bootstrap errors. The floor knows the number and the kind of the "
    "sources; below 1 lies what uses the population.",
    "slopes_g": "Slope of g on the true g, both components together, in groups of the detections; behind each its "
    "number of galaxies, of which a slow method measures the first alone.",
    "slopes_e": "The same of the observed distortion e.",
    "pair_fluxes": "Error of the flux of a source with a neighbour, against their true distance and difference in "
    "magnitude: median and robust σ of estimate over truth. Detections that merge both are among them.",
}
"""Captions of a world's figures; `silent_failures` stands with the summary."""
SILENT_CAPTION = (
    "Share of the galaxies of each world in which g or the flux is off by more than five of the stated errors without "
    "a flag (methods that state errors), share that the method flags, and share without a g. Behind each world its "
    "number of galaxies. Bootstrap errors."
)
# Tables by group: quantity, figure, caption.
_BY_GROUP = {
    ("g", "slope"): "Slope of g by group",
    ("g", "robust_over_floor_population"): "Robust σ of the errors of g over the floor with population, by group",
    ("e", "robust_over_floor_population"): "Robust σ of the errors of e over the floor with population, by group",
    ("flux", "median"): "Median of flux / truth − 1 in the reference band, by group",
}
_DEFINITIONS = (
    "g is the shear-type (a − b)/(a + b) of the galaxy before the PSF. e is the distortion (a² − b²)/(a² + b²) by "
    "adaptive moments of the noiseless galaxy behind its PSF in the reference band, the present one nearest to r. Both "
    "are in the pixel frame. Stars, spurious detections and shreds are left out. Accuracy is that of the rows that a "
    "method gives and does not flag; the shares of the others stand beside it. The shipped networks were trained on e "
    "of unweighted moments and on g by moments that follow a cusp: the difference is part of their errors here.",
    "Over the floor: robust σ (1.4826 MAD) of the errors over that of one random draw a galaxy from its Fisher floor; "
    "the floor with population has the population's scatter as a prior on the target too.",
)


def worlds_report(
    worlds: Mapping[str, Evaluation],
    words: Mapping[str, str],
    figures: Mapping[str, Mapping[str, bytes]],
    silent: bytes | None,
    provenance: Mapping[str, str],
) -> str:
    """One HTML page.

    Args:
        worlds: of `evaluate_world`, by the world's name, in order.
        words: one line on each world.
        figures: PNG bytes by world and name (CAPTIONS).
        silent: PNG bytes of `figures.world_methods.silent_failures`.
        provenance: what the numbers were made from.
    """
    methods = [name for name in METHODS if any(name in world["methods"] for world in worlds.values())]
    methods += [n for n in dict.fromkeys(n for world in worlds.values() for n in world["methods"]) if n not in methods]
    overview = Section(
        "Which methods, and which fail silently?",
        list(_DEFINITIONS),
        [Table(("method", "settings and inputs"), [(title_of(m), METHODS.get(m, ("", ""))[1]) for m in methods])],
        [] if silent is None else [Picture(silent, SILENT_CAPTION)],
    )
    sections = [overview]
    for name, world in worlds.items():
        pictures = [Picture(figures[name][key], CAPTIONS[key]) for key in CAPTIONS if key in figures.get(name, {})]
        tables = [
            _accuracy(world),
            _honesty(world),
            _unreal(world),
            _fluxes(world),
            *(_groups(world, *which, caption) for which, caption in _BY_GROUP.items()),
            _short(world),
        ]
        sections.append(Section(name, [words.get(name, ""), _counts(world), *_psf_cost(world)], tables, pictures))
    return render_report("Methods in the worlds", _summary(worlds, methods), sections, provenance)


def _summary(worlds: Mapping[str, Evaluation], methods: Sequence[str]) -> Table:
    rows = []
    for world, evaluation in worlds.items():
        for method in methods:
            found = evaluation["methods"].get(method)
            group = None if found is None else found["groups"].get(SINGLE)
            if group is not None:
                rows.append(
                    [
                        f"{world}: {title_of(method)}",
                        f"{group['n']:,}",
                        group["g"]["slope"],
                        group["g"].get("robust_over_floor_population"),
                        group["g"]["pull_rms"],
                        _percent(group["flux"]["median"]),
                        _percent(group["silent"]),
                        _percent(group["failed"]),
                    ]
                )
    return Table(
        (
            "world: method",
            "N",
            "slope of g",
            "σ of g / floor with population",
            "RMS pull of g",
            "flux, median error [%]",
            "silent failures [%]",
            "no g [%]",
        ),
        rows,
        "Detections with one source over a tenth of the light",
        "N: galaxies given to the method. Flux of the reference band. A dash: the method gives no such number, or "
        "there are fewer than ten rows.",
    )


def _counts(world: Evaluation) -> str:
    return (
        f"{world['targets']:,} targets: {world['galaxies']:,} galaxies, {world['stars']:,} stars, "
        f"{world['spurious']:,} spurious detections, {world['shreds']:,} shreds of a source that has another "
        f"detection. {world['floors']:,} have a Fisher floor."
    )


def _psf_cost(world: Evaluation) -> list[str]:
    if "psf_cost" not in world:
        return []
    everything, bright = (format_measure(world["psf_cost"][name]) for name in ("all", "bright"))
    return [
        "What PSF knowledge costs: with size and ellipticity of the PSF known within a prior alone (`PSFScatter`), the "
        "floor of g is "
        f"{everything} times as high in the median, {bright} times in the third of highest S/N."
    ]


def _methods(world: Evaluation) -> list[tuple[str, Evaluation]]:
    return list(world["methods"].items())


def _accuracy(world: Evaluation) -> Table:
    rows = []
    for method, found in _methods(world):
        for kind in "ge":
            merit = found["groups"][ALL][kind]
            rows.append(
                [
                    f"{title_of(method)}, {kind}",
                    f"{merit['used']:,}",
                    merit["slope"],
                    merit["rms"],
                    merit["robust_sigma"],
                    merit.get("robust_over_floor"),
                    merit.get("robust_over_floor_population"),
                    merit.get("rms_over_floor_population"),
                ]
            )
    return Table(
        (
            "method",
            "N",
            "slope",
            "RMS error",
            "robust σ",
            "robust σ / floor",
            "robust σ / floor with population",
            "RMS / floor with population",
        ),
        rows,
        "Accuracy of g and e, all galaxies",
        "N: rows that the method gives and does not flag. Errors a component, both pooled.",
    )


def _honesty(world: Evaluation) -> Table:
    rows = []
    for method, found in _methods(world):
        for label, group in (("", found["groups"][ALL]), (", unrecognised blends", found["groups"].get(UNRECOGNIZED))):
            if group is None:
                continue
            rows.append(
                [
                    f"{title_of(method)}{label}",
                    f"{group['n']:,}",
                    group["g"]["pull_mean"],
                    group["g"]["pull_rms"],
                    *(_percent(group["g"][name]) for name in ("within_68", "within_95", "beyond_5")),
                    group["e"]["pull_rms"],
                    *(_percent(group[name]) for name in ("silent", "flagged", "failed")),
                ]
            )
    return Table(
        (
            "method",
            "N",
            "pull of g, mean",
            "pull of g, RMS",
            "within 68 % [%]",
            "within 95 % [%]",
            "beyond 5 errors [%]",
            "pull of e, RMS",
            "silent [%]",
            "flagged [%]",
            "no g [%]",
        ),
        rows,
        "Do the stated errors hold?",
        "A dash: the method states no errors. Silent: g or flux off by more than five errors, no flag.",
    )


def _unreal(world: Evaluation) -> Table:
    rows: list[list[Cell]] = []
    for method, found in _methods(world):
        kinds = [found["unreal"][kind] for kind in UNREAL]
        rows.append(
            [title_of(method), *(cell for kind in kinds for cell in (f"{kind['n']:,}", _percent(kind["withheld"])))]
        )
    return Table(
        ("method", "spurious", "withheld [%]", "shreds", "withheld [%]"),
        rows,
        "Detections that are no galaxy of their own",
        "Withheld: with a flag, or without a g.",
    )


def _fluxes(world: Evaluation) -> Table:
    rows: list[list[Cell]] = []
    for method, found in _methods(world):
        for label, figure in (("median [%]", "median"), ("RMS pull", "pull_rms"), ("off by > 50 % [%]", "lost")):
            measures = [found["fluxes"][band][figure] for band in world["bands"]]
            cells: list[Cell] = [m if figure == "pull_rms" else _percent(m) for m in measures]
            rows.append([f"{title_of(method)}: {label}", *cells])
    return Table(
        ("method: figure", *world["bands"]),
        rows,
        "Flux a band, one source over a tenth of the light",
        "Median of estimate / truth − 1; RMS of the error over the stated one; share off by more than half.",
    )


def _groups(world: Evaluation, kind: str, figure: str, caption: str) -> Table:
    """One figure of every method in every group that has it."""
    methods = _methods(world)
    names = dict.fromkeys(name for _, found in methods for name in found["groups"])
    rows: list[list[Cell]] = []
    for name in names:
        groups = [found["groups"].get(name) for _, found in methods]
        cells: list[Cell] = [None if group is None else group[kind].get(figure) for group in groups]
        rows.append([name, f"{max(group['n'] for group in groups if group is not None):,}", *cells])
    return Table(("group", "N", *(title_of(method) for method, _ in methods)), rows, caption)


def _short(world: Evaluation) -> Table:
    rows: list[list[Cell]] = []
    for bar in BARS:
        cells: list[Cell] = []
        for _, found in _methods(world):
            short, of = shortfalls(found)[bar]
            cells.append(f"{short} of {of}, {'holds' if holds(short, of) else 'short'}" if of else "–")
        rows.append([bar, *cells])
    return Table(
        ("bar", *(title_of(method) for method, _ in _methods(world))),
        rows,
        "Groups that fall short of the bars for the next network",
        "A group falls short when it misses a bar by more than twice its error. The bar holds where at most 1 % do.",
    )


def _percent(measure: Mapping[str, Any]) -> str:
    return format_measure(measure, 100)
