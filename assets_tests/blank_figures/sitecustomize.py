"""On the PYTHONPATH of processes whose figures nobody looks at: blank figures. They take much of a small run's time.

Python imports `sitecustomize` at its start. Matplotlib is changed when it is imported, by those processes that do.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import IO, Any


def blank(figure: Any, file: IO[bytes], **options: Any) -> None:
    """In place of `Figure.savefig`: one small picture for all."""
    from PIL import Image

    Image.new("RGB", (4, 3), "white").save(file, format="png")


class _Figures(MetaPathFinder, Loader):
    """Loads `matplotlib.figure`, and replaces its `savefig`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "matplotlib.figure":
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
        module.Figure.savefig = blank


if __name__ == "sitecustomize":  # not where a test imports `blank`
    sys.meta_path.insert(0, _Figures())
