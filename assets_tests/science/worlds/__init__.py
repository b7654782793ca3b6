"""Worlds: their fields, targets, truth and floor."""
