"""Steps of the evaluation of the deblender."""
