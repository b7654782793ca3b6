"""Dagster resources: compute devices, the storage root, rendering workers, clients of survey archives.

Belongs here: a `dagster.ConfigurableResource` that owns something scarce or remote, with its configuration.
Does not belong here: how things lie on disk (`stores`), mathematics (`science`), when to run (`automation`).
"""
