"""Shapes for the galaxies of a catalogue: single Sérsic profiles, bulge and disc, knots; and which of them train.

Photometry is the catalogue's: redshift and the six magnitudes of the whole galaxy do not depend on the morphology. How
the light is distributed comes from the COSMOS fits (`cosmos_relations`). A bulge has the spectrum of an elliptical and
takes its part of the light of each band: it is redder than the disc, and the galaxy has a colour gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation import cosmos_relations as cosmos
from deblend_assets.science.simulation import relations, seds
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.galaxies import (
    BULGE,
    DISC,
    KNOTS,
    Galaxies,
    Morphology,
    concatenate,
    nanojansky,
    shear_matrix,
)
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.moments import half_light_radius

GENERATED = (Morphology.CATSIM, Morphology.SERSIC, Morphology.ALIGNED, Morphology.MISALIGNED, Morphology.KNOTTED)
"""Morphologies that any catalogue's galaxies can be given."""
COSMOS_TRAINING_SHARE = 0.5
"""Share of the COSMOS fits that may train, by a hash of their id; the others are for `sky_new` alone."""
_COSMOS_SALT = "morphologies that train"

RED_AND_CONCENTRATED = 0.5
"""Correlation of the normal scores of colour and of Sérsic index or bulge fraction at a redshift: a choice, between
none and the near identity of colour and morphology of nearby galaxies."""
_TOO_RED = 0.98  # most of a band's light that a bulge may take
# Knots: their number, and their part of the disc's light. A choice; nothing trains on them.
KNOT_NUMBER, KNOT_SHARE = (10, 30), (0.1, 0.5)

Floats = NDArray[np.float64]
TRAINING_MIX: Mapping[Morphology, float] = MappingProxyType({Morphology.SERSIC: 0.7, Morphology.ALIGNED: 0.3})
"""Of the generated galaxies that train: nearly three in ten COSMOS galaxies are bulge and disc."""
NEW_MIX: Mapping[Morphology, float] = MappingProxyType({Morphology.KNOTTED: 0.5, Morphology.MISALIGNED: 0.5})
"""Of the generated galaxies that never train."""


