"""A simulated network: a sign-on of its own, issuers behind it, and totals at cut-over."""

from __future__ import annotations

from simulators.network.core import Network
from simulators.network.scenario import MemberScenario, NetworkScenario

__all__ = ["MemberScenario", "Network", "NetworkScenario"]
