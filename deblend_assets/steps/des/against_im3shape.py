"""Compares the catalogue of a tile's field with im3shape's galaxies, matched by position."""

from __future__ import annotations

from deblend_assets.errors import MissingDataError
from deblend_assets.science.des.orientation import to_west
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.evaluation.field_against_im3shape import evaluate_field, matched_rows
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.tile_shapes import shapes_against_im3shape
from deblend_assets.science.reports.tile_field import headline_rows, tile_field_report
from deblend_assets.steps.des.tile_checks import signs_check
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.summaries import key_figures
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.fields import CATALOG, DETECTIONS, IMAGES, FieldsStore
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.tiles import FIELD_NUMBERS, FIELD_REPORT

_LEAST_MATCHED = 0.75


def compare_field(store: ProjectStore, partition: str) -> Outcome:
    """Match a tile's field with im3shape, and write the page and its numbers.

    Args:
        store: of the profile.
        partition: the tile's name, which is the field's, unchecked.

    Raises:
        MissingDataError: the field's catalogue or im3shape's is missing.
        MismatchError: one was made from other inputs.
    """
    name, des, fields = tile_name(partition), DesStore(store), FieldsStore(store)
    tile, field = des.tile(name), fields.field(name)
    inputs = fields.catalog_inputs(field.record(IMAGES), field.record(DETECTIONS))
    catalog, _ = field.read(CATALOG, inputs)
    # Their frame is +x east, ours +x west.
    reference = to_west(tile.read_table("im3shape_catalog", des.im3shape_inputs()), "e_2", "nbc_c2")
    truth = to_west(tile.read_table("truth", des.im3shape_inputs()), "g2") if des.simulated else None
    matched = matched_rows(catalog, reference)
    if matched.empty:
        raise MissingDataError(
            f"none of {len(reference)} galaxies of im3shape is among {len(catalog)} sources of the field {name}",
            where=str(field.source),
            remedy=f"give that field another name: {name} is a tile's",
        )
    settings = store.profile.evaluation
    evaluation = evaluate_field(
        matched, reference, len(catalog), resamples=settings.bootstrap, seed=settings.seed, truth=truth
    )
    good = matched[matched["flags"] == 0]
    figure = shapes_against_im3shape(good, reference, evaluation, tile=name, simulated=des.simulated)
    provenance = {
        "tile": f"{name}, simulated" if des.simulated else name,
        "profile": store.profile.name,
        "model": store.sky_model_version(),
        "field catalogue": f"{len(catalog):,} sources, inputs {inputs}",
        **library_versions("torch", "galsim", "astropy", "sep", "numpy", "dagster"),
    }
    page = tile_field_report(name, evaluation, to_png(figure), provenance, simulated=des.simulated)
    numbers = tile.write_file(FIELD_NUMBERS, to_json({"evaluation": evaluation, "provenance": provenance}))
    report = tile.write_file(FIELD_REPORT, page.encode())
    share = evaluation["matched"] / evaluation["reference"]
    kind = "Simulated tile" if des.simulated else "Tile"
    lines = [f"{kind}, {evaluation['good']:,} galaxies without a flag."]
    return Outcome(
        summary=key_figures(lines, headline_rows(evaluation)),
        report=report,
        figures={"shapes_against_im3shape": figure},
        numbers={key: evaluation[key] for key in ("sources", "reference", "matched", "good")},
        words={"simulated_tile": des.simulated, "model_version": store.sky_model_version()},
        paths={"numbers": numbers},
        checks=[
            signs_check(evaluation),
            Check(
                "matched",
                share >= _LEAST_MATCHED,
                f"{evaluation['matched']} of {evaluation['reference']} galaxies of im3shape have a source",
                {"share": share},
                warn=True,
            ),
        ],
    )
