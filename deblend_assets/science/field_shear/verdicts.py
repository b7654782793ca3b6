"""Whether the numbers of an evaluation are within their bars, and those that the next run is compared with."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.field_shear.names import OURS
from deblend_assets.science.statistics.accuracy import Evaluation

# Bars of the exact PSF: LSST's requirement for ten years of data on |m|, and on |c|.
REQUIRED_M, REQUIRED_C = 3e-3, 2e-4


def findings(evaluation: Evaluation) -> list[str]:
    """Our m and c beyond the bars by more than two errors under the exact PSF, and fields whose images are no twins."""
    found = [problem for of in evaluation.values() for problem in of["problems"]]
    for survey, of in evaluation.items():
        ours = of["methods"].get(OURS, {"all": {}})["all"]
        for name in ("m1", "m2", "c1", "c2"):
            measure = ours.get(name)
            if measure is None or measure["value"] is None or measure["error"] is None:
                continue
            bar = REQUIRED_M if name[0] == "m" else REQUIRED_C
            if abs(measure["value"]) - bar > 2 * measure["error"]:
                found.append(f"{survey}: {name} = {measure['value']:.2e} ± {measure['error']:.1e}, bar {bar:g}")
    return found


def verdict(measure: Evaluation, bar: float) -> str:
    """Says "met" within the bar and its own error, "not met" beyond, "not known" where the error exceeds the bar.

    Args:
        measure: value and error.
        bar: largest allowed size.
    """
    value, error = measure["value"], measure["error"]
    if value is None or error is None or error > bar:
        return "not known"
    return "met" if abs(value) <= bar + error else "not met"


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that a row of the UI shows, and that the next run is compared with."""
    found: dict[str, float | None] = {}
    for survey, of in evaluation.items():
        found[f"fields_{survey}"] = of["fields"]
        for method, numbers in of["methods"].items():
            for name in ("m1", "m2", "c1", "c2"):
                found[f"{name}_{method}_{survey}"] = numbers["all"][name]["value"]
                found[f"{name}_{method}_{survey}_error"] = numbers["all"][name]["error"]
            found[f"n_eff_{method}_{survey}"] = numbers["n_eff"]["value"]
    return {name: value for name, value in found.items() if value is not None and np.isfinite(value)}
