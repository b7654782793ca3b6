"""Fetches the images of a tile in cells, several at a time, and checks each answer before it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import ArchiveError, MissingDataError
from deblend_assets.progress import Progress
from deblend_assets.science.des.cutouts import ImageRecord, choose_images, psf_of, source_of
from deblend_assets.science.des.fits_image import FitsImage, open_image
from deblend_assets.science.des.tile_images import Cells, GridBox, TileFrame, require_whole
from deblend_assets.science.des.tiles import TileArea
from deblend_assets.settings import ArchiveSettings
from deblend_assets.stores.psfex_files import moved_psfex
from deblend_assets.vo.client import ArchiveClient

Product = Literal["image", "weight"]
PRODUCTS: tuple[Product, ...] = ("image", "weight")
# Of the cutout in the middle of the tile that all others are compared with [pixel].
_REFERENCE_PIXELS = 32
# Relative: zero points of one coadd's cutouts within it are one [mag].
_SAME_ZERO_POINT = 1e-3


@dataclass(frozen=True)
class Piece:
    """What the archive sent of one cell.

    Attributes:
        record: of the cutout, whose answer is kept.
        box: its pixels within the cell.
        zero_point: AB magnitude of one count.
    """

    record: ImageRecord
    box: GridBox
    zero_point: float


@dataclass(frozen=True)
class Plane:
    """One product of one band of the tile: all its pieces and the box that they cover."""

    pieces: tuple[Piece, ...]
    box: GridBox


class TileFetcher:
    """Fetches one tile.

    Args:
        client: of the archive.
        settings: of the archive.
        area: of the tile.
        bands: wanted; matched with the archive's regardless of case.
        label_band: has to be there.

    Attributes:
        frame: the tile's pixels.
        chosen: the file of each band and of its weight map: the longest exposure in the middle of the tile.
        psfs: of those bands whose image has its PSF in the archive.

    Raises:
        MissingDataError: there is no image in the label band.
        ArchiveError: not answered, or with something that is not an image of the tile.
    """

    def __init__(
        self,
        client: ArchiveClient,
        settings: ArchiveSettings,
        area: TileArea,
        bands: tuple[str, ...],
        label_band: str,
    ) -> None:
        self._client, self._settings, self._area = client, settings, area
        # Neighbouring coadds overlap at the edges of a tile, not in its middle.
        found = client.find_images(area.ra, area.dec, _REFERENCE_PIXELS * settings.pixel_scale_arcsec)
        spelt = {band.lower(): band for band in bands}
        theirs = {spelt[r.band.lower()]: r.band for r in found if r.band.lower() in spelt}
        there = choose_images(found, tuple(theirs.values()))
        self.chosen: dict[str, dict[Product, ImageRecord]] = {}
        self.psfs: dict[str, ImageRecord] = {}
        for band in bands:
            if (images := there.get(theirs.get(band, ""))) is not None:
                image, weight = images
                self.chosen[band] = {"image": image} if weight is None else {"image": image, "weight": weight}
                if (psf := psf_of(found, image)) is not None:
                    self.psfs[band] = psf
        if label_band not in self.chosen:
            raise MissingDataError(
                f"the archive has no image in {label_band} in the middle of {area.name}",
                where=settings.sia_url,
                remedy=f"`deblend_assets tiles retire {area.name}`, or check des.archive.sia_url",
            )
        self.frame = client.fetch(self.chosen[label_band]["image"], self._frame)

    @property
    def images(self) -> int:
        """Number of images, weight maps included."""
        return sum(len(products) for products in self.chosen.values())

    def fetch(self, cells: Cells, progress: Progress) -> dict[str, dict[Product, Plane]]:
        """Every cell of every image, by band and product; a weight map without any pixel is left out.

        Answers that the client has kept are not requested again.

        Raises:
            ArchiveError: not answered, or with something that is not the cell of the image; gaps in an image.
        """
        found: dict[tuple[str, Product], list[Piece]] = {}
        pool = ThreadPoolExecutor(self._settings.connections)
        try:
            for pieces in pool.map(lambda box: self._cell(cells, box), cells.boxes):
                for key, piece in pieces.items():
                    found.setdefault(key, []).append(piece)
                progress.add(1)
        finally:
            # After a failure no further request is sent.
            pool.shutdown(wait=True, cancel_futures=True)
        planes: dict[str, dict[Product, Plane]] = {}
        for band in self.chosen:
            for product in PRODUCTS:
                if own := found.get((band, product)):
                    where = f"{product} of {self._area.name}, band {band}"
                    box = require_whole([piece.box for piece in own], where)
                    _require_one_zero_point(own, where)
                    planes.setdefault(band, {})[product] = Plane(tuple(own), box)
        return {band: products for band, products in planes.items() if "image" in products}

    def psf(self, band: str, crpix: tuple[float, float]) -> bytes | None:
        """The file of a band's PSF for an image of this reference pixel; none: the archive has no PSF of it.

        Raises:
            ArchiveError: not answered, or with something that is not a PSFEx model.
        """
        record = self.psfs.get(band)
        if record is None:
            return None

        def moved(data: bytes) -> bytes:
            try:
                return moved_psfex(data, crpix)
            except (ValueError, OSError, fits.VerifyError) as error:
                raise ArchiveError(
                    f"cannot be read as a PSF ({error})", where=record.title, remedy="run the same command again later"
                ) from error

        return self._client.fetch(record, moved)

    def strips(self, plane: Plane | None, box: GridBox, absent: float) -> Iterator[NDArray[np.float32]]:
        """The pixels of a box, strip by strip from the bottom, of answers that are kept.

        Args:
            plane: of `fetch`; none: nothing is known.
            box: what is wanted.
            absent: value of a pixel that the plane does not have.
        """
        pieces = () if plane is None else plane.pieces
        edges = sorted({box.y0, box.y1, *(min(max(y, box.y0), box.y1) for p in pieces for y in (p.box.y0, p.box.y1))})
        for y0, y1 in pairwise(edges):
            strip_box = GridBox(box.x0, y0, box.x1, y1)
            strip = np.full(strip_box.shape, absent, dtype=np.float32)
            for piece in pieces:
                common = piece.box.common(strip_box)
                if common.area:
                    strip[common.within(strip_box)] = self._pixels(piece, common)
            yield strip

    def _frame(self, data: bytes) -> TileFrame:
        return TileFrame.of(open_image(data, f"the middle of {self._area.name}"))

    def _cell(self, cells: Cells, box: GridBox) -> dict[tuple[str, Product], Piece]:
        listed = self._client.find_images(*cells.request(box, self.frame))
        pieces: dict[tuple[str, Product], Piece] = {}
        for band, products in self.chosen.items():
            for product, chosen in products.items():
                same = (r for r in listed if r.product == product and r.band == chosen.band)
                record = next((r for r in same if source_of(r) == source_of(chosen)), None)
                # An image that ends before the cell is not listed.
                if record is not None and (piece := self._piece(record, box)) is not None:
                    pieces[band, product] = piece
        return pieces

    def _piece(self, record: ImageRecord, cell: GridBox) -> Piece | None:
        def check(data: bytes) -> Piece | None:
            image = self._open(data, record)
            placed = self.frame.place(image).common(cell)
            zero_point = image.number("MAGZERO", self._settings.zero_point)
            return Piece(record, placed, zero_point) if placed.area else None

        return self._client.fetch(record, check)

    def _pixels(self, piece: Piece, box: GridBox) -> NDArray[np.float32]:
        def cut(data: bytes) -> NDArray[np.float32]:
            image = self._open(data, piece.record)
            return np.asarray(image.values[box.within(self.frame.place(image))], dtype=np.float32)

        return self._client.fetch(piece.record, cut)

    def _open(self, data: bytes, record: ImageRecord) -> FitsImage:
        image = open_image(data, f"{record.title}, band {record.band}")
        image.require_band(record.band)
        return image


def widest(planes: Mapping[str, Mapping[Product, Plane]]) -> list[GridBox]:
    """The boxes of all images."""
    return [products["image"].box for products in planes.values()]


def _require_one_zero_point(pieces: list[Piece], where: str) -> None:
    zero_points = [piece.zero_point for piece in pieces]
    if max(zero_points) - min(zero_points) > _SAME_ZERO_POINT:
        raise ArchiveError(
            f"cutouts of one image have zero points from {min(zero_points):.3f} to {max(zero_points):.3f}",
            where=where,
            remedy="the archive's images cannot be put together; measure its cutouts instead",
        )
