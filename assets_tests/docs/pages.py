"""The pages of the documentation as the tests read them: fenced blocks, commands, links."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(path for path in ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "storage" / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "deblend_assets" / "weights" / "MODEL_CARD.md",
]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
# In a sentence: `make demo`, `deblend_assets tiles list`. An ellipsis stands for arguments of any kind.
_INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:make|deblend_assets|dagster|python3?) [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its path below the checkout.
        number: of the block among those of its language on the page, from 0.
        language: what stands behind the fence.
        text: the block without its fences.
    """

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.language}:{self.number}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[Block]:
    """Every block of one language, page by page."""
    return [
        Block(name_of(page), number, language, text)
        for page in PAGES
        for number, text in enumerate(
            text for found, text in _FENCE.findall(page.read_text(encoding="utf-8")) if found == language
        )
    ]


def languages() -> set[str]:
    return {found for page in PAGES for found, _ in _FENCE.findall(page.read_text(encoding="utf-8"))}


def prose(page: Path) -> str:
    """The page without its blocks; of a notebook its cells of text."""
    if page.suffix == ".ipynb":
        found = json.loads(page.read_text(encoding="utf-8"))["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in found if cell["cell_type"] == "markdown")
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_commands(page: Path) -> list[str]:
    return [command.strip() for command in _INLINE.findall(prose(page))]


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a console block, as words: without comments, redirections and variables set in front."""
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ;; "), posix=True, punctuation_chars=";&|<>")
    lexer.commenters = ""
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";;"]:
        if not set(word) <= set(";&|<>"):
            command.append(word)
        elif word not in ("<", ">", ">>", "&>"):
            if command:
                yield command
            command = []


def console_commands(text: str) -> list[list[str]]:
    """See `commands`; a comment begins with a # at the start of a line or behind a space."""
    without_comments = re.sub(r"(^|\s)#\s.*$", "", text, flags=re.MULTILINE)
    return [plain for command in commands(without_comments) if (plain := _without_variables(command))]


def _without_variables(command: list[str]) -> list[str]:
    while command and re.fullmatch(r"[A-Za-z_]+=.*", command[0]):
        command = command[1:]
    return [command[0].removeprefix(".venv/bin/"), *command[1:]] if command else []
