"""A field is another one when any of its files changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblend_assets.steps.fields.inputs import checksums, content_of, files_of, inputs_of
from deblend_assets.stores.field_files import field_file_of_arguments

NAMES = ("image.fits", "weight.fits", "mask.fits", "psf.fits", "stars.reg")


@pytest.mark.parametrize("changed", NAMES)
def test_any_changed_file_makes_another_field(tmp_path: Path, changed: str) -> None:
    image, weight, mask, psf, regions = (str(tmp_path / name) for name in NAMES)
    for name in NAMES:
        (tmp_path / name).write_text(name)
    settings = field_file_of_arguments(
        {"r": f"{image}[0]"}, weights={"r": weight}, bmasks={"r": mask}, psfs={"r": {"path": psf}}, regions=[regions]
    )
    assert {path.name for path in files_of(settings)} == set(NAMES)
    before = inputs_of(settings)
    assert inputs_of(settings) == before
    os.utime(tmp_path / changed, ns=(1, 1))
    assert inputs_of(settings) != before
    sums = checksums(files_of(settings), {}, print)
    (tmp_path / changed).write_text("other")
    assert content_of(settings, checksums(files_of(settings), {}, print)) != content_of(settings, sums)
