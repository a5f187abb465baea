"""A simulated issuer: accounts, checks, the message set, a book, and the shell that serves connections."""

from __future__ import annotations

from simulators.issuer.actions import Action, Disconnect, Send
from simulators.issuer.core import Issuer

__all__ = ["Action", "Disconnect", "Issuer", "Send"]
