"""Galaxy blends in; deblended galaxies, measured shapes and their reports out.

The science lives in `deblend_assets.science` and needs no Dagster; `deblend_assets.definitions` is where the science,
the stores, the resources and the assets meet.
"""

from __future__ import annotations

__version__ = "0.2.0"
