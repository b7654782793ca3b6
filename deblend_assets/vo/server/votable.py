"""VOTable 1.4 documents (IVOA Recommendation 2019-10-21), TABLEDATA serialisation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

MEDIA_TYPE = "application/x-votable+xml"
# Characters that XML 1.0 cannot hold; a query echoed in an error message may contain them.
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


class Field(NamedTuple):
    """A column: VOTable datatype, array size ("" for a scalar), unit, UCD and meaning."""

    name: str
    datatype: str
    arraysize: str = ""
    unit: str = ""
    ucd: str = ""
    description: str = ""


def document(root: ET.Element) -> bytes:
    """The XML document of one element."""
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def writable(text: str) -> str:
    """The text without characters that XML cannot hold."""
    return _UNWRITABLE.sub("?", text)


def votable(fields: Sequence[Field], rows: Iterable[Sequence[Any]], *, overflow: bool = False) -> bytes:
    """A successful answer.

    Args:
        fields: the columns.
        rows: one value a column: number, string, sequence of numbers (an array), or None.
        overflow: the answer was cut at MAXREC; adds a second QUERY_STATUS after the table (DALI 1.1, 4.4.1).
    """
    root, resource = _results()
    _status(resource, "OK")
    table = ET.SubElement(resource, "TABLE")
    for field in fields:
        given = {"unit": field.unit, "ucd": field.ucd, "arraysize": field.arraysize}
        attributes = {key: value for key, value in given.items() if value}
        element = ET.SubElement(
            table, "FIELD", {"name": writable(field.name), "datatype": field.datatype, **attributes}
        )
        if field.description:
            ET.SubElement(element, "DESCRIPTION").text = field.description
    data = ET.SubElement(ET.SubElement(table, "DATA"), "TABLEDATA")
    for row in rows:
        tr = ET.SubElement(data, "TR")
        for value in row:
            ET.SubElement(tr, "TD").text = _cell(value)
    if overflow:
        _status(resource, "OVERFLOW")
    return document(root)


def error_votable(message: str) -> bytes:
    """The answer to a query that failed (DALI 1.1, 4.4)."""
    root, resource = _results()
    _status(resource, "ERROR", message)
    return document(root)


def _results() -> tuple[ET.Element, ET.Element]:
    root = ET.Element("VOTABLE", {"version": "1.4", "xmlns": "http://www.ivoa.net/xml/VOTable/v1.3"})
    return root, ET.SubElement(root, "RESOURCE", {"type": "results"})


def _status(resource: ET.Element, value: str, message: str | None = None) -> None:
    ET.SubElement(resource, "INFO", {"name": "QUERY_STATUS", "value": value}).text = writable(message or "") or None


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, (list, tuple)):
        return " ".join(map(repr, value))
    return repr(value)  # the shortest text that reads back as the same double
