"""Science of the DES tiles: names, archive queries, cutouts, quality cuts, comparison with the training scenes."""
