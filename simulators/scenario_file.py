"""Scenario files of any simulator: a file in, the scenario of the one that it is for out.

Called by `cardswitch sim check` and by the starter of a scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simulators.acquirer.scenario import AcquirerScenario, acquirer_scenario_from
from simulators.issuer.scenario import IssuerScenario, scenario_from
from simulators.network.scenario import NetworkScenario, network_scenario_from
from simulators.scenario_table import read_table

Scenario = IssuerScenario | NetworkScenario | AcquirerScenario
READERS: dict[str, Callable[[Mapping[str, Any], str], Scenario]] = {
    "issuer": scenario_from,
    "network": network_scenario_from,
    "acquirer": acquirer_scenario_from,
}
# Keys that only one of them has: they decide the party of a file that names none.
TELLING: dict[str, frozenset[str]] = {
    "network": frozenset({"issuer", "needs_sign_on"}),
    "acquirer": frozenset({
        "mix", "run", "afterwards", "card", "replay", "acquirer_id", "terminal", "merchant", "repeats", "first_stan",
        "from_minor", "to_minor", "currencies",
    }),
}  # fmt: skip


def read_scenario(name_or_path: str, kind: str = "") -> tuple[str, Scenario]:
    """Read a scenario file.

    Args:
        kind: one of `READERS`; "" finds it out from the file's keys.
    Returns:
        The kind and the scenario.
    Raises:
        ScenarioError: no such file, no TOML, or wrong content; lists everything that is wrong.
    """
    source, table = read_table(name_or_path)
    kind = kind or kind_of(table)
    return kind, READERS[kind](table, source)


def kind_of(table: Mapping[str, Any]) -> str:
    """The party of a scenario table; an issuer where no key decides."""
    return next((kind for kind, keys in TELLING.items() if keys & table.keys()), "issuer")
