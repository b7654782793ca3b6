"""The referee: our estimates and the peers' on the same held-out galaxies, and their answer to shear."""
