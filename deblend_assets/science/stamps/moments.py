"""Second moments of images, and adaptive moments of PSF-free bulge + disc profiles.

Two different shapes of one galaxy:

* `image_moments`: unweighted second moments of a stamp (Eq. 12-13 with W = 1), hence the observed
  *distortion* e, PSF-convolved and truncated by the stamp. This is the report's label.
* `intrinsic_shear`: the *shear-type* g of the galaxy before PSF and pixel, by adaptive moments
  (Bernstein & Jarvis 2002; Hirata & Seljak 2003). Untruncated second moments are not suitable: the
  wings of a de Vaucouleurs bulge dominate them, and no PSF-corrected estimator measures them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, gammainc, gammaincinv, i0e, i1e


@dataclass(frozen=True)
class ImageMoments:
    """Unweighted second moments; every field has the shape of the stack of images.

    Attributes:
        x, y: centroid from the stamp's centre [pixel].
        qxx, qyy, qxy: second moments about the centroid [pixel²].
        e1, e2: distortion (Eq. 12).
    """

    x: np.ndarray
    y: np.ndarray
    qxx: np.ndarray
    qyy: np.ndarray
    qxy: np.ndarray
    e1: np.ndarray
    e2: np.ndarray

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Semi-axes a ≥ b [pixel]: roots of the eigenvalues of Q, so that e = (a² - b²)/(a² + b²)."""
        trace = self.qxx + self.qyy
        split = np.hypot(self.qxx - self.qyy, 2 * self.qxy)
        return np.sqrt(0.5 * (trace + split)), np.sqrt(np.maximum(0.5 * (trace - split), 0.0))


def image_moments(images: np.ndarray) -> ImageMoments:
    """Eq. 12-13 with uniform weight over the whole stamp, about the centroid of the light.

    Args:
        images: (..., y, x), any flux unit.

    Returns:
        Moments with the leading shape; NaN where the total flux is not positive, and where Qxx + Qyy ≤ 0 (possible
        with noise).
    """
    images = np.asarray(images, dtype=np.float64)
    ny, nx = images.shape[-2:]
    x = np.arange(nx) - (nx - 1) / 2
    y = np.arange(ny) - (ny - 1) / 2
    flux = images.sum(axis=(-2, -1))
    flux = np.where(flux > 0, flux, np.nan)
    along_x = images.sum(axis=-2)
    along_y = images.sum(axis=-1)
    cx = along_x @ x / flux
    cy = along_y @ y / flux
    qxx = along_x @ (x * x) / flux - cx**2
    qyy = along_y @ (y * y) / flux - cy**2
    qxy = np.einsum("...yx,y,x->...", images, y, x) / flux - cx * cy
    trace = np.where(qxx + qyy > 0, qxx + qyy, np.nan)
    return ImageMoments(cx, cy, qxx, qyy, qxy, (qxx - qyy) / trace, 2 * qxy / trace)


_MAX_STEPS = 3000
_HALVINGS = 50


