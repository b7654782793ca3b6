"""A catalogue as regions for DS9: ellipses of what is good, boxes of stars, crosses of what carries a flag."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.stamps.sky_frame import shear_on_sky
from deblend_assets.steps.fields.catalog import FieldCatalog

_HEAD = 'global color=green font="helvetica 9 normal"\nimage\n'
# Half side of a box and of a cross [pixel].
_HALF = 4


def regions_of(field: Field, catalog: FieldCatalog) -> str:
    """Region file, in pixels that count from 1, as DS9 has them.

    An ellipse has the area of the circle of the half-light radius before the PSF, and the shape g in the pixel frame of
    the field's middle.
    """
    table = catalog.table
    flags = table["flags"].to_numpy()
    a, b, angle = _ellipses(field, catalog)
    lines = []
    for n, (name, x, y) in enumerate(zip(table["id"], table["x"] + 1, table["y"] + 1, strict=True)):
        place, text = f"{x:.2f},{y:.2f}", f"text={{{name}}}"
        if flags[n] == 0:
            lines.append(f"ellipse({place},{a[n]:.2f},{b[n]:.2f},{angle[n]:.1f}) # {text}")
        elif flags[n] == RowFlag.STAR:
            lines.append(f"box({place},{2 * _HALF},{2 * _HALF},0) # color=cyan {text}")
        else:
            lines.append(f"point({place}) # point=x color=red {text}")
    return _HEAD + "\n".join(lines) + "\n"


def _ellipses(field: Field, catalog: FieldCatalog) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half axes [pixel] and position angle from +x towards +y [deg]."""
    table = catalog.table
    height, width = field.shape
    to_pixels = np.linalg.inv(field.jacobian((width - 1) / 2, (height - 1) / 2))
    on_sky = table[["g1", "g2"]].to_numpy(np.float64)
    # The same map of shapes, from the sky to the pixels.
    turned = shear_on_sky(on_sky, np.broadcast_to(to_pixels, (len(on_sky), 2, 2)))
    modulus = np.clip(np.hypot(*turned.T), 0, 0.95)
    radius = table["half_light_radius"].to_numpy() / field.pixel_scale
    axis_ratio = (1 - modulus) / (1 + modulus)
    return (
        radius / np.sqrt(axis_ratio),
        radius * np.sqrt(axis_ratio),
        np.degrees(np.arctan2(turned[:, 1], turned[:, 0])) / 2,
    )
