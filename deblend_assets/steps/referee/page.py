"""Writing the referee's page, from what the other assets stored."""

from __future__ import annotations

from deblend_assets.assets.keys import referee_keys
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.referee import referee_report
from deblend_assets.science.simulation.relations import count_density
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.settings import StorePath
from deblend_assets.steps.referee.run_peers import NAME, peer_evaluation, peer_figures
from deblend_assets.steps.referee.run_shear import report_name, shear_evaluation, shear_figures
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import numbers_of, stored_table


def write_referee_page(store: ProjectStore, des: ProjectStore) -> StorePath:
    """Evaluate the stored tables again and write the page; returns its path.

    Args:
        store, des: of the two legs.

    Raises:
        MissingDataError, CorruptDataError: a table is not there, or not what was written.
    """
    table = stored_table(store, NAME, referee_keys(store.profile)["peer_comparison"].to_user_string())
    peers = peer_evaluation(store, table)
    drawn = peer_figures(store, table, peers)
    provenance = _provenance(store, NAME)
    shear, density = dict[str, Evaluation](), dict[str, float]()
    for leg in (store, des):
        simulation, name = leg.profile.simulation, report_name(leg)
        survey, asset = simulation.survey, referee_keys(leg.profile)["shear_calibration"].to_user_string()
        shear[survey] = shear_evaluation(leg, stored_table(leg, name, asset))
        density[survey] = float(count_density(simulation.target_i_max))
        drawn |= {f"{survey}_{figure}": picture for figure, picture in shear_figures(shear[survey]).items()}
        provenance |= {f"shear, {survey}: {key}": value for key, value in _provenance(leg, name).items()}
    pictures = {name: to_png(figure) for name, figure in drawn.items()}
    page = referee_report(peers, shear, pictures, provenance, density)
    return store.write_report("referee", {"report.html": page.encode()}, {}) / "report.html"


def _provenance(store: ProjectStore, name: str) -> dict[str, str]:
    """What a report was made from; nothing where its evaluation was not written yet."""
    return dict((numbers_of(store, name) or {}).get("provenance", {}))
