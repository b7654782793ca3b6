"""The three stages of the report: objectives, losses, the deblending network and the prior of its latent."""
