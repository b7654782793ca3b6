"""The page `field_shear`: shear of whole fields, detection inside, ours beside the peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deblend_assets.science.field_shear.names import TITLES, WORDS
from deblend_assets.science.field_shear.verdicts import REQUIRED_C, REQUIRED_M, verdict
from deblend_assets.science.reports.page import Picture, Section, render_report
from deblend_assets.science.statistics.format import Cell, Table, format_measure

Evaluation = Mapping[str, Any]
CAPTIONS = {
    "methods": "m and c of every method, each calibrated by its own response; jack-knife errors over fields. Shaded: "
    "the bars.",
    "errors": "Errors of m and c of our estimate against the number of fields, measured; lines: the inverse root of "
    "the number, from the last point.",
    "bins": "m and c of our estimate in bins, mean of both components. Cuts on measured quantities are made in each of "
    "metadetection's catalogues, so that the response contains them.",
}


def field_shear_report(evaluation: Evaluation, pictures: Mapping[str, bytes], provenance: Mapping[str, str]) -> str:
    """One HTML page.

    Args:
        evaluation: of `evaluate_fields`, by survey.
        pictures: PNG bytes: `methods`, `errors` and `bins_{survey}`.
        provenance: what the numbers were made from.
    """
    show = {name: Picture(png, CAPTIONS[name.split("_")[0]]) for name, png in pictures.items()}
    overview = Section(
        "Is it better than what I run, on fields, with detection?",
        [
            "Fields of test galaxies and stars, with masks and a PSF that varies, are observed four times: under a "
            "shear of both signs on one component, upright and turned by 90°. Galaxies and noise are the same in all "
            "four. ⟨ĝ⟩ = (1 + m) g + c with ĝ = ⟨g⟩ / R; shear-type, pixel frame. R is of the same images: it "
            "contains detection, selection, PSF and masks.",
            "n_eff = (σ_g / σ(ĝ))² an arcmin² of unmasked sky: σ_g is the RMS a component of the true g of the fields' "
            "galaxies, σ(ĝ) the jack-knife error of the mean of a component over upright fields at one sign of the "
            "shear. Ratios are of the same fields; a ratio within its error of 1 is a tie.",
        ],
        [Table(("method", "settings and cuts"), [(TITLES[name], words) for name, words in WORDS.items()])],
        [show[name] for name in ("methods", "errors") if name in show],
    )
    sections = [overview]
    for survey, of in evaluation.items():
        tables = [_noise(of), _wrong_psf(of), _slices(of), _bins(of), _cost(of)]
        chosen = [show[f"bins_{survey}"]] if f"bins_{survey}" in show else []
        sections.append(
            Section(f"What changes m and c? {survey}", [_population(of)], [t for t in tables if t.rows], chosen)
        )
    return render_report("Shear of whole fields", _summary(evaluation), sections, provenance)


def _summary(evaluation: Evaluation) -> Table:
    rows: list[list[Cell]] = []
    for survey, of in evaluation.items():
        for method, found in of["methods"].items():
            whole = found["all"]
            rows.append(
                [
                    f"{survey}: {TITLES[method]}",
                    f"{found['fields']:,}",
                    *(format_measure(whole[name], 1e3) for name in ("m1", "m2")),
                    *(format_measure(whole[name], 1e4) for name in ("c1", "c2")),
                    f"{verdict(whole['m'], REQUIRED_M)}, {verdict(whole['c'], REQUIRED_C)}",
                    found["leakage"],
                    found["n_eff"],
                    found.get("ours_over_this", "–"),
                ]
            )
    return Table(
        (
            "survey: method",
            "fields",
            "m1 [10⁻³]",
            "m2 [10⁻³]",
            "c1 [10⁻⁴]",
            "c2 [10⁻⁴]",
            "bars of m, c",
            "leakage α",
            "n_eff [arcmin⁻²]",
            "n_eff, ours / this",
        ),
        rows,
        note=f"Bars: |m| ≤ {REQUIRED_M:g}, |c| ≤ {REQUIRED_C:g}, within the figure's own error, mean of both "
        "components; not known where the error exceeds the bar. Jack-knife errors over fields, of n_eff bootstrap. α = "
        "∂c/∂g(PSF).",
    )


def _population(of: Evaluation) -> str:
    return (
        f"{of['fields']:,} fields, {of['area']:.1f} arcmin² of unmasked sky, {of['galaxies']:,} true galaxies with "
        f"σ_g = {of['sigma_g']:.3f} a component."
    )


def _noise(of: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [TITLES[method], name, f"{part['fields']:,}", format_measure(part["m"], 1e3), format_measure(part["c"], 1e4)]
        for method, found in of["methods"].items()
        for name, part in found["noise"].items()
    ]
    return Table(("method", "noise", "fields", "m [10⁻³]", "c [10⁻⁴]"), rows, "White and correlated noise")


def _wrong_psf(of: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [
            TITLES[method],
            change["words"],
            f"{change['fields']:,}",
            *(format_measure(change[name], 1e3) for name in ("m1", "m2")),
            *(format_measure(change[name], 1e4) for name in ("c1", "c2")),
        ]
        for method, found in of["methods"].items()
        for change in found["changes"].values()
    ]
    names = ("change of m1 [10⁻³]", "change of m2 [10⁻³]", "change of c1 [10⁻⁴]", "change of c2 [10⁻⁴]")
    return Table(
        ("method", "condition", "fields", *names),
        rows,
        "A PSF that is given wrongly",
        "The same pixels, so that a change is known better than m or c. e: distortion of the PSF.",
    )


def _slices(of: Evaluation) -> Table:
    names = ("response", "share", "responding", "response_less_responding")
    rows: list[list[Cell]] = [
        [
            TITLES[method],
            row["words"],
            f"{row['fields']:,}",
            f"{row['detections']:,}",
            *(format_measure(row[name]) for name in names),
        ]
        for method, found in of["methods"].items()
        for row in found["slices"]
    ]
    columns = ("mean shear / applied", "share of the weights", "share of the response", "shear less share of response")
    return Table(
        ("method", "z that is sheared", "fields", "detections", *columns),
        rows,
        "Shear of one redshift slice alone",
        "Mean shear of the whole selection, over the applied one: n_γ of the slice; its sum over the slices is 1 + m. "
        "Shares of the detections whose true target lies in the slice, in the same fields with all galaxies sheared; "
        "stars and detections without a source are in neither. Share of the weights: n(z). Share of the response: n_γ "
        "without blends of both slices and without m. Faint galaxies respond less than they weigh.",
    )


def _bins(of: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [
            TITLES[method],
            row["words"],
            row["bin"],
            f"{row['detections']:,}",
            format_measure(row["m"], 1e3),
            format_measure(row["c"], 1e4),
        ]
        for method, found in of["methods"].items()
        for row in found["bins"]
    ]
    return Table(
        ("method", "quantity", "bin", "detections", "m [10⁻³]", "c [10⁻⁴]"),
        rows,
        "In bins",
        "Mean of both components; detections of all four images of each field.",
    )


def _cost(of: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [
            TITLES[method],
            f"{found['seconds']:.1f}",
            f"{found['milliseconds']:.2f}",
            f"{found['detections'] / found['fields'] / 4:.1f}",
            f"{found['failures']:.2%}",
        ]
        for method, found in of["methods"].items()
    ]
    return Table(
        ("method", "CPU time a field [s]", "a detection [ms]", "selected an image", "failures"),
        rows,
        "Cost and failures",
        "One core, all four images of a field and all catalogues; detections of all catalogues. Failures: detections "
        "without a shape.",
    )
