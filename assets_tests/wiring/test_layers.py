"""The layers of docs/architecture.md, walked through the imports: no arrow runs upward."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deblend_assets

PACKAGE = Path(deblend_assets.__file__).parent
NAME = "deblend_assets"

# From the lowest to the highest; modules of one row may import one another only within their own folder.
ORDER: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("settings", "progress"),
    ("science",),
    ("stores",),
    ("vo",),
    ("resources", "partitions"),
    ("steps",),
    ("automation", "assets", "api"),
    ("lineage",),
    ("definitions",),
    ("cli",),
)
LEVEL = {part: level for level, row in enumerate(ORDER) for part in row}
# The rooms of `science/`, bottom up. Within a tier no room imports another, but for the arrows that are listed.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("stamps", "statistics"),
    ("skies",),
    ("detection", "simulation", "networks"),
    ("training", "peers", "worlds", "images"),
    ("deblender", "shapes", "sky_shapes", "redshift", "shear", "des"),
    ("measuring", "simulated_survey"),
    ("metadetection",),
    ("evaluation", "field_shear"),
    ("reports",),
)
ROOM_TIER = {room: tier for tier, row in enumerate(ROOMS) for room in row}
# The network of every sky has the posterior of the shape network, its model the network of redshifts.
WITHIN_A_TIER = {("sky_shapes", "shapes"), ("sky_shapes", "redshift")}
IMPORTS = (ast.Import, ast.ImportFrom)
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str | None:
    """The layer's name of a module of the package; none for the package itself and for other packages."""
    pieces = module.split(".")
    return pieces[1] if pieces[0] == NAME and len(pieces) > 1 and not pieces[1].startswith("__") else None


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything imported, inside functions and under TYPE_CHECKING too."""
    found = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{module}.{alias.name}" if module == NAME else module) for alias in node.names]
    return found


def violations(path: Path, source: str) -> list[str]:
    wrong = []
    for line, imported in imports_of(path):
        target = part_of(imported)
        if target is None or target == source:
            continue
        if LEVEL[target] >= LEVEL[source]:
            wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {imported}")
    return wrong


def test_every_module_has_its_layer() -> None:
    parts = {part_of(module_name(path)) for path in MODULES} - {None}
    assert parts <= LEVEL.keys(), "give a new folder its place in ORDER and in docs/architecture.md"
    assert len(MODULES) > 30


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_runs_upward(path: str) -> None:
    source = part_of(module_name(path))
    if source is None:
        # Below TYPE_CHECKING and in functions there may be more.
        outermost = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, IMPORTS)]
        modules = {alias.name for node in outermost for alias in node.names if isinstance(node, ast.Import)}
        modules |= {node.module for node in outermost if isinstance(node, ast.ImportFrom)}
        assert modules <= {"__future__", "typing"}, "the package itself imports nothing of ours when it is imported"
        return
    assert violations(path, source) == []


def test_an_upward_arrow_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PACKAGE / "science" / "imagined.py"
    code = "def f():\n    from deblend_assets.stores import files\nimport deblend_assets.definitions\n"
    code += "from .. import stores\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: code)
    assert [text.split(" imports ")[1] for text in violations(path, "science")] == [
        "deblend_assets.definitions",
        "deblend_assets.stores",
        "deblend_assets.stores",
    ]


def room_of(module: str) -> str | None:
    """The room of a module of `science/`."""
    pieces = module.split(".")
    return pieces[2] if pieces[:2] == [NAME, "science"] and len(pieces) > 2 else None


def room_violations(path: Path, room: str) -> list[str]:
    wrong = []
    for line, imported in imports_of(path):
        target = room_of(imported)
        if target is None or target == room or (room, target) in WITHIN_A_TIER:
            continue
        if ROOM_TIER[target] >= ROOM_TIER[room]:
            wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {imported}")
    return wrong


SCIENCE = [path for path in MODULES if room_of(module_name(path))]


def test_every_room_of_science_has_its_tier_and_nothing_lies_loose() -> None:
    assert {room_of(module_name(path)) for path in SCIENCE} == ROOM_TIER.keys()
    loose = [p.name for p in (PACKAGE / "science").glob("*.py") if p.name != "__init__.py"]
    assert loose == [], "a module of science/ lies in a room"


@pytest.mark.parametrize("path", SCIENCE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_between_rooms_runs_upward(path: str) -> None:
    room = room_of(module_name(path))
    assert room is not None
    assert room_violations(path, room) == []


def test_an_upward_arrow_between_rooms_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from deblend_assets.science.reports.page import Table\nfrom deblend_assets.science.networks import VAE\n"
    code += "from deblend_assets.science.stamps.moments import image_moments\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: code)
    path = PACKAGE / "science" / "simulation" / "imagined.py"
    assert [text.split(" imports ")[1] for text in room_violations(path, "simulation")] == [
        "deblend_assets.science.reports.page",
        "deblend_assets.science.networks",
    ]


def test_arrows_between_rooms_are_few() -> None:
    arrows = {
        (room_of(module_name(path)), room_of(imported))
        for path in SCIENCE
        for _, imported in imports_of(path)
        if room_of(imported) not in (None, room_of(module_name(path)))
    }
    assert len(arrows) <= 95


FORBIDDEN = {
    "errors": {"dagster", "zarr", "numpy", "torch", "pydantic"},
    "progress": {"dagster", "zarr", "numpy", "torch"},
    "settings": {"dagster", "zarr", "numpy", "torch"},
    "science": {"dagster", "zarr"},
    "stores": {"dagster"},
    "vo": {"dagster"},
    "steps": {"dagster"},
}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_lower_layers_keep_from_the_machinery(layer: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {imported}"
        for path in MODULES
        if part_of(module_name(path)) == layer
        for line, imported in imports_of(path)
        if imported.split(".")[0] in FORBIDDEN[layer]
    ]
    assert wrong == []


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_science_and_stores_work_where_dagster_is_not_installed() -> None:
    """Each module of the two layers is imported with a finder that refuses Dagster (and, for science, Zarr)."""
    for layer, blocked in (("science", ("dagster", "zarr")), ("stores", ("dagster",))):
        modules = [module_name(p) for p in MODULES if part_of(module_name(p)) == layer]
        code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
for name in {modules!r}:
    importlib.import_module(name)
try:
    import dagster
except ImportError as error:
    assert "refused" in str(error)
else:
    raise SystemExit("the finder refuses nothing")
"""
        result = run(code)
        assert result.returncode == 0, result.stderr


def test_loading_the_definitions_draws_nothing_and_needs_no_simulator() -> None:
    """The UI and every spawned process load them: what only an asset needs is imported inside it."""
    result = run(
        "import sys, deblend_assets.definitions\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'galsim', 'btk', 'surveycodex', 'astropy', 'torch'}))"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
