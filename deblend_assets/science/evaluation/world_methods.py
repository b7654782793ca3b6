"""What pages and figures call the methods that are compared in the worlds."""

from __future__ import annotations

from deblend_assets.science.measuring.observed import WORDS
from deblend_assets.science.measuring.sky_observed import SKY_WORDS
from deblend_assets.science.peers.observed.methods import OBSERVED_PEERS

# Title and description by the method's name, in the order in which they are shown.
METHODS: dict[str, tuple[str, str]] = (
    SKY_WORDS | WORDS | {peer.name: (peer.title, peer.words) for peer in OBSERVED_PEERS}
)


def title_of(method: str) -> str:
    """What pages and figures call a method."""
    return METHODS.get(method, (method, ""))[0]
