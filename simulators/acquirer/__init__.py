"""A simulated acquirer: its core, its book, the connection that it keeps, and what it replays or makes up."""

from __future__ import annotations

from simulators.acquirer.core import Acquirer, Received
from simulators.acquirer.profile import AcquirerProfile, Card

__all__ = ["Acquirer", "AcquirerProfile", "Card", "Received"]
