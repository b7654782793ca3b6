"""Fetches the stamps of a tile's galaxies in parallel, preserves their order, and validates every image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.errors import ArchiveError
from deblend_assets.progress import Progress
from deblend_assets.science.des.cutouts import (
    NO_LABEL_IMAGE,
    BandStamp,
    ImageRecord,
    choose_images,
    pixel_sigma,
    psf_of,
    read_band,
    read_weight,
    rejection,
)
from deblend_assets.science.des.fits_image import REQUEST_MARGIN
from deblend_assets.settings import ArchiveSettings
from deblend_assets.steps.des.archive_psfs import ArchivePSFs
from deblend_assets.stores.tiles import Shard
from deblend_assets.vo.client import ArchiveClient
from deblend_assets.vo.contents import Refusal

# A larger fraction of unusable images indicates an error of the archive or of the request.
MOST_REFUSED = 0.01
REFUSED = "the archive's image in the label band cannot be used"

# Relative. Scales within it are treated as equal: the change of a galaxy's size is below its measurement error.
_SAME_SCALE = 0.005


def galaxy_columns(bands: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of the columns of the table of galaxies."""
    columns = {
        "coadd_objects_id": ("", "the survey's id of the galaxy"),
        "ra": ("deg", "right ascension (J2000) of the fitted centre"),
        "dec": ("deg", "declination (J2000) of the fitted centre"),
    }
    for band in bands:
        columns |= {
            f"zero_point_{band}": ("mag(AB)", f"AB magnitude of one count, band {band}"),
            f"pixel_scale_{band}": ("arcsec/pixel", f"pixel scale, band {band}"),
            f"offset_x_{band}": ("pixel", f"position minus the stamp's centre along x, band {band}"),
            f"offset_y_{band}": ("pixel", f"position minus the stamp's centre along y, band {band}"),
            f"sigma_{band}": (
                "count",
                f"noise of a pixel, from the weights or else from the stamp's border, band {band}",
            ),
            f"has_weight_{band}": ("", f"whether the archive had a weight map, band {band}"),
        }
    return columns


@dataclass(frozen=True)
class Cut:
    """One galaxy's images.

    Attributes:
        stamps, weights: by band; absent bands have no entry.
        psfs: of the archive, by band; of a rejected galaxy too.
        reason: why the galaxy is rejected; None: it is kept.
        refused: bands whose image or weight map was not valid in any try.
    """

    stamps: dict[str, BandStamp]
    weights: dict[str, np.ndarray]
    psfs: dict[str, ImageRecord]
    reason: str | None
    refused: tuple[str, ...]


