"""Scenario files of simulated networks: TOML in, a frozen `NetworkScenario` out; called by the console and tests.

Everything about the link is at the top, one [[issuer]] for each issuer behind it, each with its own [issuer.default],
[[issuer.account]] and [[issuer.fault]].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from messages.amounts_by_currency import AmountsByCurrency, table_problems
from simulators.errors import ScenarioError
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import (
    PARTS,
    IssuerScenario,
    LinkScenario,
    holder_problems,
    link_problems,
    read_faults,
    read_parts,
)
from simulators.scenario_table import partial_struct, read_struct, read_table

MAX_MEMBERS = 1_000


class MemberScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer behind a network; other keys as of `IssuerScenario`.

    Args:
        name: in the network's totals and books.
        prefixes: its BINs; over all issuers of the network the longest wins.
        available: False: the network cannot reach it and answers in its place.
        stand_in_minor: amount of a request that the network approves by itself while it cannot be reached, by currency
            or a number of minor units in each; 0, as in a currency that its table does not name: nothing, it gets 91.
    """

    name: str
    prefixes: tuple[str, ...]
    available: bool = True
    stand_in_minor: AmountsByCurrency = 0
    card_value_key: str = ""
    cryptogram_key: str = ""
    chip_scheme: str = "emv-csk"
    default: AccountRule | None = None
    account: tuple[AccountRule, ...] = ()
    pin_tries: int = 0
    fault: tuple[FaultRule, ...] = ()
    seed: int = 0

    def __repr__(self) -> str:
        return f"MemberScenario({self.name!r}, {len(self.account)} accounts, {len(self.fault)} faults)"

    def behind(self, network: LinkScenario) -> IssuerScenario:
        """This issuer as the network's link shows it."""
        own = ("card_value_key", "cryptogram_key", "chip_scheme", "prefixes", "default", "account", "pin_tries")
        return IssuerScenario(
            name=network.name,
            pin_format=network.pin_format,
            trace_element=network.trace_element,
            fault=self.fault,
            seed=self.seed,
            **{name: getattr(self, name) for name in own},
        )


class NetworkScenario(LinkScenario, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated network.

    Args:
        needs_sign_on: payments before the switch has signed on, or after it has signed off, get 91.
        issuer: the issuers behind it.
    """

    needs_sign_on: bool = True
    issuer: tuple[MemberScenario, ...] = ()

    def __repr__(self) -> str:  # test keys are keys
        return f"NetworkScenario({self.name!r}, {len(self.issuer)} issuers, {len(self.fault)} faults)"

    @property
    def key_names(self) -> tuple[str, ...]:
        """The keys that it needs, those of its issuers included."""
        named = [self.pin_key, self.mac_key]
        for member in self.issuer:
            named += [member.card_value_key, member.cryptogram_key]
        return tuple(dict.fromkeys(name for name in named if name))


def load_network_scenario(name_or_path: str) -> NetworkScenario:
    """Read a scenario file.

    Raises:
        ScenarioError: no such file, no TOML, or wrong content; lists everything that is wrong.
    """
    source, table = read_table(name_or_path)
    return network_scenario_from(table, source)


def network_scenario_from(table: Mapping[str, Any], source: str = "scenario") -> NetworkScenario:
    """A parsed TOML table as a scenario; errors as in `load_network_scenario`."""
    problems: list[str] = []
    rest = {key: value for key, value in table.items() if key not in ("issuer", "fault")}
    scenario = read_struct(rest, NetworkScenario, "", problems) or partial_struct(rest, NetworkScenario, name="?")
    assert scenario is not None
    faults = read_faults(table, problems)
    members = _members(table.get("issuer", []), problems)
    problems += link_problems(scenario) + _set_problems(members)
    if problems:
        raise ScenarioError(source, tuple(problems))
    return msgspec.structs.replace(scenario, fault=faults, issuer=tuple(members), party=scenario.party or scenario.name)


def _members(rows: object, problems: list[str]) -> list[MemberScenario]:
    if not isinstance(rows, list):
        problems.append("[[issuer]]: expected a list of tables")
        return []
    members = []
    for number, row in enumerate(rows, 1):
        within = f"[[issuer]] {number} "
        if not isinstance(row, dict):
            problems.append(f"{within}expected a table")
            continue
        parts = read_parts(row, problems, within)
        rest = {key: value for key, value in row.items() if key not in PARTS}
        made = read_struct(rest, MemberScenario, within, problems)
        made = made or partial_struct(rest, MemberScenario, name="?", prefixes=())
        assert made is not None
        problems += holder_problems(made, within)
        if isinstance(made.stand_in_minor, dict):
            problems += [within + problem for problem in table_problems("stand_in_minor", made.stand_in_minor)]
        elif made.stand_in_minor < 0:
            problems.append(f"{within}stand_in_minor: must be >= 0")
        members.append(msgspec.structs.replace(made, **parts))
    return members


def _set_problems(members: list[MemberScenario]) -> list[str]:
    """Contradictions among the issuers of one network."""
    if not 1 <= len(members) <= MAX_MEMBERS:
        return [f"there must be 1–{MAX_MEMBERS} [[issuer]]"]
    problems = []
    names: dict[str, int] = {}
    owners: dict[str, int] = {}
    for number, member in enumerate(members, 1):
        if not member.name or "|" in member.name:
            problems.append(f"[[issuer]] {number} name: must not be empty or contain '|'")
        elif (other := names.setdefault(member.name, number)) != number and member.name != "?":
            problems.append(f"[[issuer]] {number} name: {member.name!r} is that of [[issuer]] {other}")
        if not member.prefixes:
            problems.append(f"[[issuer]] {number} prefixes: must not be empty")
        for prefix in member.prefixes:
            if (other := owners.setdefault(prefix, number)) != number:
                problems.append(f"[[issuer]] {number} prefixes: {prefix!r} is of [[issuer]] {other}")
    return problems
