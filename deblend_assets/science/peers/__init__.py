"""Methods that astronomers use today, behind one interface; optional modules are imported when measuring."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

from deblend_assets.science.peers.anacal import ANACAL
from deblend_assets.science.peers.blends import Blends, Measured, Peer
from deblend_assets.science.peers.scarlet2 import SCARLET2
from deblend_assets.science.peers.sep_hsm import HSM, SEP_HSM
from deblend_assets.science.peers.sersic import SERSIC

PEERS: tuple[Peer, ...] = (HSM, SEP_HSM, ANACAL, SCARLET2, SERSIC)

__all__ = ["PEERS", "Blends", "Measured", "Peer", "available"]


class NeedsModule(Protocol):
    """A method that needs a module."""

    @property
    def module(self) -> str:
        """Its name."""


def available(peer: NeedsModule) -> bool:
    """Whether its module is installed, without importing it."""
    return find_spec(peer.module) is not None
