"""The page of every key of a `field.toml` and of a profile, made from the models that validate them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx

from deblend_assets.settings import Profile, StageSettings
from deblend_assets.stores.field_files.field_file import BandFile, FieldFile
from site_extensions.sections import write

INTRODUCTION = """\
# Which settings are there?

A `field.toml` names the images of a field and says how they are measured. A profile has every number of the lineage.
Both are TOML. An unknown key or a value out of range is an error of one line that names it.
"""
FIELD = """\
## `field.toml`

[Own images](../measuring_images.md) shows one. Its section `[detection]` is that of [a profile](#detection).
"""
PROFILE = """\
## A profile

[Own survey](../settings.md) says how to make one.
"""
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true`, `false`"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a key that is a table; none for a value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def grouped(model: type[BaseModel], path: str = "") -> dict[type[BaseModel], list[str]]:
    """The models of the sections below one, each with the names of its sections."""
    found: dict[type[BaseModel], list[str]] = {}
    for name, field in model.model_fields.items():
        if inner := model_of(field):
            found.setdefault(inner, []).append(f"{path}{name}")
            for deeper, names in grouped(inner, f"{path}{name}.").items():
                found.setdefault(deeper, []).extend(names)
    return found


def values(schema: Mapping[str, Any]) -> str:
    """The values that a key takes, in words."""
    if choices := schema.get("anyOf"):
        return " or ".join(values(choice) for choice in choices if choice.get("type") != "null")
    if choices := schema.get("enum"):
        return ", ".join(toml(choice) for choice in choices)
    if "const" in schema:
        return toml(schema["const"])
    if schema["type"] == "array":
        return f"list of {values(schema['items'])}"
    if schema["type"] == "object":
        return "table"
    # No-break spaces: a bound stays on one line.
    bounds = ", ".join(f"{sign}\u00a0{schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{_TYPES[schema['type']]} {bounds}".strip()


def toml(value: Any) -> str:
    """A value as TOML writes it, between backticks; TOML has nothing for none."""
    return "not given" if value is None else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_none=True)
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in given.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def table(model: type[BaseModel]) -> str:
    """The keys of a section; empty where it holds other sections alone."""
    schema, rows = model.model_json_schema()["properties"], []
    for name, field in model.model_fields.items():
        inner = model_of(field)
        if inner not in (None, StageSettings) or name == "bands":
            continue
        kind = "[table](#a-training-stage)" if inner else values(schema[name])
        default = "required" if field.is_required() else toml(field.default)
        if name == "name":
            default = "the file's name"
        meaning = re.sub(r"([|*<])", r"\\\1", field.description or ("length and step size" if inner else ""))
        rows.append(f"| `{name}` | {kind} | {default} | {meaning} |")
    return "\n".join(["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows]) if rows else ""


def section(title: str, model: type[BaseModel], more: str = "") -> str:
    """A section with its keys."""
    return f"### {title}\n\n{inspect.getdoc(model)}{more}\n\n{table(model)}\n"


def page() -> str:
    """The whole page, in Markdown."""
    found = grouped(Profile)
    stages = ", ".join(f"`{name}`" for name in found.pop(StageSettings))
    parts = [INTRODUCTION, FIELD, table(FieldFile), "", section("`[bands.r]`", BandFile), PROFILE, table(Profile), ""]
    for model, names in found.items():
        if table(model):
            parts.append(section(", ".join(f"`[{name}]`" for name in names), model))
    parts.append(section("A training stage", StageSettings, f" Of {stages}."))
    return "\n".join(parts)


def write_page(app: Sphinx) -> None:
    """Write the page into docs/sections."""
    write(Path(app.srcdir, "docs", "sections", "settings_keys.md"), page())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
