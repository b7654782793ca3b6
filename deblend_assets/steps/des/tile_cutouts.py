"""Fetches, validates and stores the stamps of a tile's galaxies in every band, in the archive's counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deblend_assets.progress import Progress
from deblend_assets.resources.archive import Archive
from deblend_assets.science.des.orientation import adaptive_shapes, measured_parity, to_west
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.reports.figures.tile_images import ellipses
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.des.cutting import Cutter, galaxy_columns
from deblend_assets.steps.des.noise import NOISE_LIMIT, noise_ratios
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tiles import SHARD_GALAXIES

_NOTE = (
    "One row per galaxy, in the order of the arrays counts, weight and psf. Stamps are cut around the pixel nearest to "
    "the position, north up, east left, not resampled: the WCS of a stamp is TAN with CRVAL = (ra, dec), CRPIX = "
    "(side + 1)/2 + offset, CD = diag(-1, 1) x pixel_scale / 3600. NaN where a band is absent."
)
_SHOWN = 12


def cut_tile(store: ProjectStore, partition: str, archive: Archive, log: Callable[[str], None]) -> Outcome:
    """Fetch, check and store the stamps of a tile, or keep those of the same catalogue and settings.

    Args:
        store: of the profile.
        partition: the tile's name, unchecked.
        archive: archive of the images.
        log: receives progress lines.

    Raises:
        ArchiveError: the archive does not respond, or too many of its images cannot be used.
        MissingDataError: no galaxy has a usable stamp.
        BusyError: another run is fetching the same tile.
    """
    profile, settings, name = store.profile, store.profile.des, tile_name(partition)
    des = DesStore(store)
    tile = des.tile(name)
    catalog = tile.read_table("im3shape_catalog", des.im3shape_inputs())
    inputs = des.cutouts_inputs(tile)
    label, bands = settings.simulation.label_band, load_survey(settings.simulation.survey).bands
    side, psf_side, requests = settings.tiles.stamp_pixels, profile.stamps.psf_side, 0
    with tile.lock():
        cutouts = tile.find_cutouts(inputs)
        # Unusable images are requested again, since they may have been corrected; all others are kept.
        if cutouts is not None and not cutouts.info["refused"]:
            log(f"kept the cutouts of the same catalogue and settings ({inputs})")
        else:
            with archive.client(store, log) as client:
                cutter = Cutter(client, settings.archive, bands, label, side, psf_side)
                progress = Progress(f"cutouts of {name}", len(catalog), "galaxies", log)
                tile.write_cutouts(
                    inputs,
                    cutter.shards(catalog, SHARD_GALAXIES, progress),
                    shape=(len(catalog), len(bands), side, side),
                    psf_side=psf_side,
                    bands=bands,
                    columns=galaxy_columns(bands),
                    attributes={"tile": name, "simulated_tile": des.simulated},
                    note=_NOTE,
                    info={"rejected": cutter.rejected, "refused": cutter.refused},
                )
                requests = client.requests
            cutouts = tile.read_cutouts(inputs)
    rejected, refused = cutouts.info["rejected"], cutouts.info["refused"]

    matched = catalog.set_index("coadd_objects_id").loc[cutouts.galaxies["coadd_objects_id"]]
    labelled = cutouts.counts[:, bands.index(label)]
    e1, e2, measured = adaptive_shapes(labelled)
    bootstrap = {"resamples": profile.evaluation.bootstrap, "seed": profile.evaluation.seed}
    parity = measured_parity(e1, e2, matched["e_1"].to_numpy(), matched["e_2"].to_numpy(), **bootstrap)
    noise = noise_ratios(cutouts)
    shown = np.argsort(-matched["snr_w"].to_numpy(), kind="stable")[:: max(1, len(matched) // _SHOWN)][:_SHOWN]
    figure = ellipses(
        labelled[shown],
        to_west(matched, "e_2")[["e_1", "e_2"]].to_numpy()[shown],
        None,
        band=label,
        pixel_scale=settings.archive.pixel_scale_arcsec,
        labels=[f"S/N {s:.0f}" for s in matched["snr_w"].to_numpy()[shown]],
        tile=name,
        simulated=des.simulated,
    )
    missing = {band: int(n) for band, n in zip(bands, (~cutouts.present).sum(axis=0), strict=True)}
    return Outcome(
        figures={"ellipses": figure},
        numbers={
            "galaxies": len(cutouts.galaxies),
            "rejected": sum(rejected.values()),
            "archive_requests": requests,
            **{f"noise_ratio_{band}": ratio for band, ratio in noise.items()},
        },
        words={"simulated_tile": des.simulated},
        tables={
            "rejections": Table.of(
                {reason: {"galaxies": n} for reason, n in rejected.items()} or {"none": {"galaxies": 0}}, "reason"
            ),
            "missing_bands": Table.of({band: {"galaxies": n} for band, n in missing.items()}, "band"),
        },
        paths={"path": tile.cutouts_folder(inputs)},
        checks=[
            Check(
                "orientation",
                parity.as_assumed,
                f"slopes of the images' adaptive moments on the catalogue: e1 {parity.slope1:+.3f} ± "
                f"{parity.slope1_error:.3f}, e2 {parity.slope2:+.3f} ± {parity.slope2_error:.3f} (pixel on sky)",
                {
                    "slope1": parity.slope1,
                    "slope2": parity.slope2,
                    "galaxies": parity.n,
                    "measured": int(measured.sum()),
                },
                # Undecided with too few galaxies: a warning. A wrong sign is an error.
                warn=parity.parity == 0,
            ),
            Check(
                "images_sound",
                not refused,
                f"{sum(refused.values())} images could not be used",
                {f"refused_{band}": n for band, n in refused.items()},
                warn=True,
            ),
            Check(
                "noise_as_weighted",
                all(abs(ratio - 1) < NOISE_LIMIT for ratio in noise.values()),
                "noise of the border over that of the weight map, median over the galaxies",
                {f"ratio_{band}": ratio for band, ratio in noise.items()},
                warn=True,
            ),
        ],
    )
