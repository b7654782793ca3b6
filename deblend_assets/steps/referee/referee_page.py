"""Writing the referee's page, from what the other assets stored."""

from __future__ import annotations

from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.referee import referee_report
from deblend_assets.science.simulation.relations import count_density
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.steps.outcome import Outcome
from deblend_assets.steps.referee.peer_comparison import ASSET, NAME, peer_evaluation, peer_figures
from deblend_assets.steps.referee.shear_calibration import asset_name, report_name, shear_evaluation, shear_figures
from deblend_assets.steps.summaries import peer_summary
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import numbers_of, stored_table


def write_referee_page(store: ProjectStore, des: ProjectStore) -> Outcome:
    """Evaluate the stored tables anew and write the page.

    Args:
        store, des: of the LSST and the DES leg.

    Raises:
        MissingDataError, CorruptDataError: a table is not there, or not what was written.
    """
    table = stored_table(store, NAME, ASSET)
    peers = peer_evaluation(store, table)
    figures = peer_figures(store, table, peers)
    provenance = _provenance(store, NAME)
    shear, density = dict[str, Evaluation](), dict[str, float]()
    for leg in (store, des):
        simulation, name = leg.profile.simulation, report_name(leg)
        survey = simulation.survey
        shear[survey] = shear_evaluation(leg, stored_table(leg, name, asset_name(leg)))
        density[survey] = float(count_density(simulation.target_i_max))
        figures |= {f"{survey}_{figure}": picture for figure, picture in shear_figures(shear[survey]).items()}
        provenance |= {f"shear, {survey}: {key}": value for key, value in _provenance(leg, name).items()}
    pictures = {name: to_png(figure) for name, figure in figures.items()}
    page = referee_report(peers, shear, pictures, provenance, density)
    report = store.write_report("referee", {"report.html": page.encode()}, {}) / "report.html"
    return Outcome(
        summary=peer_summary(peers),
        report=report,
        figures={name: figures[name] for name in ("errors", "cost", *(f"{survey}_biases" for survey in shear))},
    )


def _provenance(store: ProjectStore, name: str) -> dict[str, str]:
    """What a report was made from; nothing where its evaluation was not written yet."""
    return dict((numbers_of(store, name) or {}).get("provenance", {}))
