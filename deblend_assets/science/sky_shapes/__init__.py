"""The posterior of a detection's galaxy under any sky: given its PSF, noise, mask and neighbours.

What the network is given (`inputs`), what it estimates (`quantities`), the network itself (`network`) and its training
objective (`objective`).
"""
