"""A user's table of positions, in every form that one meets: the right places, all columns, or one line why not."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import Observation
from deblend_assets.stores.positions import Positions, positions_of, read_positions

RA, DEC = np.array([30.0, 30.004, 29.996]), np.array([-45.0, -45.003, -44.998])
IDS = [2**60 + 1, 7, 7]


def tan_wcs() -> WCS:
    """Of 300 × 200 pixels of 0.2 arcsec around RA, DEC."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, -45.0], [150.5, 100.5]
    wcs.wcs.cd = np.array([[-1, 0], [0, 1]]) * 0.2 / 3600
    return wcs


def a_field(wcs: galsim.BaseWCS | None = None) -> Field:
    wcs = galsim.AstropyWCS(wcs=tan_wcs()) if wcs is None else wcs
    return Field({"r": Observation(np.zeros((200, 300), np.float32), 27.0, wcs, where="r.fits")})


def on_sky(path: Path, **options: object) -> Positions:
    """What is read has to be RA and DEC."""
    found = read_positions(path, **options)
    np.testing.assert_allclose(found.places["ra"], RA, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.places["dec"], DEC, rtol=0, atol=1e-9)
    return found


def written(path: Path, table: Table, **options: object) -> Path:
    table.write(path, **options)
    return path


def csv_of(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


ROWS = list(zip(IDS, RA.tolist(), DEC.tolist(), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        "ra dec",
        "RA DEC",
        "Ra Dec",
        "ALPHA_J2000 DELTA_J2000",
        "alphawin_j2000 deltawin_j2000",
        "X_WORLD Y_WORLD",
        "alpha delta",
        "coord_ra coord_dec",
        "RAJ2000 DEJ2000",
        "_RAJ2000 _DEJ2000",
        "ra_icrs de_icrs",
        "RA_ICRS DE_ICRS",
        "RADEG DEDEG",
    ],
)
@pytest.mark.parametrize("ending", ["csv", "fits", "parquet", "vot", "ecsv"])
def test_the_usual_names_in_any_case(tmp_path: Path, names: str, ending: str) -> None:
    table = Table([IDS, RA, DEC, [1, 2, 3]], names=["ID", *names.split(), "X_IMAGE"])
    path = tmp_path / f"p.{ending}"
    found = on_sky(written(path, table, **({"format": "votable"} if ending == "vot" else {})))
    assert found.read_from == tuple(names.split())
    assert found.others["id"].tolist() == IDS
    assert found.others["X_IMAGE"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("unit", ["rad", "hourangle", "arcsec", "deg"])
@pytest.mark.parametrize("ending", ["fits", "parquet", "vot", "ecsv"])
def test_units_are_followed(tmp_path: Path, unit: str, ending: str) -> None:
    """Also LSST's coord_ra in radians."""
    if unit == "hourangle" and ending in ("fits", "vot"):
        pytest.skip("neither format has the unit")
    sky = SkyCoord(RA, DEC, unit="deg")
    table = QTable({"coord_ra": sky.ra.to(unit), "coord_dec": sky.dec.to(unit), "size": [1, 2, 3]})
    on_sky(written(tmp_path / f"p.{ending}", table, **({"format": "votable"} if ending == "vot" else {})))


def test_our_own_parquet_is_read_with_its_units(tmp_path: Path) -> None:
    from deblend_assets.stores.tables import to_parquet

    identifiers = pd.array([2**60 + 1, None, 3], "Int64")
    frame = pd.DataFrame({"id": identifiers, "ra": np.radians(RA), "dec": np.radians(DEC), "flux": [1.0, 2.0, 3.0]})
    columns = {"id": ("", ""), "ra": ("rad", ""), "dec": ("rad", ""), "flux": ("nJy", "")}
    (tmp_path / "p.parquet").write_bytes(to_parquet(frame, columns, ""))
    found = on_sky(tmp_path / "p.parquet")
    assert found.units == {"flux": "nJy"}
    assert found.others["id"].tolist() == [2**60 + 1, pd.NA, 3]


def test_units_of_voparquet_are_followed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from deblend_assets.stores.table_metadata import metadata_of

    frame = pd.DataFrame({"coord_ra": np.radians(RA), "coord_dec": np.radians(DEC)})
    described = metadata_of(frame, {"coord_ra": ("rad", ""), "coord_dec": ("rad", "")}, "")
    kept = {name: value for name, value in described.items() if name.startswith(b"IVOA")}
    pq.write_table(pa.Table.from_pandas(frame).replace_schema_metadata(kept), tmp_path / "p.parquet")
    on_sky(tmp_path / "p.parquet")


def test_a_unit_that_is_no_angle_is_one_line(tmp_path: Path) -> None:
    table = Table({"ra": RA, "dec": DEC}, units={"ra": "Jy"})
    with pytest.raises(CorruptDataError, match=r"has the unit Jy \[ra of .*p\.ecsv\]"):
        read_positions(written(tmp_path / "p.ecsv", table))


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        ("02:31:49.10", "-45:30:00"),
        ("02 31 49.10", "-45 30 00"),
        ("2h31m49.1s", "-45d30m00s"),
        ("37d57m16.5s", "-45°30′00″"),
        ("37.954583333333333", "-45.5"),
        ("+02:31:49.1", "−45:30:00.000"),
        ("02:31.8183333333333", "-45:30"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "fits", "parquet", "tsv"])
def test_sexagesimal_text(tmp_path: Path, ra: str, dec: str, ending: str) -> None:
    if ending == "fits" and not (ra + dec).isascii():
        pytest.skip("FITS is ASCII")
    table, path = Table({"RA": [ra, ra], "Dec": [dec, dec.replace("-", "+")]}), tmp_path / f"p.{ending}"
    if ending == "tsv":
        table.write(path, format="ascii.tab")
    else:
        table.write(path)
    found = read_positions(path)
    np.testing.assert_allclose(found.places["ra"], 37.954583333333333, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.abs(found.places["dec"]), 45.5, rtol=0, atol=1e-9)
    assert found.places["dec"][0] < 0


def test_a_small_negative_declination_keeps_its_sign(tmp_path: Path) -> None:
    found = read_positions(csv_of(tmp_path / "p.csv", "ra,dec\n00:00:01,-00:00:30\n,\n25:61:00,1\n"))
    np.testing.assert_allclose(found.places["dec"], [-30 / 3600, np.nan, 1.0])
    np.testing.assert_allclose(found.places["ra"], [15 / 3600, np.nan, np.nan])


def test_text_in_degrees_says_so_by_its_unit(tmp_path: Path) -> None:
    table = Table({"ra": ["30:00:00"], "dec": ["-45:00:00"]}, units={"ra": "deg", "dec": "deg"})
    assert read_positions(written(tmp_path / "p.ecsv", table)).places["ra"] == pytest.approx([30.0])


def test_text_that_is_no_angle_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorruptDataError, match=r"has no angle \(the first row: 'north'\) \[dec of .*p\.csv\]"):
        read_positions(csv_of(tmp_path / "p.csv", "ra,dec\n30,north\n"))


