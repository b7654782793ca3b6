"""A user's images of one field: what comes with them, their windows, noise, background, masks, PSFs and cells."""
