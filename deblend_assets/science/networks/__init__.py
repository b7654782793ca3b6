"""The networks of section 3.2 of the report."""

from deblend_assets.science.networks.regressor import DISTORTION, SHEAR, Regressor, ShapeEstimate
from deblend_assets.science.networks.vae import VAE, Decoder, Encoder, Latent, report_vae

__all__ = ["DISTORTION", "SHEAR", "VAE", "Decoder", "Encoder", "Latent", "Regressor", "ShapeEstimate", "report_vae"]
