"""A network simulator for tests: a scenario in, a network with its issuers in a thread with blocking calls out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from simulators.issuer.serve import require_keys
from simulators.network.core import Network
from simulators.network.scenario import NetworkScenario, load_network_scenario, network_scenario_from
from simulators.testing.party import Party, Served, served

Scenario = Mapping[str, Any] | str | Path | NetworkScenario
DEFAULT = {
    "name": "network",
    "issuer": [{"name": "issuer", "prefixes": ["4", "5"], "default": {"balance_minor": 1_000_000}}],
}


class NetworkSimulator(Party):
    """A running network; see `simulators.testing.party.Party`."""

    def __init__(self, network: Network, served: Served) -> None:
        super().__init__(network.name, served)
        self._network = network

    def set_available(self, member: str, available: bool) -> None:
        """Let an issuer behind it go away, or come back. Raises SimulatorError for an unknown one."""
        self._background.do(self._network.set_available, member, available)


@contextmanager
def start_network(
    scenario: Scenario | None = None,
    /,
    *,
    keys: Mapping[str, bytes] | None = None,
    zmk: bytes = b"",
    **changes: Any,
) -> Iterator[NetworkSimulator]:
    """A network that listens on a free port of 127.0.0.1 unless its scenario says otherwise.

    Args, Raises: as of `simulators.testing.issuer.start_issuer`; without a scenario one issuer has all cards that start
    with 4 or 5.
    """
    made = _scenario(scenario, changes)
    known = made.keys(keys or {})
    require_keys(made.key_names, known, made)
    network = Network(made, known, zmk=zmk)
    with served(network, made, "network") as running:
        yield NetworkSimulator(network, running)


def _scenario(scenario: Scenario | None, changes: Mapping[str, Any]) -> NetworkScenario:
    if isinstance(scenario, NetworkScenario):
        return msgspec.structs.replace(scenario, **changes)
    if isinstance(scenario, str | Path):
        return msgspec.structs.replace(load_network_scenario(str(scenario)), **changes)
    return network_scenario_from({**(DEFAULT if scenario is None else scenario), **changes})
