"""How things lie on disk: Zarr arrays, Parquet tables, checkpoints, reports.

Everything here is written beside its place and renamed, vouched for by a checksum written last, and read back
only if that checksum agrees. No science, no Dagster.
"""