@pytest.mark.parametrize(
    ("names", "origin", "first"),
    [
        ("x y", None, 10.0),
        ("X Y", None, 10.0),
        ("X_IMAGE Y_IMAGE", None, 9.0),
        ("XWIN_IMAGE YWIN_IMAGE", None, 9.0),
        ("x_image y_image", 0, 10.0),
        ("x y", 1, 9.0),
        ("xcentroid ycentroid", None, 10.0),
    ],
)
def test_pixels_count_from_0_within_whatever_the_table_counts_from(
    tmp_path: Path, names: str, origin: int | None, first: float
) -> None:
    """Case 07."""
    path = written(tmp_path / "p.fits", Table([[10.0, 20.5], [3.0, 4.0]], names=names.split()))
    found = read_positions(path, origin=origin)
    assert found.places["x"].tolist() == [first, first + 10.5]
    assert found.on_field(a_field())[0].tolist() == [first, first + 10.5]


def test_which_positions_are_used_where_there_are_several(tmp_path: Path) -> None:
    names = ["X_IMAGE", "XWIN_IMAGE", "Y_IMAGE", "YWIN_IMAGE", "RA", "DEC"]
    path = written(tmp_path / "p.fits", Table([[float(k)] for k in range(6)], names=names))
    assert read_positions(path).read_from == ("RA", "DEC")
    assert read_positions(path, sky=False).places == {"x": [0.0], "y": [2.0]}
    assert read_positions(path, origin=0).places == {"x": [1.0], "y": [3.0]}
    with pytest.raises(MismatchError, match="origin is 2"):
        read_positions(path, origin=2)
    both = csv_of(tmp_path / "p.csv", "RA,Ra,dec\n1,2,3\n")
    with pytest.raises(MismatchError, match=r"has the columns RA and Ra .*rename the one that is not ra"):
        read_positions(both)


