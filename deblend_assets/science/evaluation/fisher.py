"""The Fisher floor: lowest error of an unbiased estimate of a target's shape on its blended stamp.

The Cramér-Rao bound. Photon counts are Poisson, hence F_pq = Σ (∂m/∂p) (∂m/∂q) / m exactly, over pixels and bands,
with m the mean count of the whole scene and the sky. Each galaxy of a scene has a shear of its own, which adds to
its shape (area-preserving, about its centre), a position, a size (disc and bulge alike) and a flux a band; all of
them are free, the neighbours' too. Everything else of a profile is assumed known: ratio of bulge to disc, colours
within the galaxy and the PSF are not free. The number of neighbours is known.

Only neighbours have a weak Gaussian prior (`NEIGHBOUR_SIGMA`): without it, nothing would be known of one too faint to
be seen, not even that it is no brighter than the target. The target has no prior: where its stamp holds no information
on its shape (mostly AGN, or far smaller than the PSF) the floor exceeds the scatter of the galaxies' own shapes, and an
estimate with a prior is below it. A few scenes therefore dominate means of σ², but not medians.

Derivatives are central differences of the renderer's light, except for the fluxes, in which light is linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.renderers.components import shear_ellipses
from deblend_assets.science.simulation.renderers.fourier import FourierRenderer
from deblend_assets.science.simulation.rendering import ShardRenderer, places
from deblend_assets.science.simulation.scene_truth import intrinsic_g
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.stamps.conventions import g_response
from deblend_assets.science.stamps.moments import image_moments
from deblend_assets.science.statistics.fisher import marginal_covariance

# Of a galaxy, in this order; ln fluxes, one a band, follow them.
GEOMETRY = ("shear1", "shear2", "x_arcsec", "y_arcsec", "ln_size")

# Half of a central difference. Light is float32, with errors of 1e-7 of its peak, and smaller steps would show them
# in the moments of unresolved galaxies; larger ones begin to err by the difference itself. Of 200 scenes' floors 19 in
# 20 change by less than 0.3 % with halved or doubled steps, and by 5 % at worst, where σ(g) is near 1.
STEPS: Mapping[str, float] = {"shear1": 0.02, "shear2": 0.02, "x_arcsec": 0.02, "y_arcsec": 0.02, "ln_size": 0.04}

# Standard deviations of the neighbours' priors; of each band's ln flux too.
NEIGHBOUR_SIGMA: Mapping[str, float] = {
    "shear1": 0.3,
    "shear2": 0.3,
    "x_arcsec": 0.5,
    "y_arcsec": 0.5,
    "ln_size": 0.7,
    "ln_flux": 1.0,
}

# Scenes rendered at a time: nine stamps a galaxy lie in memory (0.02 GB).
_SCENES_AT_ONCE = 25


@dataclass(frozen=True)
class SceneDerivatives:
    """Light of G galaxies, and its derivatives by their geometry.

    Attributes:
        light: (G, band, y, x) float32 [electron]; also the derivative after ln flux in each band.
        geometry: derivative after each of GEOMETRY, (5, G, band, y, x) float32 [electron / unit].
        distortion: derivative of the observed e1 and e2 of a galaxy's stamp in the label band, (G, 2, 5).
    """

    light: NDArray[np.float32]
    geometry: NDArray[np.float32]
    distortion: NDArray[np.float64]


def derivatives(renderer: ShardRenderer, table: pd.DataFrame, steps: Mapping[str, float] = STEPS) -> SceneDerivatives:
    """Central differences of the light of every galaxy of a table of scenes, each on one Fourier grid.

    Args:
        renderer: whose galaxies; it draws with "torch".
        table: one row a galaxy, see `SceneSampler.sample`.
        steps: half of the difference of each of GEOMETRY.

    Raises:
        SettingsError: the renderer draws with BTK, which has no shear and size of a single galaxy, and sizes a grid
            for each image.
    """
    galaxy_renderer = renderer.galaxy_renderer
    if not isinstance(galaxy_renderer, FourierRenderer):
        raise SettingsError(
            "the Fisher floor is drawn by the torch renderer alone",
            where="simulation.renderer",
            remedy='use renderer = "torch", whose light is that of BTK',
        )
    row, x, y, turn = places(table)
    ellipses = galaxy_renderer.components.ellipses(row, np.radians(turn), galaxy_renderer.shear)
    sizes = galaxy_renderer.sides(ellipses, x, y)

    def drawn(offset: NDArray[np.float64]) -> NDArray[np.float32]:
        """Light of galaxies that are all shifted by so much in GEOMETRY, (G, band, y, x)."""
        shear1, shear2, dx, dy, ln_size = offset
        shapes = np.exp(2 * ln_size) * shear_ellipses(ellipses, complex(shear1, shear2))
        # On the grids of the unchanged galaxies: a change of grid would count as one of light.
        stamps: NDArray[np.float32] = galaxy_renderer.render_ellipses(row, x + dx, y + dy, shapes, sizes).cpu().numpy()
        return stamps

    light = drawn(np.zeros(len(GEOMETRY)))
    geometry = np.empty((len(GEOMETRY), *light.shape), dtype=np.float32)
    distortion = np.empty((len(table), 2, len(GEOMETRY)))
    for k, offset in enumerate(np.diag([steps[name] for name in GEOMETRY])):
        up, down, width = drawn(offset), drawn(-offset), 2 * offset[k]
        geometry[k] = (up - down) / np.float32(width)
        after, before = (image_moments(stamps[:, renderer.label_band]) for stamps in (up, down))
        distortion[:, 0, k] = (after.e1 - before.e1) / width
        distortion[:, 1, k] = (after.e2 - before.e2) / width
    return SceneDerivatives(light, geometry, distortion)


def fisher_matrix(light: NDArray, geometry: NDArray, sky: NDArray) -> NDArray[np.float64]:
    """Fisher matrix of a scene's stamp, without priors.

    Args:
        light: of each galaxy alone, (M, band, y, x) [electron].
        geometry: see `SceneDerivatives`, (5, M, band, y, x).
        sky: (band, 1, 1) [electron / pixel].

    Returns:
        (P, P) with P = M (5 + bands): the GEOMETRY of the first galaxy and its ln fluxes, then those of the next.
    """
    members, bands = light.shape[:2]
    # Clipped as for photons: FFT rounding leaves light of -1e-6 electron far from a galaxy.
    variance = np.maximum(light.sum(axis=0, dtype=np.float64) + sky, 1e-9)
    # Each galaxy's five derivatives and its light, band by band: (band, M × 6, pixel).
    each = np.concatenate([geometry, light[None]]).transpose(2, 1, 0, 3, 4) / np.sqrt(variance)[:, None, None]
    white = each.reshape(bands, members * (len(GEOMETRY) + 1), -1)
    gram = (white @ white.swapaxes(1, 2)).reshape(bands, members, len(GEOMETRY) + 1, members, len(GEOMETRY) + 1)
    n = len(GEOMETRY)
    fisher = np.zeros((members, n + bands, members, n + bands))
    fisher[:, :n, :, :n] = gram[:, :, :n, :, :n].sum(axis=0)
    for b in range(bands):
        fisher[:, n + b, :, :n] = gram[b, :, n, :, :n]
        fisher[:, :n, :, n + b] = gram[b, :, :n, :, n]
        fisher[:, n + b, :, n + b] = gram[b, :, n, :, n]
    return fisher.reshape(members * (n + bands), members * (n + bands))


def prior_information(members: int, bands: int) -> NDArray[np.float64]:
    """Prior 1/σ² of every parameter of a scene of so many galaxies, (P,): 0 for the target's."""
    sigma = np.array([NEIGHBOUR_SIGMA[name] for name in GEOMETRY] + [NEIGHBOUR_SIGMA["ln_flux"]] * bands)
    information = np.tile(sigma**-2.0, (members, 1))
    information[0] = 0.0
    return information.ravel()


