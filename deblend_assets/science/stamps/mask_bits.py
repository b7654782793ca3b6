"""Why a pixel is lost: the bits of every mask image."""

from __future__ import annotations

from enum import IntFlag


class MaskBit(IntFlag):
    """Why a pixel is lost; bits of a mask image (uint16)."""

    BAD_COLUMN = 1
    SATURATED = 2
    BLEED = 4
    COSMIC_RAY = 8
    TRAIL = 16
    CHIP_GAP = 32
    NO_DATA = 64
