"""The held-out evaluation."""
