"""Fields of an ngmix MultiBandObsList, without ngmix: lists that have its attributes."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest

import deblend_assets as da

WCS = galsim.JacobianWCS(-0.2, 0.0, 0.0, 0.2)


class Jacobian:
    """Of ngmix, as far as it is read."""

    def get_galsim_wcs(self) -> galsim.JacobianWCS:
        return WCS


class Seen:
    """An `ngmix.Observation`."""

    def __init__(self, level: float, **meta: Any) -> None:
        self.image, self.weight = np.full((8, 10), level), np.full((8, 10), 4.0)
        self.bmask, self.jacobian, self.meta = np.zeros((8, 10), np.int32), Jacobian(), meta
        self.bmask[2, 3] = 16

    def has_bmask(self) -> bool:
        return True

    def has_psf(self) -> bool:
        return False


class Listed(list[Any]):
    """An `ngmix.ObsList` or `MultiBandObsList`."""

    def __init__(self, members: list[Any], **meta: Any) -> None:
        super().__init__(members)
        self.meta = meta


def test_a_multi_band_obs_list_is_a_field() -> None:
    field = da.Field.from_ngmix(Listed([Listed([Seen(2.0)]), Listed([Seen(1.0)])]), "rg", [30.0, 27.0])
    assert field.names == ("g", "r")
    assert field.zero_points.tolist() == [27.0, 30.0]
    assert field.wcs == WCS
    pixels, weight, _ = field.bands["r"].read((slice(0, 8), slice(0, 10)))
    assert (pixels[weight > 0] == 2).all()
    assert np.argwhere(weight == 0).tolist() == [[2, 3]]
    assert weight.max() == 4


def test_names_and_zero_points_are_those_of_meta() -> None:
    mbobs = Listed([Listed([Seen(2.0, magzp_ref=30.0)], band="r"), Listed([Seen(1.0, band="g", zero_point=27.0)])])
    field = da.Field.from_ngmix(mbobs)
    assert field.names == ("g", "r")
    assert field.zero_points.tolist() == [27.0, 30.0]


@pytest.mark.parametrize(
    ("mbobs", "bands", "line"),
    [
        (Listed([Listed([Seen(1.0)])]), None, "band and zero_point of meta"),
        (Listed([Listed([Seen(1.0, zero_point=30.0)])]), "gr", "1 bands, of names"),
        (Listed([Listed([Seen(1.0, zero_point=30.0, band="r")] * 2)]), None, "one coadd a band"),
    ],
)
def test_what_is_not_known_is_one_line(mbobs: Listed, bands: str | None, line: str) -> None:
    with pytest.raises(da.DeblendError, match=line):
        da.Field.from_ngmix(mbobs, bands)
