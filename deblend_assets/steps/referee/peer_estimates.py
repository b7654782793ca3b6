"""Estimates of ours and of the peers on the same test blends: part after part, each with its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.evaluation.comparison import FLOOR, OURS
from deblend_assets.science.peers import PEERS, Blends, Measured, available
from deblend_assets.science.shear.calibration import require_split
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scene_truth import nearest_neighbour
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.statistics.metrics import cosine, ssim
from deblend_assets.science.statistics.noise import LIMIT, repeated_noise
from deblend_assets.settings import fingerprint
from deblend_assets.steps.measuring.model import available_model
from deblend_assets.steps.referee.estimators import Specialists
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore
from deblend_assets.stores.referee import RefereeReport

Log = Callable[[str], None]
REPORT, PRIOR_FREE = "report", "ours, prior-free"
# Scenes that a process measures with one peer before it hands the result over.
_AT_ONCE = 50
_TIMED = 64
NOTE = (
    "One row a test blend and method: what it says of the target, beside the truth. e: observed distortion "
    "(a^2-b^2)/(a^2+b^2), label band; g: intrinsic shear-type (a-b)/(a+b); pixel frame; NaN: failed, or not given by "
    "the method. Rows of the method 'floor' hold least standard errors in the place of estimates."
)
_TRUTH = ("scene", "galtileid", "e1", "e2", "g1", "g2", "snr", "blendedness", "separation_arcsec", "delta_mag")


def columns(bands: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of the table's columns."""
    shapes = {
        f"{kind}{k}{suffix}": ("", f"{words}, {what}")
        for kind, words in (("e", "observed distortion"), ("g", "intrinsic shear-type"))
        for k in (1, 2)
        for suffix, what in (("", "truth"), ("_est", "estimate"))
    }
    fluxes = {
        f"flux_{b}{suffix}": ("electron", f"flux of the target in its stamp, band {b}, {what}")
        for b in bands
        for suffix, what in (("", "truth"), ("_est", "estimate"))
    }
    return {
        "method": ("", "see science.peers; ours: the shape posterior's mean and the deblender"),
        "scene": ("", "row along the first axis of the arrays"),
        "galtileid": ("", "catalogue's name of the target"),
        "snr": ("", "true matched-filter S/N of the target, all bands"),
        "blendedness": ("", "true blendedness, label band"),
        "separation_arcsec": ("arcsec", "from the target to its nearest neighbour; NaN without one"),
        "delta_mag": ("mag", "brightest neighbour less target, i band; NaN without one"),
        **shapes,
        **fluxes,
        "ssim": ("", "SSIM of the deblended target, Eq. 9 space, mean over the bands"),
        "cosine": ("", "cosine similarity of the deblended target, Eq. 9 space"),
        "milliseconds": ("ms", "time of one core a galaxy"),
    }


def peers_identity(store: ProjectStore, specialists: Specialists) -> str:
    """Of a table of the comparison; which optional peers are installed is part of it."""
    installed = [peer.name for peer in PEERS if available(peer)]
    return fingerprint(
        store.arrays().folder.name,
        specialists.version,
        store.profile.referee.peer_scenes,
        installed,
        CODE_VERSIONS["peer_comparison"],
    )


def truth_of(store: ProjectStore, arrays: SimulatedArrays) -> pd.DataFrame:
    """The targets' truth, one row a scene; AGN light alone, which has no shape, is left out.

    Raises:
        MismatchError: a galaxy is not of the test split, or the stamps share their noise.
    """
    shards, i_band = arrays.shards("test"), "i" if "i" in arrays.bands else store.profile.simulation.label_band
    every = arrays.read_truth(shards)
    splits = store.read_catalog().set_index("galtileid")["split"]
    require_split(every["galtileid"].to_numpy(), splits, "test", "referee/peer_comparison")
    targets = every[every["member"] == 0].sort_values("scene").reset_index(drop=True)
    targets["separation_arcsec"] = nearest_neighbour(every, targets["scene"].to_numpy())
    brightest = every[every["member"] > 0].groupby("scene")[f"mag_{i_band}"].min()
    targets["delta_mag"] = brightest.reindex(targets["scene"]).to_numpy(float) - targets[f"mag_{i_band}"]
    targets = targets[np.isfinite(targets["g1"])].head(store.profile.referee.peer_scenes)
    in_stamp = np.concatenate([arrays.read("isolated", s).sum(axis=(-2, -1)) for s in _used(shards, targets)])
    lights = in_stamp[targets["scene"].to_numpy() - shards[0].start].astype(float)
    targets = targets.assign(**{f"flux_{b}": lights[:, k] for k, b in enumerate(arrays.bands)})
    shared = repeated_noise(arrays.read("blended", shards[0]))
    if shared > LIMIT:
        raise MismatchError(
            f"stamps that follow each other share their noise (correlation {shared:.2f})",
            where=str(arrays.folder),
            remedy="simulate them again: errors of such stamps do not average down",
        )
    return targets[[*_TRUTH, *(f"flux_{b}" for b in arrays.bands)]].reset_index(drop=True)


