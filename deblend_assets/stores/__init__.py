"""Files on disk or in an object store: Zarr arrays, Parquet tables, checkpoints, reports.

Everything is written whole (on disk: beside its place, then renamed), vouched for by a checksum that is written last,
and read only if that checksum agrees. No science, no Dagster.
"""