@pytest.mark.parametrize(
    "text",
    [
        "id,ra,dec\n{0},{1},{2}\n{3},{4},{5}\n{6},{7},{8}\n",
        "\ufeffid,ra,dec\r\n{0},{1},{2}\r\n{3},{4},{5}\r\n{6},{7},{8}\r\n",
        "# made by hand\n#\nid;ra;dec\n{0};{1};{2}\n# half time\n\n{3};{4};{5}\n{6};{7};{8}",
        "id\tra\tdec\n{0}\t{1}\t{2}\n{3}\t{4}\t{5}\n{6}\t{7}\t{8}\n",
        "id ra dec\n{0} {1} {2}\n  {3}   {4}\t{5}  \n{6} {7} {8}\n",
        "# id ra dec\n{0} {1} {2}\n{3} {4} {5}\n{6} {7} {8}\n",
        "#id,ra,dec\n{0},{1},{2}\n{3},{4},{5}\n{6},{7},{8}\n",
        '"id","ra","dec"\n"{0}","{1}","{2}"\n"{3}","{4}","{5}"\n"{6}","{7}","{8}"\n',
        "id,ra,dec,\n{0},{1},{2},\n{3},{4},{5},\n{6},{7},{8},\n",
        "# VizieR\nid\tra\tdec\n\tdeg\tdeg\n---\t------\t------\n{0}\t{1}\t{2}\n{3}\t{4}\t{5}\n{6}\t{7}\t{8}\n",
        "#   1 id     Number\n#   2 ra     Right ascension [deg]\n#   3 dec    Declination [deg]\n"
        "{0} {1} {2}\n{3} {4} {5}\n{6} {7} {8}\n",
    ],
)
@pytest.mark.parametrize(("name", "encoding"), [("p.csv", "utf-8"), ("P.TXT", "utf-16"), ("p", "utf-8")])
def test_text_of_every_kind(tmp_path: Path, text: str, name: str, encoding: str) -> None:
    """Case 12 is the second."""
    filled = text.format(*(value for row in ROWS for value in row))
    found = on_sky(csv_of(tmp_path / name, filled, encoding))
    assert found.others["id"].tolist() == IDS
    assert list(found.others.columns) == ["id"]


def test_text_of_a_spreadsheet_with_decimal_commas_and_latin_letters(tmp_path: Path) -> None:
    text = "id;ra;dec;Größe;Zahl\n1;30,5;-45,25;a,b;1,5\n2;31;-44;klein;2\n"
    found = read_positions(csv_of(tmp_path / "p.csv", text, "latin-1"))
    assert found.places["ra"].tolist() == [30.5, 31.0]
    assert found.places["dec"].tolist() == [-45.25, -44.0]
    assert found.others["Größe"].tolist() == ["a,b", "klein"]
    assert found.others["Zahl"].tolist() == [1.5, 2.0]