def _used(shards: list[Shard], targets: pd.DataFrame) -> list[Shard]:
    return [s for s in shards if s.start <= targets["scene"].max()]


def measured_peers(
    store: ProjectStore,
    report: RefereeReport,
    specialists: Specialists,
    torch_device: str,
    workers: RenderingWorkers,
    log: Log,
) -> tuple[pd.DataFrame, list[str]]:
    """The table of the comparison, and the parts that it was put together from.

    Args:
        store: of the LSST model.
        report: keeps the parts.
        specialists: ours and the report's shapes.
        torch_device: where ours compute.
        workers: their processes run the peers, a core each.
        log: takes progress lines.

    Raises:
        MismatchError: see `truth_of`.
    """
    arrays, normalization = store.arrays(), store.normalization()
    targets = truth_of(store, arrays)
    chosen = [peer for peer in PEERS if available(peer)]
    for peer in PEERS:
        if peer not in chosen:
            log(f"left out: {peer.name} ({peer.module} is not installed; pip install 'deblend_assets[peers]')")
    chunks = _chunks(arrays, targets)
    parts: dict[str, pd.DataFrame] = {}
    progress = Progress("peers", sum(s.scenes for s in chunks) * len(chosen), "blends", log)
    with workers.start(store.read_catalog(), store.profile.simulation) as pool:
        for peer in chosen:
            names = {s: f"{peer.module}_{PEERS.index(peer)}_{s.index}" for s in chunks}
            kept = report.kept(names.values())
            parts |= kept
            pending = [s for s in chunks if names[s] not in kept]
            progress.add(sum(s.scenes for s in chunks if s not in pending))
            for shard, table in pool.render(
                pending, progress, partial(_peer, PEERS.index(peer), arrays, normalization)
            ):
                report.keep(names[shard], table, columns(arrays.bands), NOTE)
                parts[names[shard]] = table
    log("peers: ours, the report's configuration and the floor")
    tables = [*parts.values(), *_ours(store, arrays, specialists, torch_device, targets, log)]
    return targets.merge(pd.concat(tables, ignore_index=True), on="scene"), list(parts)


def _chunks(arrays: SimulatedArrays, targets: pd.DataFrame) -> list[Shard]:
    """The targets' scenes, a few at a time, none across the edge of a stored shard."""
    chunks: list[Shard] = []
    for shard in _used(arrays.shards("test"), targets):
        last = min(shard.start + shard.scenes, int(targets["scene"].max()) + 1)
        starts = range(shard.start, last, _AT_ONCE)
        chunks += [Shard("test", len(chunks) + k, f, min(_AT_ONCE, last - f)) for k, f in enumerate(starts)]
    return chunks


@dataclass(frozen=True)
class _Stored:
    """A stored shard, the same for every task that is sent to a worker: each brings arrays of its own."""

    folder: str
    shard: Shard
    arrays: SimulatedArrays = field(compare=False)


@lru_cache(maxsize=1)
def _content(stored: _Stored) -> tuple[NDArray, NDArray, pd.DataFrame]:
    """Blended and isolated stamps, and the truth."""
    arrays, shard = stored.arrays, stored.shard
    return arrays.read("blended", shard), arrays.read("isolated", shard), arrays.read_truth([shard])


def _peer(
    number: int, arrays: SimulatedArrays, normalization: Normalization, renderer: ShardRenderer, chunk: Shard
) -> pd.DataFrame:
    """What a worker makes of a chunk: one peer's estimates, a row a scene."""
    stored = next(s for s in arrays.shards("test") if s.start <= chunk.start < s.start + s.scenes)
    blended, isolated, truth = _content(_Stored(str(arrays.folder), stored, arrays))
    rows = slice(chunk.start - stored.start, chunk.start - stored.start + chunk.scenes)
    survey, peer = renderer.survey, PEERS[number]
    members = truth.sort_values(["scene", "member"]).groupby("scene")
    places = {scene: m[["y_pixel", "x_pixel"]].to_numpy(float) for scene, m in members}
    scenes = np.arange(chunk.start, chunk.start + chunk.scenes)
    blends = Blends(
        images=blended[rows],
        sky=np.asarray(survey.sky, float),
        psfs=[survey.btk_survey.get_filter(band).psf for band in survey.bands],
        bands=survey.bands,
        label=renderer.label_band,
        scale=survey.pixel_scale,
        positions=[places[scene] for scene in scenes],
    )
    begun = time.process_time()
    found = peer.measure(blends)
    spent = time.process_time() - begun
    return _rows(peer.name, scenes, found, isolated[rows], survey.bands, normalization, 1e3 * spent / chunk.scenes)


