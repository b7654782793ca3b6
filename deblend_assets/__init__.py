"""Galaxy blends in; deblended galaxies, measured shapes and honest reports out.

The science lives in `deblend_assets.science` and needs no Dagster; `deblend_assets.definitions` is the
one place where the science, the stores, the resources and the assets meet.
"""
