"""Measures stamps: the measurement, the columns of its catalogues, the exported program."""