def _sersic_radii(n: float, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Radii [half-light radii] and light per radial step of a circular Sérsic profile of unit flux.

    Equal steps in log radius resolve both the cusp and the wings of a de Vaucouleurs profile; steps of equal light
    would be coarse in the wings.
    """
    b = gammaincinv(2 * n, 0.5)
    log_r = np.linspace(np.log(1e-5), np.log(300.0), points)
    r = np.exp(log_r)
    norm = b ** (2 * n) / (2 * np.pi * n * gamma(2 * n))
    light = 2 * np.pi * norm * r**2 * np.exp(-b * r ** (1 / n)) * (log_r[1] - log_r[0])
    return r, light


def intrinsic_shear(
    a_disc: np.ndarray,
    b_disc: np.ndarray,
    a_bulge: np.ndarray,
    b_bulge: np.ndarray,
    bulge_fraction: np.ndarray,
    *,
    radial_points: int = 80,
    tolerance: float = 1e-7,
) -> np.ndarray:
    """|g| of coaxial exponential disc + de Vaucouleurs bulge, by adaptive moments without PSF or pixel.

    The matched elliptical Gaussian M solves M = 2 ⟨x xᵀ⟩ weighted by I(x) exp(-½ xᵀ M⁻¹ x) (Bernstein & Jarvis
    2002, section 3.1). In the galaxy's own axes M is diagonal; the integrals are sums over the radius of each
    component's ellipse, and analytic over its angle. Where only one component has light its isophotes are similar
    ellipses and g = (a - b)/(a + b) exactly. The point source of an AGN is excluded: it has no shape.

    Args:
        a_disc, b_disc, a_bulge, b_bulge: half-light semi-axes [arcsec], (N,); ignored (may be 0) for a
            component without light.
        bulge_fraction: bulge light over bulge + disc light, (N,).
        radial_points: nodes of the quadrature, spaced evenly in log radius.
        tolerance: relative change of M at which the iteration stops.

    Returns:
        g along the major axis, (N,), float64; multiply by exp(2iφ) for a galaxy at position angle φ. It is
        negative where the matched Gaussian is elongated across the disc's major axis.

    Raises:
        RuntimeError: the iteration did not converge (not observed for b/a > 0.05).
    """
    a_disc, b_disc, a_bulge, b_bulge, fraction = (
        np.asarray(v, dtype=np.float64) for v in (a_disc, b_disc, a_bulge, b_bulge, bulge_fraction)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        g = np.where(fraction > 0.5, (a_bulge - b_bulge) / (a_bulge + b_bulge), (a_disc - b_disc) / (a_disc + b_disc))
    both = np.flatnonzero((fraction > 0) & (fraction < 1))
    for chunk in np.array_split(both, max(1, len(both) // 256)):
        if len(chunk):
            g[chunk] = _two_component_shear(
                np.stack([a_disc[chunk], a_bulge[chunk]]),
                np.stack([b_disc[chunk], b_bulge[chunk]]),
                np.stack([1 - fraction[chunk], fraction[chunk]]),
                radial_points,
                tolerance,
            )
    return g


def _two_component_shear(
    a: np.ndarray, b: np.ndarray, share: np.ndarray, radial_points: int, tolerance: float
) -> np.ndarray:
    profiles = [_sersic_radii(n, radial_points) for n in (1.0, 4.0)]
    r2 = np.concatenate([r**2 for r, _ in profiles])
    light = np.concatenate([share[k][:, None] * profile for k, (_, profile) in enumerate(profiles)], axis=1)
    a2, b2 = (np.repeat(axis.T**2, radial_points, axis=1) * r2 for axis in (a, b))

    # Start from the half-light ellipse of the mixture; a smaller start could converge to the cusp.
    log_m = np.log(np.stack([(share * a**2).sum(axis=0), (share * b**2).sum(axis=0)]))
    active, before = np.arange(log_m.shape[1]), np.zeros_like(log_m)
    for number in range(_MAX_STEPS):
        m = np.exp(log_m[:, active])
        along, across = a2[active] / m[0][:, None], b2[active] / m[1][:, None]
        # Over the angle of an ellipse the weight and its cos² and sin² are Bessel functions of half its asymmetry.
        asymmetry = 0.25 * (along - across)
        weight = light[active] * np.exp(np.abs(asymmetry) - 0.25 * (along + across))
        even, odd = weight * i0e(asymmetry), weight * i1e(asymmetry)
        total = even.sum(axis=1)
        second = np.stack([(0.5 * (even - odd) * along).sum(axis=1), (0.5 * (even + odd) * across).sum(axis=1)])
        step = np.log(2 * second / total)
        # For a Gaussian the plain step covers half of the distance; 1.5 times it is stable for every profile tested.
        # Near the solution, steps shrink by a constant factor: every fourth step sums the geometric series.
        shrink = np.zeros_like(step)
        if number % 4 == 3:
            np.divide(step, before[:, active], out=shrink, where=before[:, active] != 0)
        before[:, active] = step
        log_m[:, active] += 1.5 * step / (1.0 - shrink.clip(0.0, 0.9))
        active = active[np.abs(step).max(axis=0) > tolerance]
        if not len(active):
            root_x, root_y = np.exp(0.5 * log_m)
            return (root_x - root_y) / (root_x + root_y)
    raise RuntimeError(f"adaptive moments of {len(active)} galaxies did not converge in {_MAX_STEPS} steps")


def half_light_radius(hlr_disc: np.ndarray, hlr_bulge: np.ndarray, bulge_fraction: np.ndarray) -> np.ndarray:
    """Circularised half-light radius of exponential disc + de Vaucouleurs bulge with separate radii.

    The light within a radius r of a round Sérsic profile is P(2n, b (r/h)^(1/n)), P the regularised incomplete gamma
    function (Graham & Driver 2005, Eq. 2 and 5); bisection finds the radius that contains half of the total light.

    Args:
        hlr_disc, hlr_bulge: circularised half-light radii sqrt(ab) [arcsec], (N,); 0 without that component.
        bulge_fraction: bulge light over bulge + disc light, (N,).

    Returns:
        (N,) [arcsec].
    """
    share = np.stack([1.0 - bulge_fraction, bulge_fraction])
    radii = np.stack([hlr_disc, hlr_bulge]).astype(float)
    there = (share > 0) & (radii > 0)
    b = [float(gammaincinv(2 * n, 0.5)) for n in (1.0, 4.0)]
    low = np.log(np.where(there, radii, np.inf).min(axis=0))
    high = np.log(np.where(there, radii, 0.0).max(axis=0))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        within = np.zeros_like(middle)
        for k, n in enumerate((1.0, 4.0)):
            scaled = np.exp(middle) / np.where(there[k], radii[k], 1.0)
            within += np.where(there[k], share[k] * gammainc(2 * n, b[k] * scaled ** (1 / n)), 0.0)
        inside = within < 0.5
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    radius: np.ndarray = np.exp(0.5 * (low + high))
    return radius
