"""The kit of the report pages: pictures, sections, and one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2

from deblend_assets.science.statistics.format import Table


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    caption: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, then tables, then figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()


def render_report(title: str, summary: Table, sections: Sequence[Section], provenance: Mapping[str, str]) -> str:
    """One self-contained HTML page: images as data, style inline, no script; every text is escaped.

    Args:
        title: heading of the page.
        summary: the headline table.
        sections: in order.
        provenance: what the numbers were made from, such as profile, fingerprints and versions.
    """
    template = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template)
    return page.render(title=title, summary=summary, sections=sections, provenance=provenance)


def placed(
    figures: Mapping[str, bytes], captions: Mapping[str, tuple[str, str]], other: str
) -> dict[str, list[Picture]]:
    """Pictures by section, in the order of `captions`; those without a caption go to `other` under their own name.

    Args:
        figures: PNG bytes by name.
        captions: section and caption by name.
        other: title of the section for the rest.
    """
    pictures: dict[str, list[Picture]] = {}
    for name in [*(n for n in captions if n in figures), *(n for n in figures if n not in captions)]:
        place, caption = captions.get(name, (other, name))
        pictures.setdefault(place, []).append(Picture(figures[name], caption))
    return pictures
