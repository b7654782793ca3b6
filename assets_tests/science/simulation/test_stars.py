"""Counts and colours of stars, against published counts and relations."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.stars import (
    HALO,
    THIN_DISC,
    SightLine,
    absolute_magnitudes,
    densities,
    luminosity_function,
    u_minus_g,
)


def test_local_density_and_shape_of_the_components() -> None:
    here = densities(np.array([1e-3]), 90.0, 0.0)[:, 0]
    assert here.sum() == pytest.approx(1.0, abs=1e-5)
    assert here / here[0] == pytest.approx([1, 0.13, 0.0051], rel=1e-5)
    # Straight up: exponentials of 245 and 743 pc; the halo's ellipsoid through z is that through radius z / 0.64.
    up = densities(np.array([1000.0]), 90.0, 0.0)[:, 0] / here
    a = np.hypot(8000, 1025 / 0.64) / np.hypot(8000, 25 / 0.64)
    assert up == pytest.approx([np.exp(-1000 / 245), np.exp(-1000 / 743), a**-2.77], rel=1e-4)
    # Toward the centre the discs rise with their scale lengths, towards the anticentre they fall by as much.
    inward, outward = (densities(np.array([500.0]), 0.0, longitude)[:2, 0] / here[:2] for longitude in (0.0, 180.0))
    assert inward == pytest.approx(np.exp([500 / 2150, 500 / 3261]), rel=1e-4)
    assert inward * outward == pytest.approx([1, 1], rel=1e-4)


def test_luminosity_function_has_the_published_integral() -> None:
    m = np.arange(-1, 20, 0.01)
    phi = luminosity_function(m)
    inside = (m > 4.9) & (m < 12)
    # The file's header: 0.061 stars / pc³ in all, half of them at 4.9 < M_r < 12.
    assert phi[inside].sum() * 0.01 == pytest.approx(0.5 * 0.061, rel=0.05)
    assert luminosity_function(21.0) == 0.0


def bahcall_soneira_at_the_pole(v: np.ndarray) -> np.ndarray:
    """Stars a square degree brighter than V at a pole, good to 15 %: Bahcall & Soneira (1980, ApJS 44, 73), App. B."""
    disc = 925 * 10 ** (0.035 * (v - 15.75)) / (1 + 10 ** (-0.132 * (v - 15.75))) ** 3
    spheroid = 1050 * 10 ** (0.087 * (v - 17.5)) / (1 + 10 ** (-0.18 * (v - 17.5))) ** 2.5
    return np.asarray(disc + spheroid)


def test_counts_at_the_pole_agree_with_bahcall_and_soneira() -> None:
    v = np.array([17.0, 18.0, 19.0, 20.0, 21.0])
    # V = r + 0.4 for the halo's stars near the turn-off and 0.6 for M dwarfs (Jester et al. 2005).
    counts = 3600 * SightLine(90.0, 0.0).density(v - 0.45, "r")
    ratio = counts / bahcall_soneira_at_the_pole(v)
    assert (np.abs(ratio - 1.05) < 0.15).all(), ratio


def test_mean_count_of_sdss() -> None:
    """Jurić et al. (2008): 48 million stars with r < 21.5 in 6500 square degrees, mostly at abs(b) > 25."""
    total = weight = 0.0
    for b in np.arange(30.0, 90, 10.0):
        for longitude in np.arange(30.0, 180.0, 60.0):
            total += float(np.cos(np.radians(b)) * SightLine(b, longitude).density(21.5, "r")) * 3600
            weight += np.cos(np.radians(b))
    assert total / weight == pytest.approx(48e6 / 6500, rel=0.1)


def test_colours_follow_the_relations_of_juric() -> None:
    """Jurić et al. (2008), SDSS filters: the locus of g - r against r - i, and the photometric parallax M_r (r - i)."""
    m_r = np.arange(5.5, 12.01, 0.25)
    magnitudes = absolute_magnitudes(m_r, np.full(m_r.shape, -0.5))
    gr, ri = magnitudes[:, 1] - magnitudes[:, 2], magnitudes[:, 2] - magnitudes[:, 3]
    # From Pan-STARRS1 to SDSS: Finkbeiner et al. (2016, ApJ 822, 66), polynomials in g - i.
    polynomials = np.array(
        [
            [0.01808, 0.13595, -0.01941, 0.00183],
            [0.01836, 0.03577, -0.02612, 0.00558],
            [-0.01170, 0.00400, -0.00066, 0.00058],
        ]
    )
    g, r, i = polynomials @ (gr + ri) ** np.arange(4)[:, None]
    gr, ri = gr + g - r, ri + r - i
    locus = 1.39 * (1 - np.exp(-4.9 * ri**3 - 2.45 * ri**2 - 1.68 * ri - 0.05))
    assert np.abs(gr - locus).max() < 0.1
    parallax = 3.2 + 13.3 * ri - 11.5 * ri**2 + 5.4 * ri**3 - 0.7 * ri**4
    assert np.abs(parallax - m_r).max() < 0.2


@pytest.mark.parametrize(("g_minus_i", "expected"), [(1.2, 2.393), (1.5, 2.734), (2.0, 2.845)])
def test_u_minus_g_agrees_with_pan_starrs(g_minus_i: float, expected: float) -> None:
    """Finkbeiner et al. (2016): g_P1 - u_SDSS = 0.04438 - 2.26095 x - 0.13387 x² + 0.27099 x³, x = g - i of P1."""
    assert u_minus_g(np.array([g_minus_i]))[0] == pytest.approx(expected, abs=0.11)


def test_samples_have_the_counts_and_limits() -> None:
    line = SightLine()
    stars = line.sample(3000.0, 17.0, 26.0, np.random.default_rng(1))
    i = stars.magnitudes[:, 3]
    assert i.min() > 17
    assert i.max() < 26
    edges = np.array([17.0, 19, 21, 23, 25, 26])
    expected = 3000.0 * np.diff(line.density(edges))
    found = np.histogram(i, edges)[0]
    # The scatter of metallicity moves stars across an edge: 3 %.
    assert (np.abs(found - expected) < 0.03 * expected + 4 * np.sqrt(expected)).all()
    # Apparent less absolute magnitude is the distance modulus.
    faintest = i - 5 * np.log10(stars.distance / 10)
    assert faintest.min() > -2
    assert faintest.max() < 17
    # The halo's stars are far, blue and metal-poor; the thin disc's are near and red.
    gr = stars.magnitudes[:, 1] - stars.magnitudes[:, 2]
    halo, thin = stars.component == HALO, stars.component == THIN_DISC
    assert np.median(gr[halo]) < np.median(gr[thin])
    assert np.median(stars.distance[halo]) > 10 * np.median(stars.distance[thin])


def test_the_same_seed_gives_the_same_stars() -> None:
    first, second, other = (SightLine().sample(20.0, 16.0, 28.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.magnitudes.tobytes() == second.magnitudes.tobytes()
    assert first.magnitudes.tobytes() != other.magnitudes.tobytes()


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(SettingsError, match="latitude 91"):
        SightLine(91.0)
    with pytest.raises(SettingsError, match="i_min < i_max"):
        SightLine().sample(1.0, 20.0, 19.0, np.random.default_rng(1))
