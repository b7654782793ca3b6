"""m and c of a catalogue calibrated by its own response, PSF leakage, and what a condition changes of them.

⟨ĝ_i⟩ = (1 + m_i) g_i + c_i, with ĝ the mean estimate over the mean response of the same images. Errors are jack-knife
over fields.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.field_shear.stacked import Stacked, mean_shears, response
from deblend_assets.science.statistics.jackknife import Measure, jackknife_error

Floats = NDArray[np.float64]
NAMES = ("m1", "m2", "c1", "c2", "m", "c", "R11", "R22")


def numbers(sums: Floats, shear: float, step: float) -> Floats:
    """`NAMES` of sums (1 + F, component, sign, turned, catalogue, quantity), (1 + F, 8); m and c are means of both.

    The first row is of the whole.
    """
    means = mean_shears(sums, step)
    m = [(means[..., k, 0, k] - means[..., k, 1, k]) / (2 * shear) - 1 for k in (0, 1)]
    # A run of few fields may have sheared one component alone.
    c = [_mean(means[..., k].reshape(*means.shape[:-3], 4)) for k in (0, 1)]
    found = response(sums, step)
    pooled = (_mean(np.stack(pair, axis=-1)) for pair in (m, c))
    return np.stack([*m, *c, *pooled, found[..., 0], found[..., 1]], axis=-1)


def _mean(values: Floats) -> Floats:
    """Over the last axis, of what the whole (the first row) has; NaN without any, and where one of these is missing."""
    known = np.isfinite(values[:1])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def biases(stacked: Stacked, shear: float) -> dict[str, Measure]:
    """`NAMES`: m and c by component and as their means, and the response.

    Args:
        stacked: sums of fields.
        shear: |g| that was applied.
    """
    return _measures(numbers(stacked.without_each(), shear, stacked.step))


def changes(condition: Stacked, exact: Stacked, shear: float) -> dict[str, Measure]:
    """`NAMES` under a condition less those of the same fields without it: the same galaxies and noise.

    Args:
        condition, exact: sums; the fields of both are used.
        shear: |g| that was applied.
    """
    both = np.intersect1d(condition.fields, exact.fields)
    sides = (part.only(both) for part in (condition, exact))
    under, without = (numbers(part.without_each(), shear, part.step) for part in sides)
    return _measures(under - without)


def leakage(stacked: Stacked) -> Measure:
    """α = ∂c/∂g(PSF): slope of the fields' mean shears on the mean ellipticities of their PSFs, both components.

    The mean of the images of a field is free of the applied shear and, upright and turned together, of shapes.
    """
    sums = stacked.sums[..., 0, :].sum(axis=(1, 2, 3))
    weight = sums[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sums[:, 2:4] / weight[:, None]
        psf = sums[:, 6:8] / weight[:, None]
    used = np.isfinite(found).all(axis=1) & np.isfinite(psf).all(axis=1)
    w, y, x = weight[used, None], found[used], psf[used]
    # Sums over fields, from which each field can be left out.
    parts = np.stack([w + 0 * x, w * x, w * y, w * x * x, w * x * y], axis=1)
    total = parts.sum(axis=0)
    s, sx, sy, sxx, sxy = np.moveaxis(np.concatenate([total[None], total - parts]), 1, 0)
    by = response(stacked.without_each()[np.append(True, used)], stacked.step)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = ((sxy - sx * sy / s) / by).sum(axis=-1) / (sxx - sx**2 / s).sum(axis=-1)
    value, error = jackknife_error(slope)
    return Measure(float(value), float(error))


def _measures(numbers: Floats) -> dict[str, Measure]:
    value, error = jackknife_error(numbers)
    return {name: Measure(float(v), float(e)) for name, v, e in zip(NAMES, value, error, strict=True)}
