"""Response of an estimator to a known constant shear: m, c, PSF leakage, and the response from images alone."""
