"""When assets run and how runs end: jobs, schedules, sensors, conditions, executors, recovery, the command line.

What an asset computes is in `steps` and `science`, what it computes with in `resources`.
"""
