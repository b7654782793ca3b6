"""On the PYTHONPATH of processes whose figures nobody looks at: blank figures. They take much of a small run's time.

Python imports `sitecustomize` at its start. The module that draws is changed when it is imported.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

DRAWING, FUNCTION = "deblend_assets.science.reports.figures.style", "_rendered"
"""What draws all figures."""


def blank(figure: Any, dpi: int, dither: bool) -> bytes:
    """In its place: one small picture for all."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "white").save(stream, format="png")
    return stream.getvalue()


class _Figures(MetaPathFinder, Loader):
    """Loads the module, and replaces its function."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != DRAWING:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec) if self._loader else None

    def exec_module(self, module: ModuleType) -> None:
        assert self._loader is not None
        self._loader.exec_module(module)
        assert hasattr(module, FUNCTION)
        setattr(module, FUNCTION, blank)


if __name__ == "sitecustomize":  # not where a test imports `blank`
    sys.meta_path.insert(0, _Figures())