def test_the_ipac_format_of_irsa(tmp_path: Path) -> None:
    stream = io.StringIO()
    Table({"id": [1, 2, 3], "ra": RA, "dec": DEC}).write(stream, format="ascii.ipac")
    on_sky(csv_of(tmp_path / "p.tbl", stream.getvalue()))


def test_gzipped_tables(tmp_path: Path) -> None:
    for name in ("a.csv", "a.fits", "a.vot"):
        table, path = Table({"id": [1, 2, 3], "ra": RA, "dec": DEC}), tmp_path / name
        table.write(path, **({"format": "votable"} if name.endswith("vot") else {}))
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        assert on_sky(tmp_path / f"{name}.gz").others["id"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["007", "012"], ["007", "012"]),
        (["12345678901234567890123", "1"], ["12345678901234567890123", "1"]),
        ([str(2**60 + 1), "-3"], [2**60 + 1, -3]),
        (["a", "a"], ["a", "a"]),
        (["#3", "J1234+56"], ["#3", "J1234+56"]),
        (["1", ""], [1, pd.NA]),
        (["", ""], ["", ""]),
        (["A 1", "nan"], ["A 1", "nan"]),
    ],
)
def test_identifiers_of_text_stay_what_they_are(tmp_path: Path, cells: list[str], expected: list[object]) -> None:
    lines = "".join(f"{k},1.5,{cell}\n" for k, cell in enumerate(cells))
    found = read_positions(csv_of(tmp_path / "p.csv", f"x,y,id\n{lines}")).others["id"]
    assert found.tolist() == expected


def test_identifiers_of_files_stay_what_they_are(tmp_path: Path) -> None:
    big = np.array(IDS, dtype=">i8")
    masked = np.ma.MaskedArray([1, 2, 3], mask=[False, True, False])
    for k, (given, expected) in enumerate(
        (
            (big, IDS),
            (masked, [1, pd.NA, 3]),
            (["a ", "bb", "bb"], ["a", "bb", "bb"]),
            (np.ma.MaskedArray(["a", "b", "c"], mask=[False, True, False]), ["a", "", "c"]),
            (np.array([2**63 + 5, 1, 2], dtype=np.uint64), [2**63 + 5, 1, 2]),
        )
    ):
        for ending in ("fits", "parquet", "vot", "ecsv"):
            if ending == "vot" and k >= 3:
                continue  # VOTable has no such integers, and astropy writes text without its mask
            path, table = tmp_path / f"{k}.{ending}", Table({"id": given, "ra": RA, "dec": DEC})
            if ending == "vot":
                table.write(path, format="votable", tabledata_format="binary2")
            else:
                table.write(path)
            found = on_sky(path).others["id"]
            assert [value.rstrip() if isinstance(value, str) else value for value in found] == expected, ending
            assert not isinstance(found.dtype, np.dtype) or found.dtype.byteorder in "=|"


def test_identifiers_of_any_kind_of_parquet(tmp_path: Path) -> None:
    for given, expected in (
        ([b"\xffa", b"b", None], ["\\xffa", "b", ""]),
        ([Decimal("1.50"), None, Decimal(2)], ["1.50", "", "2.00"]),
        (pd.Categorical(["a", None, "c"]), ["a", "", "c"]),
        (pd.array([2**60 + 1, None, 3], "Int64"), [2**60 + 1, pd.NA, 3]),
        ([True, False, None], [True, False, pd.NA]),
    ):
        pd.DataFrame({"id": given, "x": [1.0, 2.0, 3.0], "y": [1, 2, 3]}).to_parquet(tmp_path / "p.parquet")
        assert read_positions(tmp_path / "p.parquet").others["id"].tolist() == expected


