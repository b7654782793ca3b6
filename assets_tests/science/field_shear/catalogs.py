"""Catalogues of fields whose m, c, response, leakage and shape noise are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.design import TWINS, ShearField, Survey, fields_of
from deblend_assets.science.field_shear.sums import CATALOGS, sum_catalogs

SHEAR, STEP = 0.02, 0.01
# Shears that metadetection adds, in the order of CATALOGS.
ADDED = (0j, STEP + 0j, -STEP + 0j, STEP * 1j, -STEP * 1j)


@dataclass(frozen=True)
class Truth:
    """What the catalogues are made with.

    Attributes:
        m1, m2: extra response to the true shear, which metadetection does not see.
        c1, c2: added to every estimate.
        response: of the estimate of one galaxy.
        detection: change of the number of detections with shear along their shape.
        alpha: leakage of the PSF's ellipticity.
        shape: RMS a component of g.
    """

    m1: float = 0.0
    m2: float = 0.0
    c1: float = 0.0
    c2: float = 0.0
    response: float = 0.8
    detection: float = 0.5
    alpha: float = 0.0
    shape: float = 0.25


def tables(
    truth: Truth,
    survey: Survey = "LSST",
    fields: int = 16,
    galaxies: int = 400,
    *,
    paired: bool = True,
    swap: bool = False,
    bins: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sums and facts.

    Args:
        truth: see the class.
        survey, fields, galaxies: a field's.
        paired: whether twins have the same galaxies, selected by the same random numbers.
        swap: whether the signs of the twins are swapped.
        bins: whether the rows have an S/N.
    """
    parts, facts = [], []
    for field in fields_of(survey, fields):
        rng = np.random.default_rng(field.number)
        psf = complex(*rng.normal(0, 0.02, 2))
        seeds = rng.integers(2**63, size=5)
        for k, twin in enumerate(TWINS):
            galaxy = Galaxies.random(truth, -1 if twin.turned else 1, galaxies, int(seeds[0 if paired else 1 + k]))
            g = field.shear(SHEAR, twin) * (-1 if swap else 1)
            found = {name: galaxy.detected(g, added, psf) for name, added in zip(CATALOGS, ADDED, strict=True)}
            part = (
                sums_of_all(found) if not bins else sum_catalogs({name: pd.DataFrame(of) for name, of in found.items()})
            )
            parts.append(part.assign(turned=twin.turned, sign=twin.sign, **identity(field)))
        facts.append({**identity(field), **fact(truth, galaxies)})
    return pd.concat(parts, ignore_index=True), pd.DataFrame(facts)


def sums_of_all(found: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """What `sum_catalogs` gives without bins, quickly."""
    rows = {name: [table[column].sum() for column in ("g1", "g2", "psf_g1", "psf_g2")] for name, table in found.items()}
    sums = np.array(list(rows.values()))
    number = [float(len(table["g1"])) for table in found.values()]
    columns = {"n": number, "weight": number, "g1": sums[:, 0], "g2": sums[:, 1], "r11": 0.0, "r22": 0.0}
    columns |= {"psf_g1": sums[:, 2], "psf_g2": sums[:, 3]}
    return pd.DataFrame({"catalog": list(rows), "variable": "all", "bin": 0, **columns})


def identity(field: ShearField) -> dict[str, object]:
    return {
        "survey": field.survey,
        "field": field.number,
        "component": field.component,
        "condition": "exact",
        "method": "ours",
    }


def fact(truth: Truth, galaxies: int) -> dict[str, object]:
    return {
        "correlated": False,
        "area": 2.0,
        "galaxies": galaxies,
        "sum_g2": galaxies * truth.shape**2,
        "shared_noise": 1.0,
        "masks_apart": 0.0,
        "seconds": 4.0,
        "detections": 20 * galaxies,
        "selected": 10 * galaxies,
        "failures": galaxies,
    }


@dataclass(frozen=True)
class Galaxies:
    """Galaxies of a field.

    Attributes:
        truth: how they respond.
        shape: before any shear, (N,).
        chance: below which probability each is detected, (N,).
        snr: (N,).
    """

    truth: Truth
    shape: np.ndarray
    chance: np.ndarray
    snr: np.ndarray

    @classmethod
    def random(cls, truth: Truth, side: int, number: int, seed: int) -> Galaxies:
        """With side -1 their shapes are those of turned ones."""
        rng = np.random.default_rng(seed)
        shape = side * truth.shape * (rng.standard_normal(number) + 1j * rng.standard_normal(number))
        return cls(truth, shape, rng.random(number), rng.uniform(10, 60, number))

    def detected(self, g: complex, added: complex, psf: complex) -> dict[str, np.ndarray]:
        """The catalogue of an image; a galaxy is detected with a probability that rises with shear along its shape."""
        truth = self.truth
        felt = complex(g.real * (1 + truth.m1), g.imag * (1 + truth.m2)) + added
        kept = self.chance < 0.5 + truth.detection * (self.shape * np.conj(g + added)).real
        estimate = (truth.response * (self.shape + felt) + truth.alpha * psf + complex(truth.c1, truth.c2))[kept]
        constant = np.full(len(estimate), psf)
        return {
            "g1": estimate.real,
            "g2": estimate.imag,
            "psf_g1": constant.real,
            "psf_g2": constant.imag,
            "snr": self.snr[kept],
        }