def _rows(
    method: str,
    scenes: NDArray,
    found: Measured,
    isolated: NDArray,
    bands: tuple[str, ...],
    normalization: Normalization,
    milliseconds: float,
) -> pd.DataFrame:
    table: dict[str, object] = {"method": method, "scene": scenes, "milliseconds": milliseconds}
    for kind, both in (("e", found.e), ("g", found.g)):
        table |= {f"{kind}{k + 1}_est": both[:, k] for k in (0, 1)}
    table |= {f"flux_{b}_est": found.flux[:, k] for k, b in enumerate(bands)}
    similar = np.full((2, len(scenes)), np.nan)
    if found.images is not None:
        worked = np.isfinite(found.images).all(axis=(1, 2, 3))
        images, truth = (normalization.forward(v[worked].astype(np.float32)) for v in (found.images, isolated))
        if worked.any():
            similar[:, worked] = ssim(images, truth).mean(axis=1), cosine(images, truth)
    return pd.DataFrame(table | {"ssim": similar[0], "cosine": similar[1]})


def _ours(
    store: ProjectStore,
    arrays: SimulatedArrays,
    specialists: Specialists,
    torch_device: str,
    targets: pd.DataFrame,
    log: Log,
) -> list[pd.DataFrame]:
    """Our rows, the report's and the floor's."""
    model, normalization = available_model(store, torch_device, log), store.normalization()
    networks: dict[str, Deblender] = {OURS: model.network}
    if specialists.report is not None:
        networks[REPORT] = specialists.report
    used = _used(arrays.shards("test"), targets)
    cost = _timed(specialists, networks, arrays.read("blended", used[0])[:_TIMED])
    tables = []

    def add(name: str, shard: Shard, found: Measured, isolated: NDArray) -> None:
        scenes = np.arange(shard.start, shard.start + shard.scenes)
        tables.append(_rows(name, scenes, found, isolated, arrays.bands, normalization, cost[name]))

    for shard in used:
        blended, isolated = arrays.read("blended", shard), arrays.read("isolated", shard)
        there, missing = np.ones(blended.shape[:2], dtype=bool), np.full((len(blended), 2), np.nan)
        for name, network in networks.items():
            images, regressed = deblend(network, blended, there)
            flux = images.sum(axis=(-2, -1), dtype=np.float64)
            if name == REPORT:
                e = np.stack([regressed[f"e{k}"] for k in (1, 2)], axis=1)
                add(name, shard, Measured(e, missing, flux, images), isolated)
                continue
            shapes = specialists.shapes
            posterior = shapes.posterior(blended, there, heads=False)
            mean = posterior.in_own_units(shapes.population).mean.numpy()
            add(name, shard, Measured(mean[:, 2:4], mean[:, :2], flux, images), isolated)
            free = posterior.likelihood_only().in_own_units(shapes.population)
            e, g = (np.where(free.is_constrained(k)[:, None], free.mean[:, k : k + 2], np.nan) for k in (2, 0))
            add(PRIOR_FREE, shard, Measured(e, g, np.full(flux.shape, np.nan), None), isolated)
    return [*tables, *_floor(store)]


def _timed(specialists: Specialists, networks: dict[str, Deblender], electrons: NDArray) -> dict[str, float]:
    """Milliseconds of one core a galaxy, as the peers have one each: shapes and deblending of ours, images of any."""
    threads, there = torch.get_num_threads(), np.ones(electrons.shape[:2], dtype=bool)
    torch.set_num_threads(1)
    try:
        found = {name: _seconds(partial(deblend, network, electrons, there)) for name, network in networks.items()}
        shapes = _seconds(partial(specialists.shapes.measure, electrons, there))
    finally:
        torch.set_num_threads(threads)
    found = {name: 1e3 * seconds / len(electrons) for name, seconds in found.items()}
    shapes = 1e3 * shapes / len(electrons)
    return found | {OURS: found[OURS] + shapes, PRIOR_FREE: shapes}


def _seconds(call: Callable[[], object]) -> float:
    call()  # lazily made buffers are not the measurement's
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _floor(store: ProjectStore) -> list[pd.DataFrame]:
    if not store.has_floor:
        return []
    floor = store.read_floor()
    sigma = {f"{kind}{k}_est": floor[f"sigma_{kind}{k}"] for kind in "eg" for k in (1, 2)}
    return [pd.DataFrame({"method": FLOOR, "scene": floor["scene"], **sigma})]
