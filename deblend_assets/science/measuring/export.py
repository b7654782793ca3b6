"""Exports a trained model as a `torch.export` program: one file that needs only torch; electrons in and out."""

from __future__ import annotations

import copy
import io

import torch
from torch import Tensor, nn

from deblend_assets.science.deblender.network import Deblender
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.shapes.model import ShapePosterior

# Stamps of the example input: two, since torch.export specialises a dimension of one to a constant.
_EXAMPLE = 2
INPUTS = {
    "electrons": "(N, band, y, x) float32 [electron of the whole exposure]; any value in an absent band",
    "present": "(N, band) bool, whether a band is present",
}
OUTPUTS = {
    "deblended": "(N, band, y, x) float32 [electron], the target alone",
    "estimates": "(N, 6) float32, posterior means: g1, g2 intrinsic shear-type (a-b)/(a+b); e1, e2 observed distortion "
    "(a^2-b^2)/(a^2+b^2) in the label band; ln half-light radius before PSF [arcsec]; ln flux in the label band "
    "[electron]; pixel frame, x with the column, y with the row; not calibrated for shear",
    "errors": "(N, 6) float32, posterior standard deviations",
}
USE = "program = torch.export.load(path).module(); deblended, estimates, errors = program(electrons, present)"


class _Program(nn.Module):
    """The exported module: the deblender's stamps and the posterior's means and errors."""

    def __init__(self, deblender: Deblender, shapes: ShapePosterior) -> None:
        super().__init__()
        self.deblender, self.shapes = deblender, shapes

    def forward(self, electrons: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deblended, _ = self.deblender.deblended(electrons, present)
        return deblended, *self.shapes(electrons, present)


def export(model: Model) -> bytes:
    """Serialise the program for the CPU and any number of stamps (`INPUTS`, `OUTPUTS`), with Eq. 9 and its inverse."""
    # The file's format supports contiguous layouts only.
    network = _Program(copy.deepcopy(model.network), copy.deepcopy(model.shapes)).cpu()
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = (
        torch.zeros(_EXAMPLE, *model.frame.shape),
        torch.ones(_EXAMPLE, len(model.frame.bands), dtype=torch.bool),
    )
    # Run once before tracing: else `symmetries` would cache tracing tensors.
    network(*example)
    stamps = torch.export.Dim("stamps", min=1)
    program = torch.export.export(network, example, dynamic_shapes=({0: stamps}, {0: stamps}))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()
