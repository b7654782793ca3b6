"""Simple Image Access 1.0 (IVOA Recommendation 2009-11-24) and the cutouts that its answers point to.

Columns bear Astro Data Lab's names and VOX UCDs, and its habits: image, weight map and mask stand side by side,
exposure time and zero point are strings, wavelengths are in Å under the label of metres, the access URL has position
and size baked in and carries a tile's `+` as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deblend_assets.vo.server.holdings import EXTENSIONS, Holding, Holdings
from deblend_assets.vo.server.parameters import parameters, position_and_size
from deblend_assets.vo.server.votable import MEDIA_TYPE, Field, error_votable, votable

COLLECTION = "des_dr1"
_IMAGE_TYPE = "image/fits"
_TEXT, _NUMBERS = ("char", "*"), ("double", "*")
_FIELDS = [
    Field("obs_title", *_TEXT, ucd="VOX:Image_Title"),
    Field("access_url", *_TEXT, ucd="VOX:Image_AccessReference"),
    Field("access_format", *_TEXT, ucd="VOX:Image_Format"),
    Field("access_estsize", "long", unit="byte", ucd="VOX:Image_FileSize", description="of the whole image"),
    Field("s_ra", "double", unit="deg", ucd="POS_EQ_RA_MAIN", description="centre of the whole image"),
    Field("s_dec", "double", unit="deg", ucd="POS_EQ_DEC_MAIN"),
    Field("naxes", "int", ucd="VOX:Image_Naxes"),
    Field("naxis", "int", "*", ucd="VOX:Image_Naxis"),
    Field("scale", *_NUMBERS, unit="deg", ucd="VOX:Image_Scale"),
    Field("instrument_name", *_TEXT, ucd="INST_ID"),
    Field("obs_bandpass", *_TEXT, ucd="VOX:BandPass_ID"),
    Field("bandpass_refvalue", "double", unit="m", ucd="VOX:BandPass_RefValue"),
    Field("bandpass_lolimit", "double", unit="m", ucd="VOX:BandPass_LoLimit"),
    Field("bandpass_hilimit", "double", unit="m", ucd="VOX:BandPass_HiLimit"),
    Field("exptime", *_TEXT, description="exposure time [s]"),
    Field("magzero", *_TEXT, description="zero point [mag]"),
    Field("proctype", *_TEXT, description="Stack: a coadd; Resampled: one epoch"),
    Field("prodtype", *_TEXT, description="image, weight (inverse variance), dqmask or psf (a PSFEx model)"),
    Field("siaRef", *_TEXT, description="the file"),
    Field("tile", *_TEXT, description="the tile"),
]


def routes(holdings: Holdings) -> list[Route]:
    """The image service and the cutouts."""

    async def search(request: Request) -> Response:
        # SIA 1 answers a wrong request with status 200 and says in the VOTable what is wrong (section 4.4).
        given = await parameters(request)
        try:
            body = votable(_FIELDS, list(_rows(holdings, given, f"{request.base_url}cutout")))
        except ValueError as error:
            body = error_votable(str(error))
        return Response(body, media_type=MEDIA_TYPE)

    async def cutout(request: Request) -> Response:
        given = await parameters(request)
        # Names of tiles contain a plus sign, which decoding turns into a space.
        holding = holdings.files.get(given.get("SIAREF", "").replace(" ", "+"))
        if holding is None or given.get("COL", COLLECTION) != COLLECTION:
            raise HTTPException(404, "there is no such file")
        extension = given.get("EXTN", "1")
        if extension not in map(str, EXTENSIONS):
            raise HTTPException(400, f"extn is one of {', '.join(map(str, EXTENSIONS))}")
        try:
            region = position_and_size(given) if "POS" in given else None
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        data = await asyncio.to_thread(holdings.cutout, holding, int(extension), region)
        if data is None:
            raise HTTPException(404, "nothing of that region lies on the image")
        return Response(data, media_type="application/fits")

    return [Route(f"/sia/{COLLECTION}", search, methods=["GET", "POST"]), Route("/cutout", cutout, methods=["GET"])]


def _rows(holdings: Holdings, given: dict[str, str], url: str) -> Iterator[list[Any]]:
    """One row for each product that overlaps the region.

    Raises:
        ValueError: a parameter is missing or wrong.
    """
    formats = {text.strip().lower() for text in given.get("FORMAT", "ALL").split(",")}
    if formats == {"metadata"}:
        return
    region = position_and_size(given)
    if given.get("INTERSECT", "OVERLAPS").upper() != "OVERLAPS":
        raise ValueError("INTERSECT is OVERLAPS only")
    if not formats & {"", "all", "fits", _IMAGE_TYPE, "application/fits"}:
        return
    # The plus sign of a file's name stays: Data Lab's cutout service fails on %2B.
    baked = f"POS={region[0]},{region[1]}&SIZE={region[2]},{region[3]}"
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for holding in holdings.files.values():
        if holding.tile not in boxes:
            boxes[holding.tile] = holdings.box(holding.tile, *region)
        left, right, bottom, top = boxes[holding.tile]
        height, width = holdings.image(holding.tile, holding.band).pixels.shape
        if right < -0.5 or left > width - 0.5 or top < -0.5 or bottom > height - 0.5:
            continue
        for extension in EXTENSIONS if holding.run.share == 1 else (1,):
            reference = quote(holding.reference, safe="+")
            link = f"{url}?col={COLLECTION}&siaRef={reference}&extn={extension}&{baked}"
            yield _row(holdings, holding, extension, link)


def _row(holdings: Holdings, holding: Holding, extension: int, link: str) -> list[Any]:
    header, pixels = holdings.image(holding.tile, holding.band)
    height, width = pixels.shape
    name = header["FILTER"]
    centre, span = (float(part) for part in name.split()[-2:])  # Å
    product = EXTENSIONS[extension]
    return [
        f"{holding.tile} {holding.band} {holding.run.proctype} {product} ({holding.run.name}), simulated tile",
        link,
        _IMAGE_TYPE,
        pixels.nbytes,
        header["CRVAL1"],
        header["CRVAL2"],
        2,
        [width, height],
        [header["CD1_1"], header["CD2_2"]],
        "DECam",
        name,
        centre,
        centre - span / 2,
        centre + span / 2,
        f"{header['EXPTIME'] * holding.run.share:g}",
        f"{header['MAGZERO']:g}",
        holding.run.proctype,
        product,
        holding.reference,
        holding.tile,
    ]
