"""Tiles in, shape catalogues out: one partition a tile."""
