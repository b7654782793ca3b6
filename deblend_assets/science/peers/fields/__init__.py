"""Peers on whole images: what they detect and measure themselves, for fields of known shear."""
