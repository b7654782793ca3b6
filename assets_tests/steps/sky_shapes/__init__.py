"""Steps of the network for every sky."""
