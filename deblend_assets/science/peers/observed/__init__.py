"""The peers on observed stamps: each with its own PSF, inverse variance, mask, noise correlation and positions."""
