"""TAP 1.1 without uploads: `sync`, and the VOSI resources `tables`, `capabilities` and `availability`."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deblend_assets.vo.server.adql import MAX_ROWS, TIME_LIMIT_S, QueryError, SkyDatabase
from deblend_assets.vo.server.parameters import parameters, whole_number
from deblend_assets.vo.server.votable import MEDIA_TYPE, document, error_votable, votable

_FORMATS = ("votable", "votable/td", "text/xml", MEDIA_TYPE)
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


def answer(database: SkyDatabase, given: dict[str, str]) -> bytes:
    """The VOTable that answers a TAP request.

    Args:
        database: of the survey.
        given: QUERY, LANG, MAXREC, FORMAT / RESPONSEFORMAT.

    Raises:
        QueryError: a parameter is wrong, or the query is.
    """
    if given.get("LANG", "ADQL").upper().partition("-")[0] != "ADQL":
        raise QueryError(f"LANG={given['LANG']} is not served, ADQL is")
    if "UPLOAD" in given:
        raise QueryError("uploads are not served")
    wanted = given.get("RESPONSEFORMAT") or given.get("FORMAT") or "votable"
    if wanted.partition(";")[0].lower() not in _FORMATS:
        raise QueryError(f"format {wanted} is not served, votable is")
    if not given.get("QUERY"):
        raise QueryError("QUERY is missing")
    max_rows = whole_number(given.get("MAXREC", str(MAX_ROWS)))
    if max_rows is None or max_rows < 0:
        raise QueryError(f"MAXREC={given['MAXREC'][:40]} is not a number of rows")
    fields, rows, overflow = database.query(given["QUERY"], max_rows)
    return votable(fields, rows, overflow=overflow)


def routes(database: SkyDatabase) -> list[Route]:
    """The resources below /tap, `async` aside."""

    async def sync(request: Request) -> Response:
        given = await parameters(request)
        try:
            return Response(await asyncio.to_thread(answer, database, given), media_type=MEDIA_TYPE)
        except QueryError as error:
            return Response(error_votable(str(error)), status_code=400, media_type=MEDIA_TYPE)

    async def tables(_: Request) -> Response:
        return Response(_tableset(database), media_type="text/xml")

    async def capabilities(request: Request) -> Response:
        return Response(_capabilities(str(request.base_url) + "tap"), media_type="text/xml")

    async def availability(_: Request) -> Response:
        root = ET.Element("availability", {"xmlns": "http://www.ivoa.net/xml/VOSIAvailability/v1.0"})
        ET.SubElement(root, "available").text = "true"
        return Response(document(root), media_type="text/xml")

    return [
        Route("/tap/sync", sync, methods=["GET", "POST"]),
        Route("/tap/tables", tables),
        Route("/tap/capabilities", capabilities),
        Route("/tap/availability", availability),
    ]


def _tableset(database: SkyDatabase) -> bytes:
    """VOSI 1.1 tableset."""
    root = ET.Element(
        "vosi:tableset",
        {
            "xmlns:vosi": "http://www.ivoa.net/xml/VOSITables/v1.0",
            "xmlns:vod": "http://www.ivoa.net/xml/VODataService/v1.1",
            "xmlns:xsi": _XSI,
        },
    )
    schemas: dict[str, ET.Element] = {}
    for name, fields in database.tables.items():
        schema = name.partition(".")[0]
        if schema not in schemas:
            schemas[schema] = ET.SubElement(root, "schema")
            ET.SubElement(schemas[schema], "name").text = schema
        table = ET.SubElement(schemas[schema], "table")
        ET.SubElement(table, "name").text = name
        for field in fields:
            column = ET.SubElement(table, "column")
            parts = {"name": field.name, "description": field.description, "unit": field.unit, "ucd": field.ucd}
            for tag, text in parts.items():
                if text:
                    ET.SubElement(column, tag).text = text
            size = {"arraysize": field.arraysize} if field.arraysize else {}
            kind = ET.SubElement(column, "dataType", {"xsi:type": "vod:VOTableType", **size})
            kind.text = field.datatype
    return document(root)


def _capabilities(url: str) -> bytes:
    """VOSI capabilities with TAPRegExt 1.0."""
    root = ET.Element(
        "vosi:capabilities",
        {
            "xmlns:vosi": "http://www.ivoa.net/xml/VOSICapabilities/v1.0",
            "xmlns:vs": "http://www.ivoa.net/xml/VODataService/v1.1",
            "xmlns:tr": "http://www.ivoa.net/xml/TAPRegExt/v1.0",
            "xmlns:xsi": _XSI,
        },
    )
    tap = ET.SubElement(root, "capability", {"standardID": "ivo://ivoa.net/std/TAP", "xsi:type": "tr:TableAccess"})
    _interface(tap, url, use="base")
    language = ET.SubElement(tap, "language")
    ET.SubElement(language, "name").text = "ADQL"
    ET.SubElement(language, "version", {"ivo-id": "ivo://ivoa.net/std/ADQL#v2.0"}).text = "2.0"
    ET.SubElement(ET.SubElement(tap, "outputFormat"), "mime").text = MEDIA_TYPE
    duration = ET.SubElement(tap, "executionDuration")
    limit = ET.SubElement(tap, "outputLimit")
    for kind in ("default", "hard"):
        ET.SubElement(duration, kind).text = str(int(TIME_LIMIT_S))
        ET.SubElement(limit, kind, {"unit": "row"}).text = str(MAX_ROWS)
    for part in ("capabilities", "availability", "tables"):
        _interface(
            ET.SubElement(root, "capability", {"standardID": f"ivo://ivoa.net/std/VOSI#{part}"}), f"{url}/{part}"
        )
    return document(root)


def _interface(capability: ET.Element, url: str, use: str = "full") -> None:
    interface = ET.SubElement(capability, "interface", {"xsi:type": "vs:ParamHTTP"})
    ET.SubElement(interface, "accessURL", {"use": use}).text = url
