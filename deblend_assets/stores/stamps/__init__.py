"""Reads a user's stamps in blocks, from a Zarr array, a folder of .npy and FITS files, or one such file."""

from deblend_assets.stores.stamps.framed import in_frame
from deblend_assets.stores.stamps.opening import open_stamps
from deblend_assets.stores.stamps.protocol import Stamps, blocks, first_line

__all__ = ["Stamps", "blocks", "first_line", "in_frame", "open_stamps"]
