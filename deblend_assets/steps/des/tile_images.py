"""Fetches the images of a whole tile and writes them as a field, which is measured like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError, SettingsError
from deblend_assets.progress import Progress
from deblend_assets.resources.archive import Archive
from deblend_assets.science.des.queries import TILE_COLUMNS, area_of, tile_query
from deblend_assets.science.des.tile_images import Cells, GridBox, TileFrame, around, cells_of
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.des.tile_cells import Plane, Product, TileFetcher, widest
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.files import require_space
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tile_fields import BandImages, TileField
from deblend_assets.vo.client import ArchiveClient
from deblend_assets.vo.contents import MEBIBYTE

# Around the tile's own area [pixel]: galaxies at its edge have whole stamps where the coadd goes on.
_MARGIN = 60
_LEAST_COVERED = 0.95


def write_tile_images(store: ProjectStore, partition: str, archive: Archive, log: Callable[[str], None]) -> Outcome:
    """Fetch the images of a tile and write them as a field, or keep those of the same archive and settings.

    An interrupted run requests only what is missing: every answer is kept.

    Args:
        store: of the profile, whose folder of fields takes the files.
        partition: the tile's name, unchecked.
        archive: of the images.
        log: receives the number of bytes first, then progress lines.

    Raises:
        ArchiveError: the archive does not respond, or with images that cannot be put together.
        MissingDataError: it has no image of the tile in the label band.
        SettingsError: no folder is watched, or a field of another file has the tile's name.
        StorageError: the disk has less space than the images may take.
        BusyError: another run is fetching the same tile.
    """
    name, des, fields = tile_name(partition), DesStore(store), FieldsStore(store)
    files, inputs = TileField(fields.watched, name), des.images_inputs()
    _require_own_name(fields, name, files)
    requests = 0
    with files.lock():
        info = files.find(inputs)
        if info is None:
            with archive.client(store, log) as client:
                info = _write(des, name, files, client, inputs, log)
                requests = client.requests
        else:
            log(f"kept the images of the same archive and settings ({inputs})")
        fields.field(name).source = files.toml
    return _outcome(des, files, info, requests)


def _require_own_name(fields: FieldsStore, name: str, files: TileField) -> None:
    try:
        other = fields.field(name).source
    except MissingDataError:
        return
    if other != files.toml and other.is_file():
        raise SettingsError(
            f"{name} is the name of the field {other} too",
            where=str(files.toml),
            remedy=f"give name in that file, or retire its field: `deblend_assets fields retire {name}`",
        )


def _write(
    des: DesStore, name: str, files: TileField, client: ArchiveClient, inputs: str, log: Callable[[str], None]
) -> dict[str, Any]:
    settings, simulation = des.settings.archive, des.settings.simulation
    survey = load_survey(simulation.survey)
    client.require_columns(settings.tile_table, TILE_COLUMNS)
    area = area_of(client.query(tile_query(settings, name), f"the area of {name}"), name)
    fetcher = TileFetcher(client, settings, area, survey.bands, simulation.label_band)
    own, region = (fetcher.frame.region(area, margin) for margin in (0, _MARGIN))
    cells = cells_of(region, area.dec, int(settings.max_image_mb * MEBIBYTE))
    log(_announcement(name, region, cells, fetcher.images))
    # Kept answers, and files of the same size at most.
    require_space(files.toml.parent, 2 * fetcher.images * cells.bytes, f"the images of {name}")
    planes = fetcher.fetch(cells, Progress(f"images of {name}", len(cells.boxes), "cells", log))
    box = around(widest(planes))
    bands: dict[str, dict[str, float | bool]] = {
        band: {
            "zero_point": products["image"].pieces[0].zero_point,
            "covered": products["image"].box.common(own).area / own.area,
            "weight_map": "weight" in products,
        }
        for band, products in planes.items()
    }
    info = {
        "bands": bands,
        "label_band": simulation.label_band,
        "width": box.shape[1],
        "height": box.shape[0],
        "cells": len(cells.boxes),
        "pixel_scale": fetcher.frame.pixel_scale,
    }
    images = [_band(des, name, band, products, box, fetcher) for band, products in planes.items()]
    log(f"writing {box.shape[1]:,} × {box.shape[0]:,} pixels in {' '.join(bands)} to {files.folder}")
    files.write(images, inputs, info)
    return info


def _announcement(name: str, region: GridBox, cells: Cells, images: int) -> str:
    """The line that says what is going to be fetched."""
    height, width = region.shape
    number = len(cells.boxes)
    return (
        f"{name}: {width:,} × {height:,} pixels of {images} images in {number:,} cells, {number * (images + 1):,} "
        f"requests of at most {images * cells.bytes / 1e9:,.2f} GB together; answers that are kept are not requested"
    )


def _band(
    des: DesStore,
    name: str,
    band: str,
    products: dict[Product, Plane],
    box: GridBox,
    fetcher: TileFetcher,
) -> BandImages:
    header = _header(fetcher.frame, box, name, band, products["image"].pieces[0].zero_point, des.simulated)
    weight: Iterator[NDArray[np.float32]] | None = None
    if "weight" in products:
        weight = fetcher.strips(products["weight"], box, 0.0)
    return BandImages(
        band=band,
        header=header,
        shape=box.shape,
        image=fetcher.strips(products["image"], box, np.nan),
        weight=weight,
        psf=fetcher.psf(band, (header["CRPIX1"], header["CRPIX2"])),
    )


def _header(frame: TileFrame, box: GridBox, name: str, band: str, zero_point: float, simulated: bool) -> fits.Header:
    header = frame.wcs.to_header(relax=True)
    header["CRPIX1"] -= box.x0
    header["CRPIX2"] -= box.y0
    header.update({"OBJECT": name, "FILTER": band, "MAGZERO": zero_point, "SIMULATE": simulated})
    return header


def _outcome(des: DesStore, files: TileField, info: dict[str, Any], requests: int) -> Outcome:
    label = info["label_band"]
    covered = float(info["bands"][label]["covered"])
    return Outcome(
        numbers={
            "width": info["width"],
            "height": info["height"],
            "cells": info["cells"],
            "archive_requests": requests,
            "megabytes": sum(path.stat().st_size for path in files.folder.iterdir()) / 1e6,
            "pixel_scale_arcsec": info["pixel_scale"],
        },
        words={"simulated_tile": des.simulated, "bands": " ".join(info["bands"])},
        tables={"bands": Table.of(info["bands"], "band")},
        paths={"field_file": files.toml, "path": files.folder},
        checks=[
            Check(
                "covered",
                covered >= _LEAST_COVERED,
                f"the image in {label} covers {covered:.1%} of the tile's own area",
                {f"covered_{band}": float(found["covered"]) for band, found in info["bands"].items()},
                warn=True,
            )
        ],
    )
