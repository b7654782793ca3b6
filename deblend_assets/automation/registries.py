"""The registries of this project."""

from __future__ import annotations

from deblend_assets.automation.registry import Registry
from deblend_assets.partitions import TILES
from deblend_assets.science.des.tiles import tile_name

TILE_REGISTRY = Registry(TILES, "tile", tile_name, "tiles/retired.json")
