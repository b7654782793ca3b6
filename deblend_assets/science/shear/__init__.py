"""How an estimator answers to a known constant shear: m, c, PSF leakage, and the response that needs no truth."""
