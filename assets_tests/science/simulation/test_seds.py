"""Colours against analytic spectra, against GalSim's own photometry, and against published values."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.simulation import seds

U, G, R, I, Z, Y = range(6)  # noqa: E741
WAVE = np.arange(3000.0, 11100.0, 2.0, dtype=np.float64)


def test_a_spectrum_flat_in_f_nu_has_no_colour_in_ab() -> None:
    magnitudes = seds.filter_magnitudes(WAVE, WAVE**-2.0)
    np.testing.assert_allclose(magnitudes - magnitudes[R], 0.0, atol=1e-10)


def test_a_redshifted_line_brightens_its_band_by_the_photons_it_brings() -> None:
    # F_lambda = lambda^-2 has mean F_nu = 1; a line of flux L at l adds L T(l) l / int T dlambda / lambda.
    centre, width, flux = 5007.0 * 1.5, 15.0, 2e-6
    line = flux * np.exp(-0.5 * ((WAVE - centre) / width) ** 2) / (width * np.sqrt(2.0 * np.pi))
    change = seds.filter_magnitudes(WAVE, WAVE**-2.0 + line) - seds.filter_magnitudes(WAVE, WAVE**-2.0)
    table_wave, throughput = seds.load_filters()["i"]
    fine = np.arange(table_wave[0], table_wave[-1], 0.5)
    curve = np.interp(fine, table_wave, throughput)
    added = flux * np.interp(centre, table_wave, throughput) * centre / np.trapezoid(curve / fine, fine)
    assert added > 0.05
    assert change[I] == pytest.approx(-2.5 * np.log10(1.0 + added), rel=0.01)
    np.testing.assert_allclose(np.delete(change, I), 0.0, atol=1e-9)


@pytest.mark.parametrize(("spectral_type", "name"), list(enumerate(seds.TEMPLATES)))
@pytest.mark.parametrize("z", [0.0, 0.5, 1.3])
def test_colours_agree_with_galsims_photometry(spectral_type: int, name: str, z: float) -> None:
    galsim = pytest.importorskip("galsim")
    sed = galsim.SED(f"CWW_{name}_ext.sed", wave_type="Ang", flux_type="flambda").atRedshift(z)
    passes = [galsim.Bandpass(f"LSST_{b}.dat", wave_type="nm").withZeropoint("AB") for b in "ugrizy"]
    peer = np.array([sed.calculateMagnitude(bandpass) for bandpass in passes])
    ours = seds.colours(np.array([z]), np.array([float(spectral_type)]))[0]
    # GalSim is asked for no intergalactic medium, which touches u at z = 1.3 for 0.01 mag at most.
    np.testing.assert_allclose(ours, peer - peer[I], atol=0.015)


def test_published_colours_of_the_templates_at_redshift_zero() -> None:
    # Fukugita, Shimasaku & Ichikawa (1995), Table 3: g' - r' of E 0.77, Scd 0.48, Im 0.20 in SDSS filters.
    colour = seds.colours(np.zeros(3), np.array([0.0, 2.0, 3.0]))
    g_r = colour[:, G] - colour[:, R]
    assert g_r[0] == pytest.approx(0.77, abs=0.06)
    assert g_r[2] == pytest.approx(0.20, abs=0.06)
    assert g_r[0] > g_r[1] > g_r[2]


def test_the_4000_angstrom_break_walks_through_the_bands() -> None:
    for blue, red, boundary in ((G, R, 5500.0), (R, I, 6900.0), (I, Z, 8200.0)):
        expected = boundary / 4000.0 - 1.0
        # Further on, the break at 2640 angstrom takes its turn.
        z = np.linspace(0.0, expected + 0.25, 200)
        colour = seds.colours(z, np.zeros(z.size))
        assert z[np.argmax(colour[:, blue] - colour[:, red])] == pytest.approx(expected, abs=0.15)


def test_u_then_g_drop_out() -> None:
    colour = seds.colours(np.array([1.5, 2.0, 3.3, 4.2]), np.full(4, 3.5))
    u_g, g_r = colour[:, U] - colour[:, G], colour[:, G] - colour[:, R]
    # Steidel et al. (1999): U-dropouts near z = 3 and G-dropouts near z = 4 are a magnitude red, others not.
    assert np.all(u_g[:2] < 0.6)
    assert u_g[2] > 1.5
    assert g_r[2] < 1.0
    assert g_r[3] > 1.0


def test_igm_is_madau_1995() -> None:
    z = 3.0
    assert seds.igm_transmission(1220.0 * (1 + z), z) == 1.0
    below_alpha = 1100.0 * (1 + z)
    tau = 0.0036 * (below_alpha / 1215.67) ** 3.46
    assert seds.igm_transmission(below_alpha, z) == pytest.approx(np.exp(-tau), rel=1e-12)
    # Madau's Fig. 3: at z = 3.5 some 40 to 50 % is lost between Ly beta and alpha, nearly all below it.
    forest = seds.igm_transmission(np.linspace(1050.0, 1170.0, 50) * 4.5, 3.5).mean()
    assert 0.45 < forest < 0.65
    assert seds.igm_transmission(800.0 * 4.5, 3.5) < 0.15
    assert np.all(seds.igm_transmission(WAVE, 0.3) > 0.98)


def test_calzetti_attenuation() -> None:
    b, v = seds.calzetti_attenuation(np.array([4400.0, 5500.0]))
    assert v == pytest.approx(4.05, abs=0.01)  # R_V
    assert b - v == pytest.approx(1.0, abs=0.06)  # by the definition of E(B-V)
    assert seds.calzetti_attenuation(np.array([1600.0]))[0] == pytest.approx(9.97, abs=0.05)


def test_the_bluest_template_has_the_slope_of_a_dust_free_starburst() -> None:
    wave, flux = seds.load_templates()
    assert flux.shape == (5, wave.size)
    assert seds.uv_slope(wave, flux[4]) == pytest.approx(-2.23, abs=0.01)
    assert seds.uv_slope(wave, wave**-1.7) == pytest.approx(-1.7, abs=0.01)
    g_i = seds.colours(np.array([1.5, 1.5]), np.array([3.0, 4.0]))[:, G]
    assert g_i[1] < g_i[0] - 0.2


def test_the_grid_is_fine_enough() -> None:
    wave, flux = seds.load_templates()
    rng = np.random.default_rng(3)
    z, t = rng.uniform(0.0, 3.0, 40), rng.uniform(0.0, 4.0, 40)
    direct = np.empty((40, 6))
    for row in range(40):
        rest = np.array([np.interp(WAVE / (1.0 + z[row]), wave, template) for template in np.log(flux)])
        low = min(int(t[row]), 3)
        spectrum = np.exp(rest[low] + (t[row] - low) * (rest[low + 1] - rest[low]))
        magnitude = seds.filter_magnitudes(WAVE, spectrum * seds.igm_transmission(WAVE, z[row]))
        direct[row] = magnitude - magnitude[I]
    np.testing.assert_allclose(seds.colours(z, t), direct, atol=0.03)
    assert np.all(seds.colours(z, t)[:, I] == 0.0)
