"""A user's FITS files and `field.toml` → `science.images.field.Field`."""

from deblend_assets.stores.field_files.field_file import BandFile, FieldFile, read_field_file
from deblend_assets.stores.field_files.read import field_file_of_arguments, read_field

__all__ = ["BandFile", "FieldFile", "field_file_of_arguments", "read_field", "read_field_file"]
