"""Signatures as the code writes them, and the names in them and in docstrings as links."""

from __future__ import annotations

import inspect
import re
import sys
from collections import namedtuple
from typing import Any, TypeVar

from docutils.nodes import TextElement
from numpy.typing import ArrayLike
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import stringify_annotation

_TUPLE_FIELD = type(inspect.getattr_static(namedtuple("_One", "field"), "field"))
_ARRAY_LIKE = stringify_annotation(ArrayLike, mode="smart")
_ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([^\[\]]+)\]\]")
# Kinds of objects that a name without its module stands for.
_KINDS = {"class", "exception", "function", "method", "data", "property"}


def readable(annotations: str) -> str:
    """Annotations with numpy's names for arrays instead of what these stand for."""
    short = _ARRAY.sub(r"~numpy.typing.NDArray[\1]", annotations.replace(_ARRAY_LIKE, "~numpy.typing.ArrayLike"))
    # A default that is made by a function is no Python: Sphinx would show the whole signature as it is.
    return short.replace("~numpy.typing.NDArray[~typing.Any]", "~numpy.typing.NDArray").replace("<factory>", "...")


def _signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Nobody makes an object of a protocol; a model of settings lists its keys below."""
    if what == "class" and (getattr(obj, "_is_protocol", False) or issubclass(obj, BaseModel)):
        return "", None
    return arguments and readable(arguments), returned and readable(returned)


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what other packages add to our classes, and the fields of a named tuple, which its class describes."""
    foreign = inspect.isroutine(obj) and not str(getattr(obj, "__module__", "")).startswith("deblend_assets")
    return True if foreign or name == "model_config" or isinstance(obj, _TUPLE_FIELD) else None


def _unresolved(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement) -> TextElement | None:
    """A name of another module, where only one object has it; without a link what is documented nowhere.

    These are private names and type variables.
    """
    target = node.get("reftarget", "")
    module, _, name = target.rpartition(".")
    if module.startswith("deblend_assets"):
        found = getattr(sys.modules.get(module), name, None)
        return text if name.startswith("_") or isinstance(found, TypeVar) else None
    if node.get("refdomain") != "py" or not re.search(r"[._A-Z]", target) or app.builder is None:
        return None
    objects = env.domains.python_domain.objects
    alike = [
        full
        for full, entry in objects.items()
        if full.endswith(f".{target}") and entry.objtype in _KINDS and not full.startswith("deblend_assets.api.")
    ]
    if len(alike) != 1:
        return None
    entry = objects[alike[0]]
    return make_refnode(app.builder, node.get("refdoc", ""), entry.docname, entry.node_id, [text], alike[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _unresolved)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