def test_any_index_of_pandas(tmp_path: Path) -> None:
    """Case 11."""
    given = pd.DataFrame({"id": [7, 3, 9], "ra": RA, "dec": DEC})
    for index in (["id"], ["ra", "dec"], ["id", "ra", "dec"], []):
        (given.set_index(index) if index else given).to_parquet(tmp_path / "p.parquet")
        assert on_sky(tmp_path / "p.parquet").others["id"].tolist() == [7, 3, 9]
    given.drop(columns="id").rename_axis("id").to_parquet(tmp_path / "counted.parquet")
    assert on_sky(tmp_path / "counted.parquet").others["id"].tolist() == [0, 1, 2]
    given.set_index(pd.Index(["a", "b", "c"])).to_parquet(tmp_path / "nameless.parquet")
    assert list(on_sky(tmp_path / "nameless.parquet").others) == ["id"]
    given.set_index("id").set_index(pd.Index([1, 2, 3], name="tile"), append=True).to_parquet(tmp_path / "two.parquet")
    assert sorted(on_sky(tmp_path / "two.parquet").others) == ["id", "tile"]
    given.assign(again=given["id"]).set_index("again", drop=False).to_parquet(tmp_path / "kept.parquet")
    assert list(on_sky(tmp_path / "kept.parquet").others) == ["id", "again"]


def test_every_column_is_kept_with_its_unit(tmp_path: Path) -> None:
    table = QTable(
        {
            "id": [1, 2, 3],
            "FLUX_AUTO": np.array([1.5, np.nan, 3.0], dtype=">f4"),
            "n": np.array([1, 2, 3], dtype=">i2"),
            "good": [True, False, True],
            "seen": Time([60000.0, 60001.0, 60002.0], format="mjd"),
            "x": [1.0, 2.0, 3.0],
            "place": SkyCoord(RA, DEC, unit="deg"),
        },
        units={"FLUX_AUTO": "nJy"},
    )
    for ending in ("fits", "ecsv"):
        found = on_sky(written(tmp_path / f"p.{ending}", table), origin=None)
        frame = found.others
        np.testing.assert_allclose(frame["FLUX_AUTO"], [1.5, np.nan, 3.0])
        assert frame["n"].tolist() == [1, 2, 3]
        assert frame["good"].tolist() == [True, False, True]
        assert frame["good"].dtype == bool
        assert found.units["FLUX_AUTO"] == "nJy"
        assert frame["x"].tolist() == [1.0, 2.0, 3.0]
        assert all(values.dtype.byteorder in "=|" for values in (frame[name].to_numpy() for name in frame))


