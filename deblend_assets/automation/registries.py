"""The registries of this project."""

from __future__ import annotations

from deblend_assets.automation.registry import Registry
from deblend_assets.partitions import FIELDS, TILES
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.stores.fields import field_name

TILE_REGISTRY = Registry(TILES, "tile", tile_name, "tiles/retired.json")
FIELD_REGISTRY = Registry(FIELDS, "field", field_name, "fields/_retired.json")
REGISTRIES = (TILE_REGISTRY, FIELD_REGISTRY)
