"""Galaxy blends in; deblended galaxies, measured shapes and their reports out.

    import deblend_assets as da

    catalog = da.measure(da.read_field("field.toml"))  # images of any survey: detected, deblended, measured

The names for a script are those of `deblend_assets.api`, imported when they are first used. The science lives in
`deblend_assets.science` and needs no Dagster; `deblend_assets.definitions` is where the science, the stores, the
resources and the assets meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblend_assets.api import (
        GOOD_FLUX,
        GOOD_SHAPE,
        DeblendError,
        Field,
        MeasurementSettings,
        Observation,
        Response,
        RowFlag,
        SkyModel,
        Stamps,
        deblend,
        detect,
        inject,
        load_model,
        measure,
        metadetect,
        read_field,
        response,
        settings,
        show,
    )

__version__ = "0.2.0"
__all__ = [
    "GOOD_FLUX",
    "GOOD_SHAPE",
    "DeblendError",
    "Field",
    "MeasurementSettings",
    "Observation",
    "Response",
    "RowFlag",
    "SkyModel",
    "Stamps",
    "deblend",
    "detect",
    "inject",
    "load_model",
    "measure",
    "metadetect",
    "read_field",
    "response",
    "settings",
    "show",
]


def __getattr__(name: str) -> Any:
    """A name of `__all__`, from `deblend_assets.api` (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deblend_assets import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
