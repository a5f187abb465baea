"""A simulated acquirer: its core, its book, and the shell that keeps its connection."""

from __future__ import annotations

from simulators.acquirer.core import Acquirer, AcquirerProfile, Card

__all__ = ["Acquirer", "AcquirerProfile", "Card"]
