"""Steps of the shape posterior."""
