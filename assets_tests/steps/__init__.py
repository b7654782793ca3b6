"""Steps: what assets do, without Dagster."""
