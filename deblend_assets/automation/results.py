"""Key figures of what is materialised and where the reports lie: the last lines of the targets of the Makefile.

Every function returns lines for a terminal, from the `numbers.json` beside a report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deblend_assets.automation.jobs import LSST_GROUPS
from deblend_assets.errors import MissingDataError, SettingsError
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.statistics.format import format_measure, format_number
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.field_catalogs import FITS, PAGE
from deblend_assets.stores.fields import CATALOG, FieldsStore, field_name
from deblend_assets.stores.files import is_file, read_json
from deblend_assets.stores.folders import matching
from deblend_assets.stores.project import ProjectStore, read_evaluation
from deblend_assets.stores.tiles import FIELD_NUMBERS, FIELD_REPORT

UI = "lineage: make ui, then http://127.0.0.1:3000/asset-groups"


def shape_results(store: ProjectStore) -> list[str]:
    """The shape posterior on held-out blends: its errors, and the slopes of the likelihood-only estimate."""
    folder = store.report_folder("shapes")
    evaluation = read_evaluation(folder / "numbers.json")
    e, g = evaluation["e"], evaluation["g"]
    slopes = _each(g["likelihood"], "slope", "g1", "g2")
    return [
        f"shape posterior, {evaluation['n']:,} held-out blends:",
        f"  RMS error a component: e {_both(e['posterior'])}, g {_both(g['posterior'])}",
        f"  likelihood-only estimate (prior divided out): slopes {slopes}",
        f"  report:  {folder / 'report.html'}",
    ]


def deblender_results(store: ProjectStore, name: str = "evaluation") -> list[str]:
    """The deblended images and the stage-3 regressor on held-out blends.

    Args:
        store: of the profile.
        name: of the report's folder.
    """
    folder = store.report_folder(name)
    evaluation = read_evaluation(folder / "numbers.json")
    regressor = evaluation["estimators"]["regressor"]
    ssim, cosine = (
        format_measure(evaluation["similarity"][kind]["images"]["stage2"]["mean"]) for kind in ("ssim", "cosine")
    )
    scatter = format_number(evaluation["label_scatter"]["both"]["value"])
    return [
        f"deblended images, {evaluation['scenes']:,} held-out blends: SSIM {ssim}, cosine {cosine} (Eq. 9 space)",
        f"stage-3 regressor: RMS error of e {_both(regressor)} a component (label scatter {scatter}), "
        f"slopes {_each(regressor, 'slope', 'e1', 'e2')}",
        f"  report:  {folder / 'report.html'}",
    ]


def evaluated_tiles(store: ProjectStore) -> list[str]:
    """Names of the tiles that have an evaluation, sorted."""
    return sorted(path.parent.name for path in matching(DesStore(store).tiles_folder, "*/numbers.json"))


def tile_results(store: ProjectStore, tile: str) -> list[str]:
    """One evaluated tile: g against im3shape's and, of a simulated tile, positions and fluxes against the truth.

    Args:
        store: of the profile.
        tile: its name.

    Raises:
        MissingDataError: it has no evaluation.
    """
    folder = DesStore(store).tiles_folder / tile
    if not (folder / "numbers.json").exists():
        raise MissingDataError(f"{tile} has no evaluation", where=str(folder), remedy=f"make tile TILE={tile}")
    evaluation = read_evaluation(folder / "numbers.json")
    shear, truth = evaluation["im3shape"]["shear"]["both"], evaluation["truth"]
    lines = [
        f"{'tile' if truth is None else 'simulated tile'} {tile}, {evaluation['matched']:,} galaxies:",
        f"  slope of our g on im3shape's {format_measure(shear['slope'])}, with errors in variables "
        f"{format_measure(shear['eiv_slope'])}; signs {evaluation['orientation']}",
    ]
    if truth is not None:
        flux = _each(truth["cutout_flux"], "ratio", *evaluation["bands"])
        offset = format_measure(truth["position"]["median_total"])
        lines.append(f"  against the truth: position off by {offset} arcsec, flux ratio {flux}")
    return [*lines, f"  report:  {folder / 'report.html'}", f"  shapes:  {folder / 'shape_catalog.fits'}"]


def field_results(store: ProjectStore, name: str) -> list[str]:
    """One measured field: its rows, what its card says, and where catalogue and page lie.

    Args:
        store: of the profile.
        name: of the field.

    Raises:
        MissingDataError: it has no catalogue.
    """
    field = FieldsStore(store).field(name)
    counts, *others = field.record(CATALOG)["summary"]
    return [
        f"field {name}: {counts}",
        *(f"  {line}" for line in others),
        f"  catalog: {field.folder / FITS}",
        f"  quality: {field.folder / PAGE}",
    ]


def compared_fields(store: ProjectStore, names: Sequence[str]) -> list[str]:
    """Those of some fields that are tiles and compared with im3shape."""
    tiles = DesStore(store).tiles_folder
    return [name for name in names if is_file(tiles / name / FIELD_NUMBERS)]


def comparison_results(store: ProjectStore, name: str) -> list[str]:
    """A tile's field against im3shape: how many match, and the slopes of g.

    Args:
        store: of the profile.
        name: one of `compared_fields`.
    """
    folder = DesStore(store).tiles_folder / name
    evaluation = read_evaluation(folder / FIELD_NUMBERS)
    shear = evaluation["im3shape"]["shear"]["both"]
    return [
        f"field {name} and im3shape: {evaluation['matched']:,} of {evaluation['reference']:,} galaxies match, "
        f"{evaluation['good']:,} without a flag",
        f"  slope of our g on im3shape's {format_measure(shear['slope'])}, with errors in variables "
        f"{format_measure(shear['eiv_slope'])}; signs {evaluation['orientation']}",
        f"  report:  {folder / FIELD_REPORT}",
    ]


def tiles_and_fields(store: ProjectStore, what: str, *, whole: bool) -> tuple[list[str], list[str]]:
    """The tiles and fields of a target of the Makefile, or the one that is named.

    Args:
        store: of the profile.
        what: of `results_of`, else the name of a tile or field, or a field.toml.
        whole: whether it is a target.

    Raises:
        SettingsError: neither a target, a tile nor a field.
    """
    fields = FieldsStore(store)
    if whole:
        measured = is_file(fields.field(fields.simulated).path(CATALOG))
        return (
            evaluated_tiles(store) if what in ("des", "demo") else [],
            [fields.simulated] if what == "demo" and measured else [],
        )
    if what.endswith(".toml"):
        # Not at the top: it loads GalSim and astropy.
        from deblend_assets.stores.field_files import read_field_file

        return [], [field_name(read_field_file(Path(what)).name)]
    there: list[str] = []
    with contextlib.suppress(SettingsError):
        there = [what] if is_file(fields.field(field_name(what)).path(CATALOG)) else []
    try:
        tile = tile_name(what)
    except SettingsError:
        if there:
            return [], there
        raise
    # A tile may be a field too.
    evaluated = is_file(DesStore(store).tile(tile).folder / "numbers.json")
    return [tile] if evaluated or not there else [], there


def referee_results(store: ProjectStore) -> list[str]:
    """Every method's shape error on the same LSST blends, and the shear calibration of posterior means."""
    from deblend_assets.science.evaluation.shear import METHODS, with_image_response

    peers = read_json(store.report_folder("peer_comparison") / "numbers.json")["headline"]
    errors = {n.removeprefix("rms_e_"): v for n, v in peers.items() if n.startswith("rms_e_") and "_error" not in n}
    lines = [
        f"{peers['scenes']:,} test blends, RMS error of the observed distortion e a component:",
        *(f"  {value:.4f}  {method}" for method, value in sorted(errors.items(), key=lambda item: item[1])),
    ]
    for survey, folder in (("LSST", "shear_calibration"), ("DES", "des_shear_calibration")):
        shear = read_evaluation(store.report_folder(folder) / "numbers.json")
        lines.append(f"{survey}, {shear['n']['blended']:,} scenes, biases calibrated by the response of the images:")
        for method in with_image_response(shear):
            calibrated = shear["methods"][method]["image_response"]["calibrated"]
            biases = ", ".join(f"{name} {format_measure(calibrated[name])}" for name in ("m1", "m2", "c1", "c2"))
            lines.append(f"  {METHODS[method]}: {biases}")
    lines.append(f"  report:  {store.report_folder('referee') / 'report.html'}")
    return [*lines, *field_shear_results(store)]


