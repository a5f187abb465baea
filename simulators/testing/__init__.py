"""Simulators for the tests of your own switch: started in a thread of their own, driven by plain calls.

`start_issuer`, `start_network` and `start_acquirer` take a scenario (a table as in a TOML file, or the file) and are
context managers; the fixtures of `simulators.pytest_plugin` are made of them. For tests on trio themselves,
`simulators.issuer.serve.serve_issuer` and `simulators.acquirer.serve.open_scenario` do without the thread.
"""

from __future__ import annotations

from simulators.acquirer.book import Request, State
from simulators.acquirer.chip import ChipCard
from simulators.acquirer.profile import Card
from simulators.book import BookLine
from simulators.testing.acquirer import AcquirerSimulator, start_acquirer
from simulators.testing.comparison import differences
from simulators.testing.issuer import IssuerSimulator, start_issuer
from simulators.testing.network import NetworkSimulator, start_network

__all__ = [
    "AcquirerSimulator",
    "BookLine",
    "Card",
    "ChipCard",
    "IssuerSimulator",
    "NetworkSimulator",
    "Request",
    "State",
    "differences",
    "start_acquirer",
    "start_issuer",
    "start_network",
]
