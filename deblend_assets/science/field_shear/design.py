"""Which fields of known shear are made, and under which lenses each is observed.

A field has four images of the same galaxies and noise: ±g on one component, upright and turned by 90°. Components 1 and
2 take turns from field to field: an image tells as much of m as a second pair of the same galaxies would, and the
galaxies are twice as many. White and correlated noise take turns every second field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Survey = Literal["LSST", "HSC", "DES"]
SURVEYS: tuple[Survey, ...] = ("LSST", "HSC", "DES")
SPLIT = "test"


@dataclass(frozen=True)
class Twin:
    """One image of a field.

    Attributes:
        sign: +1 or -1, of the shear.
        turned: whether galaxies, positions and noise are turned by 90° before they are sheared.
    """

    sign: int
    turned: bool


TWINS = tuple(Twin(sign, turned) for turned in (False, True) for sign in (1, -1))
"""The images of a field: a pair upright, then a pair turned."""


@dataclass(frozen=True)
class ShearField:
    """A field that is made, observed and measured as a whole.

    Attributes:
        survey: whose skies.
        number: from 0; the field is the same whenever it is made.
    """

    survey: Survey
    number: int

    @property
    def component(self) -> int:
        """Which component of the shear is applied: 1 or 2."""
        return 1 + self.number % 2

    @property
    def correlated(self) -> bool:
        """Whether its noise is correlated."""
        return self.number // 2 % 2 == 1

    @property
    def key(self) -> str:
        """Such as `lsst_00012`."""
        return f"{self.survey.lower()}_{self.number:05d}"

    @property
    def scenes(self) -> int:
        """Work of a field in units of the progress line."""
        return 1

    def shear(self, step: float, twin: Twin) -> complex:
        """The reduced shear g1 + i g2 of a twin.

        Args:
            step: |g|.
            twin: which.
        """
        return twin.sign * step * (1.0 if self.component == 1 else 1j)


def fields_of(survey: Survey, number: int) -> list[ShearField]:
    """The first fields of a survey."""
    return [ShearField(survey, k) for k in range(number)]