def test_vectors_of_fits_are_named_as_left_out(tmp_path: Path) -> None:
    columns = [
        fits.Column("RA", "D", "deg", array=RA),
        fits.Column("DEC", "D", "deg", array=DEC),
        fits.Column("FLUX_APER", "12E", array=np.zeros((3, 12))),
        fits.Column("VIGNET", "6E", dim="(2,3)", array=np.zeros((3, 3, 2))),
        fits.Column("PIXELS", "PJ()", array=np.array([[1], [1, 2], [1, 2, 3]], dtype=object)),
        fits.Column("PHASE", "C", array=np.zeros(3, np.complex64)),
        fits.Column("MAG", "E", array=np.arange(3.0)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "p.fits")
    found = on_sky(tmp_path / "p.fits")
    assert list(found.others) == ["MAG"]
    assert list(found.left_out) == ["FLUX_APER", "VIGNET", "PIXELS", "PHASE"]
    assert found.left_out["VIGNET"] == "(3, 2) values a row"


def test_vectors_of_other_formats_are_named_as_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ra": RA, "dec": DEC, "a": [[1, 2], [3], None], "b": [{"k": 1}] * 3, "c": [1, 2, 3]})
    frame.to_parquet(tmp_path / "p.parquet")
    Table({"ra": RA, "dec": DEC, "a": np.zeros((3, 2)), "c": [1, 2, 3]}).write(tmp_path / "p.vot", format="votable")
    assert (list(on_sky(tmp_path / "p.parquet").others), list(on_sky(tmp_path / "p.vot").others)) == (["c"], ["c"])
    assert list(read_positions(tmp_path / "p.parquet").left_out) == ["a", "b"]


def test_an_extension_of_fits_is_named_or_found(tmp_path: Path) -> None:
    def table(name: str, **columns: object) -> fits.BinTableHDU:
        return fits.BinTableHDU(Table(columns), name=name)

    path = tmp_path / "sources.cat"
    hdus = [
        fits.PrimaryHDU(np.zeros((3, 3))),
        table("LDAC_IMHEAD", **{"Field Header Card": ["SIMPLE"]}),
        table("LDAC_OBJECTS", NUMBER=[1, 2, 3], ALPHA_J2000=RA, DELTA_J2000=DEC),
        table("STARS", ra=[5.0], dec=[6.0]),
    ]
    fits.HDUList(hdus).writeto(path)
    assert on_sky(path).others["NUMBER"].tolist() == [1, 2, 3]
    for extension in ("STARS", "3", "stars"):
        assert read_positions(f"{path}[{extension}]").places == {"ra": [5.0], "dec": [6.0]}
    for extension, words in (("0", "extension 0 is no table"), ("NONE", "NONE"), ("1", "rows of Field Header Card")):
        with pytest.raises((CorruptDataError, MissingDataError), match=words):
            read_positions(f"{path}[{extension}]")
    with pytest.raises(CorruptDataError, match="is no FITS file and has no extension 1"):
        read_positions(f"{csv_of(tmp_path / 'p.csv', 'ra,dec')}[1]")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bare.txt", b"10.5 3\n30 40\n", "has 2 rows of col1, col2"),
        ("none.csv", b"id,ra,dec\n", "has 0 rows of id, ra, dec"),
        ("empty.csv", b"", "has 0 rows of"),
        ("other.csv", b"a,b\n1,2\n", r"has 1 rows of a, b .*columns ra and dec \[deg\], or x and y"),
        ("short.csv", b"id,ra,dec\n1,2,3\n\n4,5\n", "line 4 has 2 values, 3 names"),
        ("prose.txt", b"dear reader\nhow do you do\n", "line 2 has 4 values, 2 names"),
        ("twice.csv", b"ra,dec,ra\n1,2,3\n", "has the column ra twice"),
        ("text.fits", b"no image", "is not a readable table"),
        ("cut.parquet", b"PAR1", "is not a readable table"),
        ("array.npy", b"\x93NUMPY\x00\x01", "neither text nor a known format"),
        ("wide.csv", ",".join(f"c{k}" for k in range(300)).encode() + b"\n" + b"1," * 300, "c19 and 280 others"),
    ],
)
def test_what_is_no_table_of_positions_is_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((CorruptDataError, MissingDataError), match=words) as caught:
        read_positions(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)


def test_positions_that_are_lists_are_one_line(tmp_path: Path) -> None:
    pd.DataFrame({"x": [[1.0, 2.0], [3.0]], "y": [1.0, 2.0]}).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(CorruptDataError, match=r"column x does not have one value per row .*lists\.parquet"):
        read_positions(tmp_path / "lists.parquet")
    with pytest.raises(MissingDataError, match=r"is not a file .*nowhere\.csv"):
        read_positions(tmp_path / "nowhere.csv")


def sip() -> WCS:
    """Whose scale varies by 7 % to the corners."""
    wcs = tan_wcs()
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    header = wcs.to_header()
    header.update({"A_ORDER": 3, "B_ORDER": 3, "A_3_0": 1e-6, "B_0_3": 1e-6, "A_1_2": 1e-6, "B_2_1": 1e-6})
    for old, new in (("PC1_1", "CD1_1"), ("PC2_2", "CD2_2")):
        header[new] = wcs.wcs.cd[0, 0] if old == "PC1_1" else wcs.wcs.cd[1, 1]
        del header[old]
    for name in ("CDELT1", "CDELT2"):
        header.pop(name, None)
    return WCS(header)


