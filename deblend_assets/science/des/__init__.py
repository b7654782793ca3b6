"""The DES leg: tiles, queries, cutouts, what a shape catalogue holds and how it is evaluated."""
