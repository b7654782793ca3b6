"""Reads a user's stamps, from Zarr, a folder of .npy and FITS files, or one such file."""

from deblend_assets.stores.stamps.opening import open_stamps
from deblend_assets.stores.stamps.protocol import ReadStamps, StoredStamps

__all__ = ["ReadStamps", "StoredStamps", "open_stamps"]
