"""Names and columns of the simulated survey's tables, as in the real survey."""

from __future__ import annotations

GOLD_TABLE = "des_sva1.gold_catalog"
SHAPE_TABLE = "des_sva1.gold_im3shape"
TILE_TABLE = "des_dr1.tile_info"
TRUTH_TABLE = "simulation.truth"

_SHAPE_COLUMNS = {
    "e_1": ("", "measured shear-type ellipticity, sky frame, component 1; -9999 where there is none"),
    "e_2": ("", "second component of the same"),
    "nbc_m": ("", "multiplicative bias, for ensembles"),
    "nbc_c1": ("", "additive bias of component 1"),
    "nbc_c2": ("", "additive bias of component 2"),
    "w": ("", "weight"),
    "error_flag": ("", "not 0: not to be used"),
    "info_flag": ("", "not 0: not in the conservative selection"),
    "snr_w": ("", "S/N of the best model"),
    "snr_r": ("", "S/N in r"),
    "flux_r": ("count", "flux in r, zero point 30"),
    "radius": ("arcsec", "half-light radius"),
    "is_bulge": ("", "1: a bulge fits better than a disc"),
    "mean_rgpp_rp": ("", "size of the convolved galaxy over the PSF's, mean of the exposures"),
    "mean_psf_e1_sky": ("", "PSF ellipticity, sky frame, component 1"),
    "mean_psf_e2_sky": ("", "second component of the same"),
    "mean_psf_fwhm": ("pixel", "FWHM of the PSF"),
    "ra_shift": ("arcsec", "to add to the position along right ascension, on the sky"),
    "dec_shift": ("arcsec", "to add to the position along declination"),
    "chi2": ("", "chi squared a pixel"),
    "likelihood": ("", "log likelihood"),
    "stamp_size": ("pixel", "side of the fitted stamp"),
    "n_exposure": ("", "exposures fitted"),
}
_TILE_COLUMNS = {
    "tilename": ("", "name of the tile"),
    "ra_cent": ("deg", "right ascension of the centre"),
    "dec_cent": ("deg", "declination of the centre"),
    "racmin": ("deg", "smallest right ascension of the corners"),
    "racmax": ("deg", "largest right ascension of the corners"),
    "deccmin": ("deg", "smallest declination of the corners"),
    "deccmax": ("deg", "largest declination of the corners"),
    "uramin": ("deg", "the tile's unique area: from this right ascension; above uramax where it straddles RA 0"),
    "uramax": ("deg", "to this right ascension"),
    "udecmin": ("deg", "from this declination"),
    "udecmax": ("deg", "to this declination"),
    "crossra0": ("", "Y: straddles RA 0"),
    "pixelscale": ("arcsec", "side of a pixel"),
    "naxis1": ("", "columns of the coadd"),
    "naxis2": ("", "rows of the coadd"),
}


def table_columns(bands: tuple[str, ...]) -> dict[str, dict[str, tuple[str, str]]]:
    """Unit and meaning of every column of every table."""
    identity = {"coadd_objects_id": ("", "identity of the object")}
    gold = {
        "ra_j2000": ("deg", "right ascension of the detection"),
        "dec_j2000": ("deg", "declination of the detection"),
        **{f"mag_auto_{band.lower()}": ("mag", f"measured AB magnitude in {band}") for band in bands},
    }
    truth = {
        "tilename": ("", "the tile it lies in"),
        "ra": ("deg", "true right ascension"),
        "dec": ("deg", "true declination"),
        "star": ("", "1: a star, which has no shape"),
        "galaxy_id": ("", "identity in the catalogue of galaxies; negative for a star"),
        "g1": ("", "intrinsic shear-type ellipticity, sky frame, component 1 (+: east-west)"),
        "g2": ("", "second component of the same (+: north-east to south-west)"),
        "e1": (
            "",
            "observed distortion, adaptive moments of the noiseless source alone, label band, sky frame; detected ones",
        ),
        "e2": ("", "second component of the same"),
        "hlr_arcsec": ("arcsec", "half-light radius before the PSF; 0 for a star"),
        "snr": ("", "S/N of a filter of its own light, all bands, from the pixels that have a weight"),
        "snr_r": ("", "the same in r"),
        "blendedness": ("", "1 - sum(own^2)/sum(own*all) in the label band; detected ones"),
        "redshift": ("", "true redshift"),
        **{f"mag_{band}": ("mag", f"true AB magnitude in {band}") for band in bands},
        **{f"flux_{band}": ("count", f"true total flux in {band}, zero point 30") for band in bands},
        **{
            f"stamp_flux_{band}": ("count", f"everything but noise within a cutout around it, in {band}; detected ones")
            for band in bands
        },
    }
    return {
        GOLD_TABLE: identity | gold,
        SHAPE_TABLE: identity | _SHAPE_COLUMNS,
        TILE_TABLE: _TILE_COLUMNS,
        TRUTH_TABLE: identity | truth,
    }
