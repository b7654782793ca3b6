"""The training step that all networks share (`step`), the three stages, and the prior of their latent."""