def field_shear_results(store: ProjectStore) -> list[str]:
    """m, c and n_eff of every method in whole fields of known shear; nothing where none is measured."""
    from deblend_assets.science.field_shear.names import TITLES

    path = store.report_folder("field_shear") / "numbers.json"
    if not is_file(path):
        return []
    lines = []
    for survey, of in read_evaluation(path).items():
        lines.append(f"{survey}, {of['fields']:,} whole fields, detection in the response:")
        for method, found in of["methods"].items():
            biases = ", ".join(f"{name} {format_measure(found['all'][name])}" for name in ("m1", "m2", "c1", "c2"))
            lines.append(f"  {TITLES[method]}: {biases}, n_eff {format_measure(found['n_eff'])} per square arcmin")
    return [*lines, f"  report:  {path.parent / 'report.html'}"]


def worlds_results(store: ProjectStore) -> list[str]:
    """Every method in the world of LSST's skies: slope of g, and silent failures, of galaxies without a blend."""
    from deblend_assets.science.evaluation.world_groups import SINGLE
    from deblend_assets.science.evaluation.world_methods import title_of

    folder = store.report_folder("worlds")
    world = read_evaluation(folder / "numbers.json")["sky_lsst"]
    lines = [f"sky_lsst, {world['galaxies']:,} galaxies, one source over a tenth of the light:"]
    for name, method in world["methods"].items():
        group = method["groups"].get(SINGLE)
        if group is not None:
            slope, silent = format_measure(group["g"]["slope"]), format_measure(group["silent"])
            lines.append(f"  slope of g {slope}, silent failures {silent}: {title_of(name)}")
    return [*lines, f"  report:  {folder / 'report.html'}"]


def results_of(store: ProjectStore, what: str) -> tuple[tuple[str, ...], list[str]]:
    """Groups of assets behind a target of the Makefile, and what they gave, without tiles and fields.

    Args:
        store: of the profile.
        what: "lsst", "des", "demo" (both), "baseline", "worlds" or "referee"; another word has neither groups nor
            lines.
    """
    if what in ("lsst", "demo"):
        groups = _LSST if what == "lsst" else (*_LSST, "sky_shapes", "worlds")
        return groups, [*shape_results(store), *deblender_results(store)]
    if what == "des":
        return ("simulation",), []
    if what == "baseline":
        return ("baseline",), deblender_results(store, "baseline")
    if what == "worlds":
        return ("worlds",), worlds_results(store)
    return (("referee", "field_shear"), referee_results(store)) if what == "referee" else ((), [])


# First parts of the keys of what `make lsst` makes.
_LSST = ("simulated", *LSST_GROUPS)


def _both(estimator: Mapping[str, Any]) -> str:
    return format_measure(estimator["both"]["rms"])


def _each(found: Mapping[str, Any], measure: str, *names: str) -> str:
    return ", ".join(f"{name} {format_measure(found[name][measure])}" for name in names)
