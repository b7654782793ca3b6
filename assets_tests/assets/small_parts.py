"""The real definitions with parts of four targets: a field of a test has few, and is to be killed between two parts."""

from deblend_assets.steps.fields import cells

cells.AT_ONCE = 4

from deblend_assets.definitions import defs  # noqa: E402, F401
