"""What an image is observed with: PSF, noise and its correlation, sky, and the pixels that are lost."""
