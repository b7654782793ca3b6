"""The posterior of a galaxy's shape, size and flux, given the stamp in which it is blended.

The network that sees the stamp (`network`), what it is trained towards (`objective`), and the posterior and likelihood
summaries of a galaxy (`posterior`, `flow`).
"""
