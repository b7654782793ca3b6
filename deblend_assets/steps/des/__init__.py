"""Steps of the DES tiles."""
