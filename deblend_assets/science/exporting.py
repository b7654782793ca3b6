"""A trained model as a `torch.export` program: one file that torch alone can run, electrons in, electrons out."""

from __future__ import annotations

import copy
import io

import torch

from deblend_assets.science.measuring import Model

# The example that fixes ranks and types; two stamps, since a dimension of one would be taken for a constant.
_EXAMPLE = 2
INPUTS = {
    "electrons": "(N, band, y, x) float32 [electron of the whole exposure]; any value where a band is absent",
    "present": "(N, band) bool, whether a band is there",
}
OUTPUTS = {
    "deblended": "(N, band, y, x) float32 [electron], the target alone",
    "estimates": "(N, component) float32: e observed distortion (a^2-b^2)/(a^2+b^2) in the label band, g intrinsic "
    "shear-type (a-b)/(a+b); pixel frame, x with the column, y with the row; not calibrated for shear",
    "errors": "(N, component) float32, expected standard error of each estimate",
}
USE = "program = torch.export.load(path).module(); deblended, estimates, errors = program(electrons, present)"


def export(model: Model) -> bytes:
    """The program, for the CPU and any number of stamps (`INPUTS`, `OUTPUTS`); Eq. 9 and its inverse are in it."""
    # The file's format knows plain layouts only.
    network = copy.deepcopy(model.network).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = (
        torch.zeros(_EXAMPLE, len(model.bands), model.pixels, model.pixels),
        torch.ones(_EXAMPLE, len(model.bands), dtype=torch.bool),
    )
    stamps = torch.export.Dim("stamps", min=1)
    program = torch.export.export(network, example, dynamic_shapes=({0: stamps}, {0: stamps}))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()
