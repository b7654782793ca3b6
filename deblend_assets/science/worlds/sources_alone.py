"""What is true of each source of a field alone: its light at the detections, its S/N, its moments, its blending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deblend_assets.science.detection.light import light_of_pieces, true_snr
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.stamps.source_light import SourceLight

Floats = NDArray[np.float64]


class SourcesAlone(Protocol):
    """Answers about the S sources of a field."""

    def light_within(self, x: Floats, y: Floats, radius: float, weights: Floats) -> csr_array:
        """Light of each source within a radius of each detection, (D, S); see `light_of_pieces`.

        Args:
            x, y: of the detections, (D,) [pixel].
            radius: [pixel].
            weights: of the bands in the detection image, (band,).
        """
        ...

    def snr(self, inverse_variance: NDArray[np.float32], correlations: Sequence[Floats | None]) -> Floats:
        """True S/N of each source over all bands, (S,); see `true_snr`."""
        ...

    def moments(self, source: int, band: int, guess: float) -> tuple[float, float, float]:
        """Adaptive moments e1, e2, sigma [pixel] of a source behind the PSF of a band; NaN without convergence.

        Args:
            source, band: their numbers.
            guess: of sigma [pixel].
        """
        ...

    def overlap(self, source: int) -> tuple[Floats, Floats]:
        """Sums of a source's light squared, and times that of all others, over the field's pixels; (band,) each."""
        ...


@dataclass(frozen=True, eq=False)
class RenderedAlone:
    """Answers from the rendered light of each source.

    Attributes:
        pieces: light of each source alone, S of them.
        x, y: positions of the sources on the field, (S,) [pixel].
        light: of all sources, (band, y, x) [image unit].
    """

    pieces: Sequence[SourceLight]
    x: Floats
    y: Floats
    light: NDArray[np.float32]

    @classmethod
    def of(cls, field: Field) -> RenderedAlone:
        """Render each source of a field; the field's light is their sum, and is not rendered itself."""
        sources, shape = field.sources, field.sky.shape
        pieces = field.renderer.pieces_of_light(sources.bodies, sources.x, sources.y)
        light = np.zeros((len(field.sky.names), *shape), np.float32)
        for piece in pieces:
            part = on_field(piece, *shape)
            _, ny, nx = part.light.shape
            light[:, part.y : part.y + ny, part.x : part.x + nx] += part.light
        return cls(pieces, sources.x, sources.y, light)

    def light_within(self, x: Floats, y: Floats, radius: float, weights: Floats) -> csr_array:
        """See `SourcesAlone`."""
        return light_of_pieces(x, y, radius, self.pieces, weights)

    def snr(self, inverse_variance: NDArray[np.float32], correlations: Sequence[Floats | None]) -> Floats:
        """See `SourcesAlone`."""
        return np.array([true_snr(piece, inverse_variance, correlations) for piece in self.pieces])

    def band_snr(
        self, source: int, inverse_variance: NDArray[np.float32], correlations: Sequence[Floats | None]
    ) -> Floats:
        """True S/N of one source in each band alone, (band,); see `true_snr`."""
        piece = self.pieces[source]
        return np.array(
            [
                true_snr(SourceLight(piece.light[[b]], piece.x, piece.y), inverse_variance[[b]], [lags])
                for b, lags in enumerate(correlations)
            ]
        )

    def moments(self, source: int, band: int, guess: float) -> tuple[float, float, float]:
        """See `SourcesAlone`."""
        piece = self.pieces[source]
        x, y = np.array([self.x[source] - piece.x]), np.array([self.y[source] - piece.y])
        seen = adaptive_moments(piece.light[[band]], x, y, guess)
        return float(seen.e1[0]), float(seen.e2[0]), float(seen.sigma[0])

    def overlap(self, source: int) -> tuple[Floats, Floats]:
        """See `SourcesAlone`."""
        piece, (_, height, width) = self.pieces[source], self.light.shape
        part = on_field(piece, height, width)
        own = part.light.astype(np.float64)
        _, ny, nx = own.shape
        rest = self.light[:, part.y : part.y + ny, part.x : part.x + nx] - own
        return np.square(own).sum(axis=(1, 2)), (own * rest).sum(axis=(1, 2))


def on_field(piece: SourceLight, height: int, width: int) -> SourceLight:
    """The part of a piece that lies on a field of these sides [pixel]; of no pixel where none does."""
    _, ny, nx = piece.light.shape
    x0, y0 = max(piece.x, 0), max(piece.y, 0)
    x1, y1 = max(min(piece.x + nx, width), x0), max(min(piece.y + ny, height), y0)
    return SourceLight(piece.light[:, y0 - piece.y : y1 - piece.y, x0 - piece.x : x1 - piece.x], x0, y0)
