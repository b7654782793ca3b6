"""Metrics, bootstrap errors, bins and regressions on arrays of numbers."""
