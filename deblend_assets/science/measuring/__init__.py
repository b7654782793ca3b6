"""From stamps to catalogue rows: the measurement, its columns, the exported program."""
