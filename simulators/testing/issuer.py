"""An issuer simulator for tests: a scenario in, a listening issuer in a thread with blocking calls out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from simulators.issuer.accounts import AccountRule, account_problems
from simulators.issuer.core import Issuer
from simulators.issuer.scenario import IssuerScenario, load_scenario, scenario_from
from simulators.issuer.serve import make_issuer, require_keys
from simulators.scenario_table import struct_of
from simulators.testing.party import Party, Served, served

Scenario = Mapping[str, Any] | str | Path | IssuerScenario
DEFAULT = {"name": "issuer", "default": {"balance_minor": 1_000_000}}


class IssuerSimulator(Party):
    """A running issuer; see `simulators.testing.party.Party`."""

    def __init__(self, issuer: Issuer, served: Served) -> None:
        super().__init__(issuer.name, served)
        self._issuer = issuer

    def account(self, pan: str, **fields: Any) -> None:
        """Open or replace an account: the keys of an [[account]]. Raises ValueError with every problem."""
        rule = struct_of({"pan": pan, **fields}, AccountRule)
        if problems := account_problems(rule):
            raise ValueError("; ".join(problems))
        self._background.do(self._issuer.accounts.set, rule)

    def available_minor(self, pan: str, currency: str = "EUR") -> int:
        """The amount that may still be spent with a card. Raises KeyError for one that this issuer does not have."""
        account = self._background.do(self._issuer.accounts.find, pan)
        if account is None:
            raise KeyError("there is no such card at this issuer")
        return account.available_minor(currency)


@contextmanager
def start_issuer(
    scenario: Scenario | None = None,
    /,
    *,
    keys: Mapping[str, bytes] | None = None,
    zmk: bytes = b"",
    **changes: Any,
) -> Iterator[IssuerSimulator]:
    """An issuer that listens on a free port of 127.0.0.1 unless its scenario says otherwise.

    Args:
        scenario: a table as in a scenario file, such a file, or a scenario; None: every card has 10,000.00.
        keys: clear keys by name besides its test keys. zmk: the zone master key, where keys are exchanged.
        changes: keys of the table to add or replace.
    Raises:
        ScenarioError: the scenario is wrong; everything that is wrong is listed.
    """
    made = _scenario(scenario, changes)
    known = made.keys(keys or {})
    require_keys(made.key_names, known, made)
    issuer = make_issuer(made, known, zmk=zmk)
    with served(issuer, made, "issuer") as running:
        yield IssuerSimulator(issuer, running)


def _scenario(scenario: Scenario | None, changes: Mapping[str, Any]) -> IssuerScenario:
    if isinstance(scenario, IssuerScenario):
        return msgspec.structs.replace(scenario, **changes)
    if isinstance(scenario, str | Path):
        return msgspec.structs.replace(load_scenario(str(scenario)), **changes)
    return scenario_from({**(DEFAULT if scenario is None else scenario), **changes})
