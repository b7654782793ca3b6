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
    read_band,
    read_weight,
    rejection,
)
from deblend_assets.science.des.fits_image import REQUEST_MARGIN
from deblend_assets.settings import ArchiveSettings
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
        reason: why the galaxy is rejected; None: it is kept.
        refused: bands whose image or weight map was not valid in any try.
    """

    stamps: dict[str, BandStamp]
    weights: dict[str, np.ndarray]
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
    """

    def __init__(
        self, client: ArchiveClient, settings: ArchiveSettings, bands: tuple[str, ...], label_band: str, pixels: int
    ) -> None:
        self.client, self.settings, self.bands, self.pixels = client, settings, bands, pixels
        # The label band comes first, so that no other band of a rejected galaxy is fetched.
        self._order = (label_band, *(band for band in bands if band != label_band))
        self.rejected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.first_refusal = ""

    def shards(
        self, galaxies: pd.DataFrame, size: int, progress: Progress
    ) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
        """Yield rows, counts and weights of the kept galaxies, in order, `size` at a time."""
        kept: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
        positions = list(galaxies[["coadd_objects_id", "ra", "dec"]].itertuples(index=False, name=None))
        pool = ThreadPoolExecutor(self.settings.connections)
        try:
            for position, cut in zip(positions, pool.map(lambda p: self.cut(p[1], p[2]), positions), strict=True):
                progress.add(1)
                self.refused.update(cut.refused)
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
        size = (self.pixels + 2 * REQUEST_MARGIN) * self.settings.pixel_scale_arcsec
        found = self.client.find_images(ra, dec, size)
        spelt = {band.lower(): band for band in self.bands}
        theirs = {spelt[record.band.lower()]: record.band for record in found if record.band.lower() in spelt}
        chosen = choose_images(found, tuple(theirs.values()))
        stamps: dict[str, BandStamp] = {}
        weights: dict[str, np.ndarray] = {}
        refused = []
        for band in self._order:
            if (images := chosen.get(theirs.get(band, ""))) is None:
                if band == self._order[0]:
                    return Cut({}, {}, NO_LABEL_IMAGE, ())
                continue
            try:
                stamp, weight = self._band(*images, ra, dec)
            except _UnusableImage as error:
                self.first_refusal = self.first_refusal or str(error)
                refused.append(band)
                if band == self._order[0]:
                    return Cut({}, {}, REFUSED, tuple(refused))
                continue
            if band == self._order[0] and (reason := rejection({band: stamp}, band)) is not None:
                return Cut({}, {}, reason, tuple(refused))
            if stamp is not None:
                stamps[band] = stamp
                if weight is not None:
                    weights[band] = weight
        return Cut(stamps, weights, None, tuple(refused))

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

    def _row(self, position: tuple[int, float, float], cut: Cut) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        row: dict[str, Any] = dict(zip(("coadd_objects_id", "ra", "dec"), position, strict=True))
        shape = (len(self.bands), self.pixels, self.pixels)
        counts, weights = np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.float32)
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
        return row, counts, weights


class _UnusableImage(Exception):
    """The archive responded with something other than the requested image; the text is the message."""


def _stack(
    kept: list[tuple[dict[str, Any], np.ndarray, np.ndarray]],
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rows, counts, weights = zip(*kept, strict=True)
    return pd.DataFrame(list(rows)), np.stack(counts), np.stack(weights)