def fisher_floor(
    renderer: ShardRenderer, shard: Shard, first: int, last: int, steps: Mapping[str, float] = STEPS
) -> pd.DataFrame:
    """Lowest errors of the targets of scenes first … last - 1 of a shard.

    Args:
        renderer: of the simulation; it draws with "torch".
        shard: whose scenes.
        first, last: which.
        steps: see `derivatives`.

    Returns:
        See `table_floor`.
    """
    return table_floor(renderer, renderer.scene_tables(shard, first, last), steps)


def table_floor(renderer: ShardRenderer, table: pd.DataFrame, steps: Mapping[str, float] = STEPS) -> pd.DataFrame:
    """Lowest errors of the targets of a table of scenes; see the module.

    Args:
        renderer: of the simulation; it draws with "torch".
        table: one row a galaxy, each scene's target first; see `SceneSampler.sample`.
        steps: see `derivatives`.

    Returns:
        One row a scene: `scene`; `sigma_g1`, `sigma_g2` of the intrinsic shear-type g; `sigma_e1`, `sigma_e2` of the
        observed distortion e of the isolated noiseless stamp in the label band; `sigma_ln_size`; and for each band
        `sigma_ln_flux_{band}`, the relative error of a flux, NaN where the target has none. A target of AGN light alone
        has NaN throughout.
    """
    found = derivatives(renderer, table, steps)
    starts = np.flatnonzero(table["member"].to_numpy() == 0)
    rows, turn = (table[c].to_numpy()[starts] for c in ("row", "rotation_deg"))
    source = {column: values[rows] for column, values in renderer.catalog.items()}
    g = intrinsic_g(source, turn, complex(renderer.settings.shear_g1, renderer.settings.shear_g2))
    bands = renderer.survey.bands
    names = ["g1", "g2", "e1", "e2", "ln_size", *(f"ln_flux_{band}" for band in bands)]
    variance = np.full((len(starts), len(names)), np.nan)
    n = len(GEOMETRY)
    for k, (start, end) in enumerate(zip(starts, [*starts[1:], len(table)], strict=True)):
        if np.isnan(g[k]):
            continue
        fisher = fisher_matrix(found.light[start:end], found.geometry[:, start:end], renderer.sky)
        fisher[np.diag_indices_from(fisher)] += prior_information(end - start, len(bands))
        covariance = marginal_covariance(fisher, n + len(bands))
        of_g, of_e = g_response(complex(g[k])), found.distortion[start]
        variance[k, :2] = np.diag(of_g @ covariance[:2, :2] @ of_g.T)
        variance[k, 2:4] = np.diag(of_e @ covariance[:n, :n] @ of_e.T)
        variance[k, 4:] = np.diag(covariance)[n - 1 :]
    scene = table["scene"].to_numpy()[starts]
    sigma = np.sqrt(variance)
    return pd.DataFrame({"scene": scene} | {f"sigma_{name}": sigma[:, k] for k, name in enumerate(names)})


def whole_floor(renderer: ShardRenderer, shard: Shard) -> pd.DataFrame:
    """`fisher_floor` of all scenes of a shard, in order: the task of a rendering process."""
    firsts = range(0, shard.scenes, _SCENES_AT_ONCE)
    parts = [fisher_floor(renderer, shard, first, min(first + _SCENES_AT_ONCE, shard.scenes)) for first in firsts]
    return pd.concat(parts, ignore_index=True)
