"""Measuring the stamps that a user brings, and handing a trained model on: no assets, but made of assets' results."""
