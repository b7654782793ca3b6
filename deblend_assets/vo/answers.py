"""Rows of the VOTables of TAP and SIA services: complete, or an error that says why not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from astropy.io import votable
from pyvo.dal.query import DALResults
from pyvo.dal.sia import SIARecord, SIAResults
from pyvo.dal.tap import TAPResults

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import ImageRecord
from deblend_assets.vo.contents import Refusal, archive_fault, is_html, shortened, words_of

R = TypeVar("R", bound=DALResults)

Product = Literal["image", "weight", "psf"]
# The archive's names of an image, its map of inverse variances and its PSF; masks and all else are ignored.
PRODUCTS: dict[str, Product] = {"image": "image", "weight": "weight", "wtmap": "weight", "psf": "psf"}
STACKED = "stack"


class RowLimit(Refusal):
    """The service gives no more rows at once, whatever is requested (OVERFLOW below MAXREC).

    Args:
        rows: that it gave.
        where: for error lines.
        remedy: what to do about it.
    """

    def __init__(self, rows: int, where: str, remedy: str) -> None:
        super().__init__(
            f"the archive gives no more than {rows} rows at once (OVERFLOW), a limit of its own",
            where=where,
            remedy=remedy,
        )


def read_rows(data: bytes, *, max_rows: int, session: Any, where: str) -> pd.DataFrame:
    """The rows of a TAP answer, one column a field: masked numbers are NaN, masked texts "", whole numbers stay whole.

    Args:
        data: the VOTable.
        max_rows: MAXREC of the query; an answer of so many rows may have been cut and is not accepted.
        session: passed to pyvo; no request is made here.
        where: for error lines.

    Raises:
        Refusal: the service answered with an error, or has more rows than it gives.
        RowLimit: the latter, by a limit of the service itself.
        PassingFault: the service answered with an error that may pass.
        ArchiveError: the bytes are not such a table.
    """
    results, cut = _results(data, TAPResults, session, where)
    table = results.to_table()
    if len(table) >= max_rows:
        remedy = "raise max_rows of the profile's archive section, or request less sky"
        raise Refusal(f"the answer fills the limit of {max_rows} rows", where=where, remedy=remedy)
    if cut:
        raise RowLimit(len(table), where, f"raising max_rows ({max_rows}) does not help; request less sky")
    columns = {str(name): _column(table[name], str(name), where) for name in table.colnames}
    return pd.DataFrame(columns)


def read_images(data: bytes, *, session: Any, where: str) -> list[ImageRecord]:
    """The stacked images, weight maps and PSFs among the rows of an SIA 1 answer.

    Fields that SIA 1 knows are found by their UCD, whatever a server names them.

    Raises:
        Refusal, RowLimit, PassingFault: as `read_rows`.
        ArchiveError: as `read_rows`, or a row lacks what must be known of it.
    """
    results, cut = _results(data, SIAResults, session, where)
    if cut:
        raise RowLimit(len(results), where, "request less sky")
    if len(results) == 0:
        return []
    names = {name.lower(): name for name in results.fieldnames}
    missing = [name for name in ("proctype", "prodtype", "exptime") if name not in names]
    if missing:
        raise _unusable(f"the list of images has no column {', '.join(missing)}", where)
    found = []
    for row in results:
        product = PRODUCTS.get(_text(row[names["prodtype"]]).lower())
        if product is not None and _text(row[names["proctype"]]).lower() == STACKED:
            found.append(_image(row, product, _exposure_s(row[names["exptime"]], where), where))
    return found


def _image(row: SIARecord, product: Product, exposure_s: float, where: str) -> ImageRecord:
    url, bandpass, title = _text(row.getdataurl()), _text(row.bandpass_id), _text(row.title)
    if not url or not bandpass:
        raise _unusable(f"the list of images names no {'URL' if not url else 'bandpass'} for {title!r}", where)
    # Bands read like "r DECam SDSS c0002 6415.0 1480.0".
    return ImageRecord(url=url, band=bandpass.split()[0], product=product, exposure_s=exposure_s, title=title)


def _exposure_s(value: Any, where: str) -> float:
    """Exposure time [s], which archives give as a number or as its text; 0 where they give none."""
    text = _text(value)
    if not text:
        return 0.0
    try:
        exposure = float(text)
    except ValueError as error:
        raise _unusable(f"an exposure time reads {shortened(text)!r}", where) from error
    return exposure if np.isfinite(exposure) else 0.0


def _results(data: bytes, kind: type[R], session: Any, where: str) -> tuple[R, bool]:
    """The rows, and whether the service has cut them (OVERFLOW)."""
    try:
        document = votable.parse(io.BytesIO(data))
        infos = [(str(info.value).upper(), str(info.content or "")) for info in _status_infos(document)]
    except Exception as error:  # astropy's parser raises any kind of exception on other documents
        raise _not_votable(data, error, where) from error
    for status, message in infos:
        if status not in ("OK", "OVERFLOW"):
            raise archive_fault(message or status, where)
    try:
        return kind(document, url=where, session=session), any(status == "OVERFLOW" for status, _ in infos)
    except Exception as error:  # and so does pyvo
        raise _not_votable(data, error, where) from error


def _status_infos(document: Any) -> Iterator[Any]:
    """Every QUERY_STATUS, before the table and after it."""
    places = [document, *document.resources, *(table for resource in document.resources for table in resource.tables)]
    for place in places:
        yield from (info for info in place.infos if str(info.name).upper() == "QUERY_STATUS")


def _column(column: Any, name: str, where: str) -> Any:
    """A table's column as pandas takes it: one value a row."""
    if column.ndim != 1:
        raise _unusable(f"column {name} holds arrays", where)
    values = np.asarray(column)
    masked = np.broadcast_to(np.asarray(getattr(column, "mask", False)), values.shape)
    if values.dtype.kind in "OSU":
        return ["" if hidden else _text(value) for value, hidden in zip(values, masked, strict=True)]
    if values.dtype.kind in "iu" and masked.any():
        values = values.astype(np.float64)
    if values.dtype.kind == "f":
        values = np.where(masked, np.nan, values)
    return values


def _text(value: Any) -> str:
    if value is None or value is np.ma.masked:
        return ""
    return (value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)).strip()


def _unusable(what: str, where: str) -> ArchiveError:
    return ArchiveError(what, where=where, remedy="check that the profile's archive section names the right service")


def _not_votable(data: bytes, error: Exception, where: str) -> ArchiveError:
    said = words_of(data)
    if is_html(data):
        what = f"a web page came instead of a table: {said!r}"
    else:
        what = f"the answer is not a whole VOTable ({shortened(str(error))})"
    return ArchiveError(what, where=where, remedy="run the same command again; if it recurs, check the archive's URLs")
