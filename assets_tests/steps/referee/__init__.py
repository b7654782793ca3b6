"""Steps of the referee."""
