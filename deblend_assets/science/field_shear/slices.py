"""What a selection shows of the shear of one redshift slice alone, and how much of the selection lies in the slice.

Where galaxies of two slices are one detection, it follows the shear of both: a slice's response n_γ is then not its
share n(z) of the detections (MacCrann et al. 2022, MNRAS 509, 3371). A slice of faint galaxies, whose estimates are
shrunk more, also has a smaller response than its share; `responding` contains that.
"""

from __future__ import annotations

import numpy as np

from deblend_assets.science.field_shear.biases import NAMES, numbers
from deblend_assets.science.field_shear.stacked import Stacked, response
from deblend_assets.science.statistics.jackknife import Measure, jackknife_error

SLICE_NAMES = ("response", "share", "responding", "response_less_responding")


def slice_responses(sheared: Stacked, exact: Stacked, inside: Stacked, shear: float) -> dict[str, Measure]:
    """`SLICE_NAMES` of one slice; errors are jack-knife over the fields that all three have.

    Args:
        sheared: of the whole selection where the slice alone is sheared, images as they are.
        exact: of the whole selection where all galaxies are sheared; the response of the mean shear is theirs.
        inside: as `exact`, of the detections whose true target lies in the slice.
        shear: |g| that was applied.

    Returns:
        response: mean calibrated shear of the whole selection over the applied one; of all slices together 1 + m.
        share: of the weights of the selection, in the slice.
        responding: share of the detections in the slice in the selection's response to metadetection's shear, or in its
            analytic one. The difference of `response` is what blends of different redshifts, and m, do.
    """
    both = np.intersect1d(np.intersect1d(sheared.fields, exact.fields), inside.fields)
    alone, whole, part = (sums.only(both).without_each() for sums in (sheared, exact, inside))
    seen = whole.copy()
    seen[..., 0, :] = alone[..., 0, :]
    shown = 1 + numbers(seen, shear, exact.step)[:, NAMES.index("m")]
    # Shapes of the slice's detections, over the weight of all.
    shapes = whole.copy()
    shapes[..., 2:6] = part[..., 2:6]
    with np.errstate(divide="ignore", invalid="ignore"):
        responding = response(shapes, exact.step).sum(axis=-1) / response(whole, exact.step).sum(axis=-1)
        share = part[..., 0, 1].sum(axis=(1, 2, 3)) / whole[..., 0, 1].sum(axis=(1, 2, 3))
    value, error = jackknife_error(np.stack([shown, share, responding, shown - responding], axis=-1))
    return {name: Measure(float(v), float(e)) for name, v, e in zip(SLICE_NAMES, value, error, strict=True)}
