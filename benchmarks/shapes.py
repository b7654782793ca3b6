"""Shapes on held-out blends: the posterior beside the report's configuration, SEP + adaptive moments and the floor.

    DEBLEND_PROFILE=two_cores python -m benchmarks.shapes

All of one simulation and its test scenes: from the tables of estimates that `shapes/shape_evaluation`, and where they
are there `baseline/simulated_evaluation` and `evaluation/simulated_evaluation`, wrote, and from the test blends
themselves for SEP + HSM. e: observed distortion, label band; g: intrinsic shear-type; a component, both
pooled; errors by bootstrap over scenes. HSM's e is that of its adaptive moments, which is not the label's: its errors
hold that difference. Failures are counted and left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.errors import MissingDataError
from deblend_assets.science.evaluation.shapes import BLENDED
from deblend_assets.science.peers import sep_hsm
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.statistics.metrics import Floats, bootstrap, rms, robust_sigma
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.project import STAGES, ProjectStore

_RESAMPLES, _SEED = 200, 1
# Table of estimates: recipe, and what its rows are called.
_REGRESSORS = {
    "baseline": ("baseline", "report's configuration, regressor"),
    "evaluation": ("training", "our three stages, regressor"),
}


def main(path: Path | None) -> None:
    store = ProjectStore(storage_root(), load_profile())
    table = store.read_shape_estimates().set_index("scene")
    methods = {"shape posterior": "posterior"}
    for report, (recipe, words) in _REGRESSORS.items():
        try:
            theirs = store.read_estimates(report, store.checkpoint(recipe, STAGES[-1]).fingerprint).set_index("scene")
        except MissingDataError as error:
            print(f"left out: {words} ({error})")
            continue
        methods[words] = report
        for name in ("g1", "g2", "e1", "e2"):
            if f"{name}_regressor" in theirs:
                table[f"{name}_{report}"] = theirs[f"{name}_regressor"].reindex(table.index)
    methods["SEP + HSM"] = "hsm"
    table = _sep_hsm(store, table)
    groups = {
        "all": np.ones(len(table), dtype=bool),
        f"blendedness > {BLENDED}": table["blendedness"].to_numpy() > BLENDED,
    }
    rows = []
    for group, chosen in groups.items():
        for words, suffix in methods.items():
            for kind in "eg":
                if f"{kind}1_{suffix}" in table:
                    rows.append({"galaxies": group, "method": words, **_accuracy(table[chosen], kind, suffix)})
    print(f"profile {store.profile.name}, {len(table):,} test blends of {table['galtileid'].nunique():,} galaxies\n")
    _show(rows)
    if path is not None:
        path.write_text(json.dumps({"profile": store.profile.name, "n": len(table), "rows": rows}, indent=1) + "\n")


def _sep_hsm(store: ProjectStore, table: pd.DataFrame) -> pd.DataFrame:
    arrays, settings = store.arrays(), store.profile.simulation
    survey = load_survey(settings.survey)
    label = survey.band_index(settings.label_band)
    psf = survey.btk_survey.get_filter(settings.label_band).psf
    found = []
    for shard in arrays.shards("test"):
        images = arrays.read("blended", shard)[:, label]
        g, e = sep_hsm.shapes(images, float(np.sqrt(survey.sky[label])), psf, survey.pixel_scale)
        scenes = pd.Index(range(shard.start, shard.start + shard.scenes), name="scene")
        found.append(pd.DataFrame(np.hstack([g, e]), scenes, ["g1_hsm", "g2_hsm", "e1_hsm", "e2_hsm"]))
    return table.join(pd.concat(found))


def _accuracy(table: pd.DataFrame, kind: str, suffix: str) -> dict[str, Any]:
    columns = {
        f"{name}{k}": table[f"{kind}{k}{end}"].to_numpy(float)
        for k in (1, 2)
        for name, end in (("true", ""), ("found", f"_{suffix}"), ("floor", "_floor"))
    }
    worked = np.isfinite(columns["found1"]) & np.isfinite(columns["found2"]) & np.isfinite(columns["floor1"])
    columns = {name: values[worked] for name, values in columns.items()}
    values, errors = bootstrap(_measures, columns, _RESAMPLES, _SEED)
    names = ("rms", "robust_sigma", "slope1", "slope2", "rms_over_floor")
    numbers = {name: [float(v), float(e)] for name, v, e in zip(names, values, errors, strict=True)}
    return {"kind": kind, "n": int(worked.sum()), "failures": int((~worked).sum()), **numbers}


def _measures(columns: Mapping[str, Floats]) -> Floats:
    off = np.concatenate([columns[f"found{k}"] - columns[f"true{k}"] for k in (1, 2)], axis=-1)
    floor = np.concatenate([columns["floor1"], columns["floor2"]], axis=-1)
    slopes = []
    for k in (1, 2):
        true = columns[f"true{k}"] - columns[f"true{k}"].mean(axis=-1, keepdims=True)
        slopes.append((true * columns[f"found{k}"]).sum(axis=-1) / np.square(true).sum(axis=-1))
    return np.stack([rms(off), robust_sigma(off), *slopes, rms(off) / rms(floor)])


def _show(rows: list[dict[str, Any]]) -> None:
    columns = ("rms", "robust_sigma", "slope1", "slope2", "rms_over_floor")
    print("| galaxies | method | | N | failures | RMS | robust σ | slope 1 | slope 2 | RMS / floor |")
    print("| --- " * 10 + "|")
    for row in rows:
        numbers = " | ".join(format_measure(dict(zip(("value", "error"), row[c], strict=True))) for c in columns)
        print(
            f"| {row['galaxies']} | {row['method']} | {row['kind']} | {row['n']:,} | {row['failures']:,} | {numbers} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    main(parser.parse_args().json)
