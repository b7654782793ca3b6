"""The five catalogues of an image: positions, masks and patches on the unsheared sky; any estimator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sep

from assets_tests.science.metadetection.images import GALAXIES, PSF, SIDE, drawn, observed, psf_stamp
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.metadetection.catalogs import KINDS, MOST_MASKED, joined, metadetect
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MeasurementSettings


def moments(image: ObservedImage, fwhm: tuple[float, ...]) -> pd.DataFrame:
    """Any estimator: windowed positions and shapes of SEP's segments in the first band."""
    pixels = np.ascontiguousarray(image.pixels[0])
    found = sep.extract(pixels, 5 / np.sqrt(np.median(image.inverse_variance[0][image.inverse_variance[0] > 0])))
    x, y, _ = sep.winpos(pixels, found["x"], found["y"], np.full(len(found), fwhm[0]))
    size = found["x2"] + found["y2"]
    g = np.stack([(found["x2"] - found["y2"]) / size, 2 * found["xy"] / size]) / 2
    return pd.DataFrame({"x": x, "y": y, "g1": g[0], "g2": g[1], "flux": found["flux"]})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    lost = np.zeros((SIDE, SIDE), bool)
    lost[:, 76:78] = True
    image = observed(drawn(GALAXIES, PSF)[None], psf_stamp(), sigma=0.02, lost=lost, mask=int(MaskBit.SATURATED))
    return metadetect(image, moments, seed=1)


def test_positions_are_those_of_the_unsheared_sky(tables: dict[str, pd.DataFrame]) -> None:
    middle = (SIDE - 1) / 2
    places = np.array([(x + middle, y + middle) for x, y, _ in GALAXIES])[np.argsort([y for _, y, _ in GALAXIES])]
    assert tuple(tables) == KINDS
    for kind, table in tables.items():
        table = table.sort_values("y")
        np.testing.assert_allclose(table[["x", "y"]], places, atol=0.1)
        moved = np.hypot(table["x_sheared"] - table["x"], table["y_sheared"] - table["y"])
        assert (moved > 0.1).all() == (kind != "noshear")
    assert tables["1p"]["flux"].to_numpy() == pytest.approx(tables["1m"]["flux"].to_numpy(), rel=0.02)


def test_shapes_follow_the_shear(tables: dict[str, pd.DataFrame]) -> None:
    for k in (1, 2):
        change = tables[f"{k}p"][f"g{k}"] - tables[f"{k}m"][f"g{k}"]
        assert (change > 0.005).all(), change
        assert (change < 0.03).all(), change


def test_mask_is_that_of_the_unsheared_sky(tables: dict[str, pd.DataFrame]) -> None:
    for table in tables.values():
        near, far = table.sort_values("x", ascending=False).itertuples()
        assert near.mfrac > MOST_MASKED
        assert near.flags == int(RowFlag.MASKED | RowFlag.SATURATED)
        assert far.mfrac < 1e-3
        assert far.flags == 0


def test_nothing_detected_gives_empty_tables() -> None:
    dark = observed(np.zeros((1, 60, 60)), psf_stamp(side=31), lost=np.ones((60, 60), bool), mask=int(MaskBit.NO_DATA))
    for image in (dark, observed(np.zeros((1, 60, 60)), psf_stamp(side=31))):
        # The model is not used.
        estimate = NetworkEstimate(None, MeasurementSettings(), least_snr=20)
        tables = metadetect(image, estimate, kinds=("1p",))
        assert len(tables["1p"]) == 0
        assert {"x", "g1", "snr", "flags", "mfrac"} <= set(tables["1p"])


def test_rows_off_the_image_are_dropped_and_the_edge_is_flagged() -> None:
    image = observed(np.zeros((1, 60, 60)), psf_stamp(side=31))

    def corners(image: ObservedImage, fwhm: tuple[float, ...]) -> pd.DataFrame:
        return pd.DataFrame({"x": [59.4, 0.3, 30.0], "y": [30.0, 30.0, 30.0], "flags": [0, 2, 2]})

    tables = metadetect(image, corners, kinds=("1p", "1m"))
    # 1p is the image made larger along x: without the shear its positions lie nearer to the middle.
    assert len(tables["1p"]) == 3
    # 1m is made smaller: its outermost row lies beyond the image that was given.
    assert len(tables["1m"]) == 2
    assert tables["1p"]["flags"].tolist()[1:] == [2 | int(RowFlag.EDGE) | int(RowFlag.MASKED), 2]
    both = joined([tables, tables])
    assert len(both["1p"]) == 6
