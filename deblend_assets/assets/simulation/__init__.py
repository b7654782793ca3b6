"""The galaxies, and the scenes drawn from them."""
