"""Writing the referee's page, from what the other assets stored."""

from __future__ import annotations

import pandas as pd

from deblend_assets.assets.keys import referee_keys
from deblend_assets.assets.referee.run_peers import NAME, worst_of
from deblend_assets.assets.referee.run_shear import judged, report_name
from deblend_assets.errors import MissingDataError
from deblend_assets.science.figures.peers import by_group, cost, errors, failures
from deblend_assets.science.figures.shear import biases, groups, responses
from deblend_assets.science.figures.style import to_png
from deblend_assets.science.referee.comparison import judge_peers
from deblend_assets.science.referee.report import referee_report
from deblend_assets.science.relations import count_density
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import read_vouched
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import numbers_of
from deblend_assets.stores.tables import from_parquet


def stored_table(store: ProjectStore, name: str, asset: str) -> pd.DataFrame:
    """The table of estimates of a report as it was last written; errors as `read_vouched`."""
    path = store.report_folder(name) / "estimates.parquet"
    data, _ = read_vouched(path, asset=asset)
    return from_parquet(data, where=str(path), asset=asset)


def write_referee_page(store: ProjectStore, des: ProjectStore) -> StorePath:
    """Judge the stored tables anew and write the page; returns its path.

    Args:
        store, des: of the two legs.

    Raises:
        MissingDataError, CorruptDataError: a table is not there, or not what was written.
    """
    profile, settings = store.profile, store.profile.evaluation
    table = stored_table(store, NAME, referee_keys(profile)["peer_comparison"].to_user_string())
    peers = judge_peers(table, store.arrays().bands, resamples=settings.bootstrap, seed=settings.seed)
    drawn = {
        "errors": errors(peers),
        "cost": cost(peers),
        "errors_by_group_e": by_group(peers, "e"),
        "errors_by_group_g": by_group(peers, "g"),
        "worst_failures": failures(*worst_of(store, table)),
    }
    shear = {}
    provenance = dict((numbers_of(store, NAME) or {}).get("provenance", {}))
    for leg in (store, des):
        survey, name = leg.profile.simulation.survey, report_name(leg)
        asset = referee_keys(leg.profile)["shear_calibration"].to_user_string()
        shear[survey] = judged(leg, stored_table(leg, name, asset))
        for figure, draw in {"biases": biases, "groups": groups, "responses": responses}.items():
            drawn[f"{survey}_{figure}"] = draw(shear[survey])
        numbers = numbers_of(leg, name)
        if numbers is None:
            raise MissingDataError(
                f"{asset} has not been materialised",
                where=str(leg.report_folder(name)),
                remedy=f"materialise {asset} first",
            )
        provenance |= {f"shear, {survey}: {k}": v for k, v in numbers["provenance"].items()}
    density = {
        leg.profile.simulation.survey: float(count_density(leg.profile.simulation.target_i_max)) for leg in (store, des)
    }
    pictures = {name: to_png(figure) for name, figure in drawn.items()}
    page = referee_report(peers, shear, pictures, provenance, density)
    folder = store.write_report("referee", {"report.html": page.encode()}, {})
    return folder / "report.html"
