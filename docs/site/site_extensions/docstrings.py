"""Docstrings as the code writes them: plain text, code between single backticks, indented blocks of code."""

from __future__ import annotations

import inspect
import re
import sys
from collections import namedtuple
from typing import Any, TypeVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_TOKEN = re.compile(r"`([^`\n]+)`(?=(\w?))|([*|\\])|(?<=\w)(_)(?!\w)")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_COLON = "\ue000"
_TUPLE_FIELD = type(inspect.getattr_static(namedtuple("_One", "field"), "field"))
_SECTION = re.compile(r"[A-Z][a-z]+( [a-z]+)*:")


def marked_up(line: str) -> str:
    """A line of text as reStructuredText: names between backticks become references, other code literals."""
    bullet = re.match(r"\s*[*-] ", line)
    start = bullet.end() if bullet else 0
    return line[:start] + _TOKEN.sub(_replacement, line[start:])


def _replacement(found: re.Match[str]) -> str:
    code, behind, sign, underscore = found.groups()
    if code is None:
        return f"\\{sign or underscore}"
    before = found.string[: found.start()][-1:]
    quoted = f"`{code}`" if _NAME.fullmatch(code) else f"``{code}``"
    return ("\\ " if before.isalnum() else "") + quoted + ("\\ " if behind else "")


def restructured(lines: list[str], *, typed: bool = True) -> list[str]:
    """A docstring for napoleon: indented blocks that are none of its sections are code.

    Napoleon takes what stands before the first colon of `Returns:`, and of a variable's docstring (`typed` is false),
    for a type. Here it is text, so such a colon is hidden from it.
    """
    out: list[str] = []
    above, code = "", False
    for line in lines:
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


def _before_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines, typed=what not in ("attribute", "data", "property"))


def _after_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple: the class says what they are."""
    return True if isinstance(obj, _TUPLE_FIELD) else None


def _signature(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """Nobody makes an object of a protocol."""
    return ("", None) if what == "class" and getattr(obj, "_is_protocol", False) else None


def _unresolved(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement) -> nodes.Node | None:
    """Private names and type variables are documented nowhere: they are shown without a link."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if not module.startswith("deblend_assets"):
        return None
    found = getattr(sys.modules.get(module), name, None)
    return text if name.startswith("_") or isinstance(found, TypeVar) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # Napoleon has the priority 500.
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _unresolved)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
