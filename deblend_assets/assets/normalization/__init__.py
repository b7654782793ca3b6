"""Eq. 9 of the report: what the networks see."""
