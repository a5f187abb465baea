"""pytest fixtures: issuer, network and acquirer simulators for tests of any switch; see docs/pytest-plugin.md.

Each fixture is a function that takes a scenario (a table as in a TOML file, or the file) and keywords that change it;
everything that it has started ends with the test. Nothing of the simulators is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulators.testing import AcquirerSimulator, IssuerSimulator, NetworkSimulator


@pytest.fixture
def issuer_simulator() -> Iterator[Callable[..., IssuerSimulator]]:
    """Starts issuers: `issuer_simulator({"name": "alpha", …})`; see `simulators.testing.start_issuer`."""
    from simulators.testing.issuer import start_issuer

    with ExitStack() as stack:
        yield lambda *scenario, **changes: stack.enter_context(start_issuer(*scenario, **changes))


@pytest.fixture
def network_simulator() -> Iterator[Callable[..., NetworkSimulator]]:
    """Starts networks: `network_simulator({"name": "net", …})`; see `simulators.testing.start_network`."""
    from simulators.testing.network import start_network

    with ExitStack() as stack:
        yield lambda *scenario, **changes: stack.enter_context(start_network(*scenario, **changes))


@pytest.fixture
def acquirer_simulator() -> Iterator[Callable[..., AcquirerSimulator]]:
    """Starts acquirers: `acquirer_simulator(dial="127.0.0.1:5010")`; see `simulators.testing.start_acquirer`."""
    from simulators.testing.acquirer import start_acquirer

    with ExitStack() as stack:
        yield lambda *scenario, **changes: stack.enter_context(start_acquirer(*scenario, **changes))
