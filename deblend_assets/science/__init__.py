"""Pure functions and `nn.Module`s: numpy, torch and galsim in and out; no Dagster, no paths, no globals.

What belongs here: anything an astronomer would want to call from a notebook. What does not: files, run
configuration, logging to an orchestrator.
"""