class Cutter:
    """Fetches the images of galaxies.

    Args:
        client: client of the archive.
        settings: settings of the archive.
        bands: bands of the model; matched with the archive's regardless of case (y, Y).
        label_band: decides whether a galaxy is kept; fetched first.
        pixels: side of the stamps.
        psf_side: of the PSFs' images.
    """

    def __init__(
        self,
        client: ArchiveClient,
        settings: ArchiveSettings,
        bands: tuple[str, ...],
        label_band: str,
        pixels: int,
        psf_side: int,
    ) -> None:
        self.client, self.settings, self.bands = client, settings, bands
        self.pixels, self.psf_side = pixels, psf_side
        self._psfs = ArchivePSFs(client, settings.pixel_scale_arcsec, psf_side)
        # The label band comes first, so that no other band of a rejected galaxy is fetched.
        self._order = (label_band, *(band for band in bands if band != label_band))
        self.rejected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.first_refusal = ""

    def shards(self, galaxies: pd.DataFrame, size: int, progress: Progress) -> Iterator[Shard]:
        """Yield the kept galaxies, in order, `size` at a time."""
        kept: list[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]] = []
        positions = list(galaxies[["coadd_objects_id", "ra", "dec"]].itertuples(index=False, name=None))
        for _, ra, dec in positions[:1]:
            # Of nearly all images. Before the pool, whose requests are all that `connections` allows at a time.
            self._psfs.fetch(self._listed(ra, dec)[1].values())
        pool = ThreadPoolExecutor(self.settings.connections)
        try:
            for position, cut in zip(positions, pool.map(lambda p: self.cut(p[1], p[2]), positions), strict=True):
                progress.add(1)
                self.refused.update(cut.refused)
                self._psfs.fetch(cut.psfs.values())
                self._require_sound(len(positions))
                if cut.reason is not None:
                    self.rejected[cut.reason] += 1
                    continue
                kept.append(self._row(position, cut))
                if len(kept) == size:
                    yield _stack(kept)
                    kept = []
            if kept:
                yield _stack(kept)
        finally:
            # After a failure no further request is sent.
            pool.shutdown(wait=True, cancel_futures=True)

    def _require_sound(self, galaxies: int) -> None:
        refused = self.refused.total()
        if refused > max(1.0, MOST_REFUSED * galaxies * len(self.bands)):
            raise ArchiveError(
                f"{refused} images of {galaxies} galaxies cannot be used, the first: {self.first_refusal}",
                where="des_cutouts",
                remedy="run the same command again later; valid images are kept",
            )

    def cut(self, ra: float, dec: float) -> Cut:
        """Fetch all bands of one galaxy; ArchiveError if the archive does not respond."""
        chosen, psfs = self._listed(ra, dec)
        stamps: dict[str, BandStamp] = {}
        weights: dict[str, np.ndarray] = {}
        refused = []
        for band in self._order:
            if (images := chosen.get(band)) is None:
                if band == self._order[0]:
                    return Cut({}, {}, psfs, NO_LABEL_IMAGE, ())
                continue
            try:
                stamp, weight = self._band(*images, ra, dec)
            except _UnusableImage as error:
                self.first_refusal = self.first_refusal or str(error)
                refused.append(band)
                if band == self._order[0]:
                    return Cut({}, {}, psfs, REFUSED, tuple(refused))
                continue
            if band == self._order[0] and (reason := rejection({band: stamp}, band)) is not None:
                return Cut({}, {}, psfs, reason, tuple(refused))
            if stamp is not None:
                stamps[band] = stamp
                if weight is not None:
                    weights[band] = weight
        return Cut(stamps, weights, psfs, None, tuple(refused))

    def _listed(
        self, ra: float, dec: float
    ) -> tuple[dict[str, tuple[ImageRecord, ImageRecord | None]], dict[str, ImageRecord]]:
        """The images and the PSFs of one galaxy, by our names of the bands."""
        size = (self.pixels + 2 * REQUEST_MARGIN) * self.settings.pixel_scale_arcsec
        found = self.client.find_images(ra, dec, size)
        spelt = {band.lower(): band for band in self.bands}
        theirs = {record.band: spelt[record.band.lower()] for record in found if record.band.lower() in spelt}
        chosen = {theirs[band]: images for band, images in choose_images(found, tuple(theirs)).items()}
        psfs = {band: psf for band, (image, _) in chosen.items() if (psf := psf_of(found, image)) is not None}
        return chosen, psfs

    def _band(
        self, image: ImageRecord, weight: ImageRecord | None, ra: float, dec: float
    ) -> tuple[BandStamp | None, np.ndarray | None]:
        where = f"{image.title}, band {image.band}, at {ra:.5f} {dec:+.5f}"
        common = {"band": image.band, "ra": ra, "dec": dec, "pixels": self.pixels, "where": where}

        def read(data: bytes) -> BandStamp | None:
            stamp = read_band(data, default_zero_point=self.settings.zero_point, **common)  # type: ignore[arg-type]
            if stamp is not None and abs(stamp.pixel_scale / self.settings.pixel_scale_arcsec - 1) > _SAME_SCALE:
                # A repeated request would return the same.
                raise Refusal(
                    f"the pixel scale is {stamp.pixel_scale:.4f} arcsec, not {self.settings.pixel_scale_arcsec:g}",
                    where=where,
                    remedy="set des.archive.pixel_scale_arcsec to that of the images",
                )
            return stamp

        stamp = self._fetch(image, read)
        if stamp is None or weight is None:
            return stamp, None
        return stamp, self._fetch(weight, lambda data: read_weight(data, **common))  # type: ignore[arg-type]

    def _fetch(self, record: ImageRecord, read: Any) -> Any:
        """Fetch an image and apply `read`; _UnusableImage if the archive responds and `read` rejects the response."""
        verdicts: list[ArchiveError] = []

        def checked(data: bytes) -> Any:
            try:
                return read(data)
            except ArchiveError as error:
                verdicts.append(error)
                raise

        try:
            return self.client.fetch(record, checked)
        except Refusal as error:
            raise _UnusableImage(str(error)) from error
        except ArchiveError as error:
            # The client wraps the last try's error: it is one of `read` if the text is the same.
            if verdicts and verdicts[-1].what in str(error):
                raise _UnusableImage(str(error)) from error
            raise

    def _row(
        self, position: tuple[int, float, float], cut: Cut
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
        row: dict[str, Any] = dict(zip(("coadd_objects_id", "ra", "dec"), position, strict=True))
        shape = (len(self.bands), self.pixels, self.pixels)
        counts, weights = np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        psfs = np.full((len(self.bands), self.psf_side, self.psf_side), np.nan, dtype=np.float32)
        for k, band in enumerate(self.bands):
            stamp, weight = cut.stamps.get(band), cut.weights.get(band)
            row |= {
                f"zero_point_{band}": stamp.zero_point if stamp else np.nan,
                f"pixel_scale_{band}": stamp.pixel_scale if stamp else np.nan,
                f"offset_x_{band}": stamp.offset_x if stamp else np.nan,
                f"offset_y_{band}": stamp.offset_y if stamp else np.nan,
                f"sigma_{band}": pixel_sigma(stamp.counts, weight) if stamp else np.nan,
                f"has_weight_{band}": weight is not None,
            }
            if stamp is not None:
                counts[k] = stamp.counts
            if weight is not None:
                weights[k] = weight
            if stamp is not None and band in cut.psfs:
                psfs[k] = self._psfs.image(cut.psfs[band], row["ra"], row["dec"])
        return row, counts, weights, psfs


class _UnusableImage(Exception):
    """The archive responded with something other than the requested image; the text is the message."""


def _stack(kept: list[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]]) -> Shard:
    rows, counts, weights, psfs = zip(*kept, strict=True)
    return Shard(pd.DataFrame(list(rows)), np.stack(counts), np.stack(weights), np.stack(psfs))