def gs_fits() -> galsim.BaseWCS:
    """GalSim's own reader, which projects antipodes too."""
    header = galsim.FitsHeader()
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": -45.0, "CRPIX1": 150.5}
    for name, value in {**cards, "CRPIX2": 100.5, "CD1_1": -0.2 / 3600, "CD2_2": 0.2 / 3600}.items():
        header[name] = value
    header["CD1_2"] = header["CD2_1"] = 0.0
    return galsim.GSFitsWCS(header=header)


@pytest.mark.parametrize(
    "wcs",
    [lambda: galsim.AstropyWCS(wcs=tan_wcs()), lambda: galsim.AstropyWCS(wcs=sip()), gs_fits],
    ids=["tan", "sip", "galsim"],
)
def test_places_on_a_field_are_those_of_its_wcs(wcs: Callable[[], galsim.BaseWCS]) -> None:
    field = a_field(wcs())
    x, y = np.array([0.0, 299.0, 149.5, 20.25, 340.0]), np.array([0.0, 199.0, 99.5, 180.75, 100.0])
    ra, dec = field.sky(x, y)
    # Its antipode, another part of the sky, and three that are none.
    ra = np.concatenate([ra - 360, [210.0, 33.0, np.nan, 30.0, np.inf]])
    dec = np.concatenate([dec, [45.0, -45.0, -45.0, 95.0, -45.0]])
    found = Positions({"ra": ra, "dec": dec}, pd.DataFrame(index=range(len(ra)))).on_field(field)
    np.testing.assert_allclose(found[0], [*x, *[np.nan] * 5], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[1], [*y, *[np.nan] * 5], rtol=0, atol=1e-3)


def test_one_position_that_no_wcs_inverts_does_not_take_the_others_with_it() -> None:
    class Fragile(galsim.AstropyWCS):
        def _xy(self, ra: np.ndarray, dec: np.ndarray, color: object = None) -> tuple[np.ndarray, np.ndarray]:
            if np.any(np.abs(np.degrees(ra) - 30.0) < 1e-6):
                raise galsim.GalSimError("no solution")
            return super()._xy(ra, dec, color)

    field = a_field(Fragile(wcs=tan_wcs()))
    ra, dec = field.sky(np.array([10.0, 60.0]), np.array([20.0, 30.0]))
    places = {"ra": np.array([ra[0], 30.0, ra[1]]), "dec": np.array([dec[0], -45.0, dec[1]])}
    x, _ = Positions(places, pd.DataFrame(index=range(3))).on_field(field)
    np.testing.assert_allclose(x, [10.0, np.nan, 60.0], atol=1e-6)


def test_what_is_off_the_image_is_counted(tmp_path: Path) -> None:
    lines: list[str] = []
    text = "x,y\n-0.6,5\n-0.5,5\n299.4,5\n299.5,5\n5,199.4\n5,200\n,5\n"
    inside = read_positions(csv_of(tmp_path / "p.csv", text)).covered(a_field(), lines.append)
    assert inside.tolist() == [False, True, True, False, True, False, False]
    assert len(lines) == 1
    assert lines[0].startswith("3 of 7 positions are off the image (300 × 200 pixels), 1 rows have no position: ")
    lines.clear()
    assert read_positions(csv_of(tmp_path / "q.csv", "x,y\n5,5\n")).covered(a_field(), lines.append).all()
    assert not lines


