"""How things lie on disk or in an object store: Zarr arrays, Parquet tables, checkpoints, reports.

Everything here is written whole (on disk: beside its place, then renamed), vouched for by a checksum written last,
and read back only if that checksum agrees. No science, no Dagster.
"""
