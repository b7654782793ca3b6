"""Steps of the simulation: the galaxy catalogue and the scenes rendered from it."""
