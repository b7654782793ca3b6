"""One field of known shear, all its images, by all methods: its sums and its facts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.bins import REDSHIFT
from deblend_assets.science.field_shear.design import ShearField
from deblend_assets.science.field_shear.evaluation import FACT_COLUMNS
from deblend_assets.science.field_shear.fields import Condition, ShearedField, ShearFields
from deblend_assets.science.field_shear.methods import Given, Method, reference_band
from deblend_assets.science.field_shear.places import Places
from deblend_assets.science.field_shear.sums import SUM_COLUMNS, sum_catalogs
from deblend_assets.science.field_shear.twin_checks import twin_facts
from deblend_assets.science.metadetection.catalogs import KINDS
from deblend_assets.science.metadetection.maps import moved
from deblend_assets.science.stamps.resampling import shear_matrix
from deblend_assets.settings import FieldShearSettings

# Lags of the noise correlation that methods are given: metadetection and AnaCal need all that there is.
_LAGS = 12
_TABLES = ("sums", "facts")


@dataclass(frozen=True)
class FieldResult:
    """What is kept of a field.

    Attributes:
        sums: `SUM_COLUMNS`.
        facts: `FACT_COLUMNS`, one row a condition and method.
    """

    sums: pd.DataFrame
    facts: pd.DataFrame


def joined(parts: Sequence[FieldResult]) -> FieldResult:
    """Results of one field under different conditions together."""
    return FieldResult(*(pd.concat([getattr(part, name) for part in parts], ignore_index=True) for name in _TABLES))


def measure_field(
    fields: ShearFields,
    which: ShearField,
    methods: Sequence[Method],
    conditions: Sequence[Condition],
    settings: FieldShearSettings,
) -> FieldResult:
    """Make, observe and measure a field; conditions that shear the same galaxies share its images.

    Args:
        fields: makes it.
        which: field.
        methods: that measure it.
        conditions: under each of which.
        settings: of the run.
    """
    field = fields.field(which)
    parts = []
    for redshifts, some in groupby(conditions, lambda condition: condition.redshifts):
        images = fields.observed(which, field, redshifts)
        parts.append(measure_images(images, which, methods, list(some), settings))
    return joined(parts)


def measure_images(
    images: Sequence[ShearedField],
    which: ShearField,
    methods: Sequence[Method],
    conditions: Sequence[Condition],
    settings: FieldShearSettings,
) -> FieldResult:
    """`measure_field` of images that were made before.

    Args:
        images: in the order of `TWINS`.
        which, methods, conditions, settings: see `measure_field`.
    """
    identity = {"survey": which.survey, "field": which.number}
    told = _field_facts(images, settings)
    sums, facts = [], []
    for condition in conditions:
        for method in methods:
            number = np.zeros(3, np.int64)
            started = time.process_time()
            for image in images:
                part, counts = _image_sums(image, method, condition, settings)
                number += counts
                sums.append(
                    part.assign(
                        **identity,
                        component=which.component,
                        condition=condition.name,
                        method=method.name,
                        turned=image.twin.turned,
                        sign=image.twin.sign,
                    )
                )
            facts.append(
                {
                    **identity,
                    "condition": condition.name,
                    "method": method.name,
                    "correlated": which.correlated,
                    **told,
                    "seconds": time.process_time() - started,
                    **dict(zip(("detections", "selected", "failures"), number.tolist(), strict=True)),
                }
            )
    return FieldResult(pd.concat(sums, ignore_index=True)[list(SUM_COLUMNS)], pd.DataFrame(facts)[list(FACT_COLUMNS)])


def _image_sums(
    image: ShearedField, method: Method, condition: Condition, settings: FieldShearSettings
) -> tuple[pd.DataFrame, np.ndarray]:
    """Sums of an image's catalogues; numbers of detections, of chosen ones and of failures among these."""
    sky = image.field.sky
    places = Places(image, reference_band(sky.names))
    given = Given(
        image.image(condition, settings.psf_side, _LAGS),
        image.white_noise,
        image.field.psfs.patches,
        settings.least_snr,
        KINDS if condition.redshifts is None else KINDS[:1],
    )
    number, kept = np.zeros(3, np.int64), {}
    for name, table in method.measure(given).items():
        table = places.add(table)
        inside = table[within_border(table, image, settings.border)]
        worked = np.isfinite(inside[["g1", "g2"]]).all(axis=1)
        chosen = inside["chosen"].to_numpy(bool)
        number += [len(inside), int(chosen.sum()), int((~worked).sum())]
        kept[name] = inside[chosen & worked]
    return sum_catalogs(kept), number


def within_border(table: pd.DataFrame, image: ShearedField, border: int) -> np.ndarray:
    """Which rows lie within the border before the shear: galaxies that a true shear moves do not cross it.

    Args:
        table: x, y, and the redshift of each row's target where a slice of redshifts alone is sheared.
        image: that they lie on.
        border: [pixel].
    """
    x, y = (table[name].to_numpy(float) for name in "xy")
    shape, shear = image.field.sky.shape, image.shear
    before = moved(shear_matrix(-shear.real, -shear.imag, np.eye(2)), shape, x, y)
    lensed = np.ones(len(table), bool)
    if image.redshifts is not None:
        low, high = image.redshifts
        lensed = (table[REDSHIFT].to_numpy(float) >= low) & (table[REDSHIFT].to_numpy(float) < high)
    x, y = np.where(lensed, before, [x, y])
    height, width = shape
    return np.asarray(
        (x >= border - 0.5) & (x < width - border - 0.5) & (y >= border - 0.5) & (y < height - border - 0.5)
    )


def _field_facts(images: Sequence[ShearedField], settings: FieldShearSettings) -> dict[str, float]:
    """Of the upright images: unmasked sky and true galaxies; and whether the images are twins."""
    field, border = images[0].field, settings.border
    band = reference_band(field.sky.names)
    seen = images[0].seen.mask[band] == 0
    if border:
        seen = seen[border:-border, border:-border]
    area = float(seen.sum()) * (field.sky.pixel_scale / 60) ** 2
    truth = field.truth
    rows = ~truth["star"].to_numpy(bool) & within_border(truth, images[0], border)
    # The pair of ± shear averages to the shapes before the shear, to first order.
    g = np.mean([image.field.truth[["g1", "g2"]].to_numpy(float) for image in images[:2]], axis=0)[rows]
    twins = twin_facts(images)
    return {
        "area": area,
        "galaxies": int(rows.sum()),
        "sum_g2": float(np.square(g).sum() / 2),
        "shared_noise": twins.shared_noise,
        "masks_apart": twins.masks_apart,
    }
