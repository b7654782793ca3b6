"""When things run and what mends them: jobs, schedules, sensors, conditions, recovery of killed runs.

Does not belong here: what an asset computes (`assets`, `science`) or what it is handed (`resources`).
"""
