"""The PSF of a band: as a user gives it, or measured from the stars of the image."""