def in_training(morphology: NDArray[np.int8], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the morphologies of galaxies may be trained on, (N,).

    In training: the generated Sérsic profiles, aligned bulges and discs, the report's galaxies, and a share of the
    COSMOS fits. Never in training: knots, misaligned bulges, the other COSMOS fits, real images. Which galaxies of a
    morphology train is another question: see `catalog.assign_split`.

    Args:
        morphology: `Morphology`, (N,).
        ids: (N,).
    """
    always = np.isin(morphology, [Morphology.CATSIM, Morphology.SERSIC, Morphology.ALIGNED])
    fits = np.flatnonzero(morphology == Morphology.COSMOS)
    shares = {"train": COSMOS_TRAINING_SHARE, "new": 1 - COSMOS_TRAINING_SHARE}
    always[fits] = assign_split(ids[fits], shares, salt=_COSMOS_SALT) == "train"
    return always


def shaped_galaxies(catalog: Mapping[str, NDArray], mix: Mapping[Morphology, float], seed: int) -> Galaxies:
    """A catalogue's galaxies with morphologies of a mixture.

    Args:
        catalog: `catalog.CATSIM_COLUMNS`, each (N,); shapes and components are used by `Morphology.CATSIM` alone.
        mix: shares of the galaxies, of `GENERATED`, positive, summing to 1. A morphology that is not named is off.
        seed: every number follows from it and the order of the rows.

    Returns:
        N galaxies, in order.

    Raises:
        SettingsError: another morphology, or shares that are no distribution.
    """
    wrong = [kind for kind, share in mix.items() if kind not in GENERATED or not share > 0]
    if wrong or abs(sum(mix.values()) - 1) > 1e-9:
        raise SettingsError(
            f"the mixture { ({Morphology(kind).name: share for kind, share in mix.items()}) }",
            where="morphologies",
            remedy=f"give positive shares that sum to 1, of {', '.join(kind.name for kind in GENERATED)}",
        )
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]
    i_mag = np.asarray(catalog["i_ab"], np.float64)
    count = len(i_mag)
    kinds = np.array(list(mix))[np.searchsorted(np.cumsum(list(mix.values()))[:-1], streams[0].random(count), "right")]
    sample = _Sample(catalog, streams[1])
    parts = []
    for kind in mix:
        rows = np.flatnonzero(kinds == kind)
        parts.append((rows, sample.galaxies(kind, rows, streams[2])))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    return concatenate([part for _, part in parts])[order]


def with_others(galaxies: Galaxies, others: Galaxies, share: float, rng: np.random.Generator) -> Galaxies:
    """Galaxies of which some give their place to others of like magnitude, such as COSMOS fits or real images.

    Counts stay: a galaxy is replaced by one of the ten others nearest in i, within the magnitudes that the others span.

    Args:
        galaxies: N of them.
        others: to take from, each as often as it happens.
        share: of the galaxies within those magnitudes that are replaced.
        rng: chooses both.

    Returns:
        N galaxies, in order.

    Raises:
        SettingsError: a share beyond 0 to 1, or no others.
    """
    if not 0 <= share <= 1 or not len(others):
        raise SettingsError(
            f"a share of {share} of {len(others)} other galaxies",
            where="morphologies",
            remedy="give a share of 0 to 1 and at least one galaxy",
        )
    i = CATSIM_BANDS.index("i")
    theirs = others.magnitudes()[:, i]
    order, mine = np.argsort(theirs, kind="stable"), galaxies.magnitudes()[:, i]
    within = (mine >= theirs.min()) & (mine <= theirs.max())
    chosen = np.flatnonzero(within & (rng.random(len(mine)) < share))
    near = np.searchsorted(theirs[order], mine[chosen]) + rng.integers(-5, 5, len(chosen))
    taken = others[order[np.clip(near, 0, len(order) - 1)]]
    rows = np.arange(len(mine))
    rows[chosen] = len(mine) + np.arange(len(chosen))
    return concatenate([galaxies, taken])[rows]


class _Sample:
    """Random shapes of all galaxies of a catalogue, of which each morphology takes what it needs."""

    def __init__(self, catalog: Mapping[str, NDArray], rng: np.random.Generator) -> None:
        self.catalog = catalog
        self.i_mag = np.asarray(catalog["i_ab"], np.float64)
        self.redshift = np.asarray(catalog["redshift"], np.float64)
        self.magnitudes = np.stack([np.asarray(catalog[f"{band}_ab"], np.float64) for band in CATSIM_BANDS], axis=1)
        count = len(self.i_mag)
        red = normal_scores_at(self.magnitudes[:, 1] - self.magnitudes[:, 4], self.redshift)  # g - z
        index, radius, ratio = correlated_scores(
            rng, count, (cosmos.INDEX_AND_RADIUS, cosmos.INDEX_AND_AXIS_RATIO, cosmos.RADIUS_AND_AXIS_RATIO)
        )
        index = RED_AND_CONCENTRATED * red + np.sqrt(1 - RED_AND_CONCENTRATED**2) * index
        self.index = cosmos.quantile_at(cosmos.SERSIC_INDEX, self.i_mag, special.ndtr(index))
        self.radius = cosmos.radius_at(self.i_mag, special.ndtr(radius))
        self.q = cosmos.quantile_at(cosmos.AXIS_RATIO, self.i_mag, special.ndtr(ratio))
        self.fraction = cosmos.quantile(cosmos.BULGE_FRACTION, special.ndtr(index))
        size = rng.standard_normal(count)
        size = cosmos.FRACTION_AND_RATIO * index + np.sqrt(1 - cosmos.FRACTION_AND_RATIO**2) * size
        self.radius_ratio = cosmos.quantile(cosmos.RADIUS_RATIO, special.ndtr(size))
        self.angle = rng.uniform(0.0, np.pi, count)
        # A bulge of its disc's angle is no flatter; a misaligned one is what the fits say.
        grid = relations.shear_grid()
        round_bulge = relations.shear_quantile(relations.bulge_shear_pdf(grid), rng.random(count))
        self.aligned_bulge = np.minimum(round_bulge, (1 - self.q) / (1 + self.q))
        self.free_bulge = cosmos.quantile(cosmos.BULGE_AXIS_RATIO, rng.random(count))
        self.misalignment = np.radians(cosmos.quantile(cosmos.MISALIGNMENT, rng.random(count)))
        self.misalignment *= np.where(rng.random(count) < 0.5, -1, 1)

    def galaxies(self, kind: Morphology, rows: NDArray[np.int64], rng: np.random.Generator) -> Galaxies:
        """The galaxies of some rows with one morphology."""
        if kind == Morphology.CATSIM:
            return Galaxies.of_catsim({name: np.asarray(values)[rows] for name, values in self.catalog.items()})
        ids, redshift = np.asarray(self.catalog["galtileid"])[rows], self.redshift[rows]
        total = nanojansky(self.magnitudes[rows])
        flux = np.zeros((*total.shape, 3))
        g = (1 - self.q[rows]) / (1 + self.q[rows]) * np.exp(2j * self.angle[rows])
        if kind == Morphology.SERSIC:
            flux[:, :, DISC] = total
            two = np.ones((len(rows), 2))
            index = np.stack([self.index[rows], np.full(len(rows), 4.0)], axis=1)
            return Galaxies.build(ids, kind, redshift, flux, index, self.radius[rows, None] * two, g[:, None] * two)
        share = red_bulge_shares(self.fraction[rows], redshift, self.magnitudes[rows])
        flux[:, :, BULGE] = total * share
        flux[:, :, DISC] = total - flux[:, :, BULGE]
        # The disc's radius follows from that of the whole.
        ratio = self.radius_ratio[rows]
        disc = self.radius[rows] / half_light_radius(np.ones(len(rows)), ratio, self.fraction[rows])
        hlr = np.stack([disc, disc * ratio], axis=1)
        if kind == Morphology.MISALIGNED:
            q = self.free_bulge[rows]
            bulge = (1 - q) / (1 + q) * np.exp(2j * (self.angle[rows] + self.misalignment[rows]))
        else:
            bulge = self.aligned_bulge[rows] * np.exp(2j * self.angle[rows])
        index = np.broadcast_to([1.0, 4.0], (len(rows), 2))
        shape = np.stack([g, bulge], axis=1)
        if kind != Morphology.KNOTTED:
            return Galaxies.build(ids, kind, redshift, flux, index, hlr, shape)
        number = rng.integers(KNOT_NUMBER[0], KNOT_NUMBER[1], len(rows), endpoint=True)
        part = rng.uniform(*KNOT_SHARE, len(rows))[:, None]
        flux[:, :, KNOTS], flux[:, :, DISC] = flux[:, :, DISC] * part, flux[:, :, DISC] * (1 - part)
        knots = sample_knots(rng, number, disc, g)
        return Galaxies.build(ids, kind, redshift, flux, index, hlr, shape, knots, number)


def red_bulge_shares(fraction: Floats, redshift: Floats, magnitudes: Floats) -> Floats:
    """The bulge's share of the light in each band: its spectrum is that of an elliptical of the galaxy's redshift.

    Args:
        fraction: its share in i, (N,).
        redshift: (N,).
        magnitudes: of the whole galaxy in u, g, r, i, z, y, (N, 6) [AB mag].

    Returns:
        (N, 6), at most 0.98: a galaxy bluer than any disc and elliptical together keeps a little disc light.
    """
    i = CATSIM_BANDS.index("i")
    elliptical = seds.colours(redshift, np.zeros(len(redshift)))
    colour = elliptical - (magnitudes - magnitudes[:, [i]])
    return np.asarray(np.minimum(fraction[:, None] * 10 ** (-0.4 * colour), _TOO_RED))


def sample_knots(rng: np.random.Generator, number: NDArray[np.int64], hlr: Floats, g: NDArray[np.complex128]) -> Floats:
    """Positions of knots that are distributed as the light of exponential discs (`galsim.RandomKnots`).

    Args:
        rng: seeds GalSim's.
        number: of knots of each galaxy, (N,).
        hlr, g: half-light radius [arcsec] and shear-type shape of the discs, (N,).

    Returns:
        (N, largest number, 2) [arcsec]; 0 beyond a galaxy's number.
    """
    import galsim  # slow to import, and needed for knots alone

    disc = galsim.Exponential(half_light_radius=1.0)
    knots = np.zeros((len(number), int(number.max(initial=0)), 2))
    for k, (many, seed) in enumerate(zip(number, rng.integers(1, 2**31, len(number)), strict=True)):
        knots[k, :many] = galsim.RandomKnots(int(many), profile=disc, rng=galsim.BaseDeviate(int(seed))).points
    return np.asarray(hlr[:, None, None] * knots @ shear_matrix(g).swapaxes(-1, -2))


def correlated_scores(
    rng: np.random.Generator, count: int, correlation: tuple[float, float, float]
) -> tuple[Floats, Floats, Floats]:
    """Three standard normal numbers a galaxy, (count,) each, of the correlations 01, 02, 12."""
    ab, ac, bc = correlation
    root = np.linalg.cholesky(np.array([[1, ab, ac], [ab, 1, bc], [ac, bc, 1]]))
    a, b, c = root @ rng.standard_normal((3, count))
    return a, b, c


def normal_scores_at(values: Floats, condition: Floats, *, neighbours: int = 200) -> Floats:
    """Standard normal scores of values among galaxies of like condition, (N,): ranks in groups of `neighbours`."""
    scores = np.empty(len(values))
    order = np.argsort(condition, kind="stable")
    for group in np.array_split(order, max(1, len(values) // neighbours)):
        scores[group] = special.ndtri((stats.rankdata(values[group]) - 0.5) / len(group))
    return scores
