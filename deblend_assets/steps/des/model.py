"""Training scenes of the DES model, for comparison with a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deblend_assets.science.des.likeness import Sample, aperture_flux
from deblend_assets.stores.des import DesStore

_TRAINING_SCENES = 2000


@dataclass(frozen=True)
class TrainingReference:
    """Subset of the training scenes: the first shards.

    Attributes:
        sample: noise, PSF and fluxes, with the tile's S/N cut for the fluxes.
        stamps: (N, band, y, x) blended [electron].
    """

    sample: Sample
    stamps: np.ndarray


def training_scenes(des: DesStore) -> TrainingReference:
    """Read a subset of the training scenes, for `likeness.compare`."""
    arrays, settings = des.project.arrays(), des.settings
    label, attributes = settings.simulation.label_band, arrays.attributes
    shards = arrays.shards("train")
    shards = shards[: max(1, _TRAINING_SCENES // settings.simulation.shard_scenes)]
    stamps = np.concatenate([arrays.read("blended", shard) for shard in shards])
    bright = arrays.targets(shards)[f"snr_{label}"].to_numpy() > settings.tiles.snr_w_min
    sample = Sample(
        noise={b: s**0.5 for b, s in zip(arrays.bands, attributes["sky_electron_per_pixel"], strict=True)},
        psf_fwhm=dict(zip(arrays.bands, attributes["psf_fwhm_arcsec"], strict=True)),
        flux=aperture_flux(stamps[bright, arrays.bands.index(label)], attributes["pixel_scale_arcsec"]),
    )
    return TrainingReference(sample, stamps)
