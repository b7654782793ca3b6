"""Docstrings as the code writes them: plain text, code between single backticks, lists, indented blocks of code."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

_TOKEN = re.compile(r"`([^`\n]+)`(?=(\w?))|([*|\\])|(?<=\w)(_)(?!\w)")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_SECTION = re.compile(r"[A-Z][a-z]+( [a-z]+)*:")
_ITEM = re.compile(r"\s*[*-] ")
_COLON = "\ue000"


def marked_up(line: str) -> str:
    """A line of text as reStructuredText: names between backticks become references, other code literals."""
    bullet = _ITEM.match(line)
    start = bullet.end() if bullet else 0
    return line[:start] + _TOKEN.sub(_replacement, line[start:])


def _replacement(found: re.Match[str]) -> str:
    code, behind, sign, underscore = found.groups()
    if code is None:
        return f"\\{sign or underscore}"
    before = found.string[: found.start()][-1:]
    quoted = f"`{code}`" if _NAME.fullmatch(code) else f"``{code}``"
    return ("\\ " if before.isalnum() else "") + quoted + ("\\ " if behind else "")


def spaced(lines: list[str]) -> list[str]:
    """Lines with a blank one before and behind each list, as reStructuredText wants it."""
    out: list[str] = []
    item: int | None = None  # indentation of the list that the line above belongs to
    for line in lines:
        indent = len(line) - len(line.lstrip())
        starts = _ITEM.match(line) is not None
        inside = item is not None and (indent > item or (starts and indent == item))
        if line.strip():
            if out and out[-1].strip() and ((starts and not inside) or (item is not None and not inside)):
                out.append("")
            if starts and not (inside and item is not None and indent > item):
                item = indent
            elif not inside:
                item = None
        out.append(line)
    return out


def restructured(lines: list[str], *, typed: bool = True) -> list[str]:
    """A docstring for napoleon: indented blocks that are none of its sections are code.

    Napoleon takes what stands before the first colon of `Returns:`, and of a variable's docstring (`typed` is false),
    for a type. Here it is text, so such a colon is hidden from it.
    """
    out: list[str] = []
    above, code = "", False
    for line in spaced(lines):
        indented = line.startswith("    ")
        if indented and out and not out[-1].strip() and not code and not _SECTION.fullmatch(above):
            out += ["::", ""]
            code = True
        code = code and (indented or not line.strip())
        text = line if code else marked_up(line)
        if not code and (not typed or (indented and above == "Returns:")):
            text = text.replace(":", _COLON)
        out.append(text)
        if line.strip() and not indented:
            above = line.strip()
    return out


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model of settings as a section of its docstring."""
    fields = model.model_fields.items()
    return ["", "Attributes:", *(f"    {name}: {field.description or ''}".rstrip() for name, field in fields), ""]


def _before_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if isinstance(obj, type) and issubclass(obj, BaseModel) and obj.model_fields:
        lines += keys_of(obj)
    lines[:] = restructured(lines, typed=what not in ("attribute", "data", "property"))


def _after_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # Napoleon has the priority 500.
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
