"""The real definitions with sensors that look every few seconds: a minute between two looks is for users."""

from deblend_assets.automation import conditions, field_sensor, tile_sensor

# Before the definitions are built, which the import of `deblend_assets.definitions` does; the daemons wake every 5 s.
tile_sensor.LOOK_SECONDS = field_sensor.LOOK_SECONDS = conditions.TICK_SECONDS = 5
field_sensor.SETTLED_SECONDS = 1.0

from deblend_assets.definitions import defs  # noqa: E402, F401
