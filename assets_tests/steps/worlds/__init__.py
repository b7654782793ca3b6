"""Steps of the worlds."""
