"""A user's table of positions for forced measurement: read with all its columns, and placed on a field."""

from deblend_assets.stores.positions.positions import Positions
from deblend_assets.stores.positions.read import TableLike, positions_of, read_positions

__all__ = ["Positions", "TableLike", "positions_of", "read_positions"]
