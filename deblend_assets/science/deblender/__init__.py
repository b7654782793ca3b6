"""The stages of the internship report: objectives, losses, the deblending network and the prior of its latent."""
