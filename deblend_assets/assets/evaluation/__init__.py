"""The held-out judgement."""