@pytest.mark.parametrize(
    ("ra", "dec", "words"),
    [
        (np.radians(RA), np.radians(DEC), r"as radians \(give the column's unit\), 3 would"),
        (RA / 15, DEC, r"as a right ascension in hours \(give the column's unit\), 3 would"),
        (RA + 100, DEC, "give the positions of this part of the sky"),
        (RA * np.nan, DEC, "ra without a value"),
    ],
)
def test_positions_none_of_which_is_on_the_image_are_one_line(
    tmp_path: Path, ra: np.ndarray, dec: np.ndarray, words: str
) -> None:
    """Case 13; sexagesimal text, the fourth there, is read."""
    path = written(tmp_path / "p.fits", Table({"ra": ra, "dec": dec}))
    with pytest.raises(
        MismatchError, match=r"none of 3 positions lies on the image \(300 × 200 pixels\): ra "
    ) as caught:
        read_positions(path).covered(a_field(), pytest.fail)
    assert re.search(words, str(caught.value))


def test_placed_positions_keep_the_other_columns_and_say_what_is_left_out() -> None:
    x, y = a_field().sky(np.array([10.0, 20.0, 1000.0]), np.array([5.0, 6.0, 7.0]))
    table = QTable({"ALPHA_J2000": x, "DELTA_J2000": y, "x": [7, 8, 9], "flux": [1.0, 2.0, 3.0], "v": np.zeros((3, 4))})
    table["flux"].unit = "nJy"
    lines: list[str] = []
    found = positions_of(table, where="sources").placed(a_field(), lines.append)
    assert list(found) == ["x", "y", "given_x", "flux"]
    np.testing.assert_allclose(found["x"], [10.0, 20.0, 1000.0 if np.isfinite(found["x"][2]) else np.nan], atol=1e-3)
    assert found["given_x"].tolist() == [7, 8, 9]
    assert found.attrs["units"] == {"flux": "nJy"}
    assert [line[:30] for line in lines] == ["1 of 3 positions are off the i", "columns that do not have one v"]
    assert "v ((4,) values a row) [sources]" in lines[1]


@pytest.mark.parametrize("origin", [None, 1])
def test_tables_in_memory_are_read_as_files_are(origin: int | None) -> None:
    frame = pd.DataFrame({"id": [7, 8], "X_IMAGE": [1.0, 2.0], "Y_IMAGE": [3.0, 4.0]}).set_index("id")
    found = positions_of(frame, origin=origin)
    assert found.places["x"].tolist() == [0.0, 1.0]
    assert found.others["id"].tolist() == [7, 8]
    with pytest.raises(MissingDataError, match=r"has 2 rows of a \[table\]"):
        positions_of(pd.DataFrame({"a": [1, 2]}))


def test_positions_on_the_sky_need_a_celestial_field(tmp_path: Path) -> None:
    path = written(tmp_path / "p.fits", Table({"RAJ2000": RA, "DEJ2000": DEC}))
    field = a_field(galsim.PixelScale(0.2))
    with pytest.raises(MismatchError, match="has RAJ2000 and DEJ2000, and the images have no celestial"):
        read_positions(path).on_field(field)
    with pytest.raises(MissingDataError, match="the images have no celestial coordinates"):
        read_positions(path, sky=False)


def test_columns_by_name_structured_arrays_and_paths_are_tables_too(tmp_path: Path) -> None:
    columns = {"x": [1.5, 2.5], "y": [3.0, 4.0], "name": ["a", "b"]}
    structured = np.array([(1.5, 3.0, "a"), (2.5, 4.0, "b")], [("x", float), ("y", float), ("name", "U1")])
    path = written(tmp_path / "p.fits", Table(columns))
    for table in (columns, structured, path, str(path)):
        found = positions_of(table)
        assert found.places["x"].tolist() == [1.5, 2.5]
        assert found.others["name"].tolist() == ["a", "b"]
    for wrong, said in (
        (np.array([[1.5, 3.0]]), "ndarray without names of columns"),
        ({"x": [1.0, 2.0], "y": [1.0, 2.0, 3.0]}, "columns of equal length"),
    ):
        with pytest.raises(MismatchError, match=said):
            positions_of(wrong)
    with pytest.raises(MissingDataError, match=r"has 0 rows of x, y \[table\]: give one row per galaxy$"):
        positions_of({"x": [], "y": []}, sky=False)
