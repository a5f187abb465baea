"""Scenario files of simulated issuers: TOML in, a frozen `IssuerScenario` out; called by the console and tests.

A name without a path is looked up in specs/, so `cardswitch sim issuer scenario-alpha` needs no file of one's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hsm.algorithms.emv_schemes import SCHEMES
from hsm.algorithms.mac import AES_CMAC, ALGORITHMS
from hsm.algorithms.pinblock import FORMATS
from messages.address import address_of
from messages.dialect import load_dialect
from messages.errors import MessagesError
from messages.framing import framing
from simulators.errors import ScenarioError
from simulators.faults import FaultRule, fault_problems
from simulators.issuer.accounts import AccountRule, account_problems, default_problems

S = TypeVar("S")


class LinkScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What issuers and networks have in common: one link to the switch.

    Args:
        name: the link's name as the switch configures it; books carry it.
        listen: host:port; port 0 takes a free one. dial: host:port of a switch that accepts; instead of `listen`.
        sign_on: send 0800 with DE 70 = 001 on each new connection.
        dialect: name or path; framing: as in `messages.framing`.
        party: whose exported keys it uses; "" for `name`.
        pin_key: name of its zone PIN key; "" refuses requests with DE 52. pin_format: ISO 9564 format of the blocks.
        mac_key: name of its zone authentication key; "" for a link without MACs. mac_algorithm: one of
            `hsm.algorithms.mac.ALGORITHMS`. mac_management: whether network management carries a MAC, too.
        test_keys: name → hexadecimal: keys that stand here because they protect nothing; they count more than those
            of the exchange directory.
        seed: of the faults.
        trace_element: the element that carries the trace id; 0 for none.
        log_messages: one log line a message; off for load tests.
        max_connections: more are closed at once.
    """

    name: str
    listen: str = "127.0.0.1:0"
    dial: str = ""
    sign_on: bool = False
    dialect: str = "iso87-ascii"
    framing: str = "2-byte-be"
    max_frame: int = 8192
    party: str = ""
    pin_key: str = ""
    pin_format: int = 0
    mac_key: str = ""
    mac_algorithm: str = AES_CMAC
    mac_management: bool = False
    test_keys: dict[str, str] = {}
    fault: tuple[FaultRule, ...] = ()
    seed: int = 0
    trace_element: int = 0
    log_messages: bool = True
    max_connections: int = 256

    def keys(self, exchanged: Mapping[str, bytes]) -> dict[str, bytes]:
        """All keys by name: `exchanged` ones, and the test keys of the scenario over them."""
        return {**exchanged, **{name: bytes.fromhex(value) for name, value in self.test_keys.items()}}


class IssuerScenario(LinkScenario, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated issuer.

    Args:
        card_value_key: name of the key of card values (CVV, CVV2); "" where it does not look at them.
        cryptogram_key: name of its master key for cryptograms (IMK-AC); "" where it does not look at DE 55.
        chip_scheme: how its cards use it, one of `hsm.algorithms.emv_schemes.SCHEMES`.
        prefixes: its BINs; () for any card.
        default: the account of each card that no [[account]] names; none: such cards do not exist (14).
        pin_tries: wrong PINs in a row before 75; 0 for no limit.
    """

    card_value_key: str = ""
    cryptogram_key: str = ""
    chip_scheme: str = "emv-csk"
    prefixes: tuple[str, ...] = ()
    default: AccountRule | None = None
    account: tuple[AccountRule, ...] = ()
    pin_tries: int = 0

    def __repr__(self) -> str:  # test keys are keys
        return f"IssuerScenario({self.name!r}, {len(self.account)} accounts, {len(self.fault)} faults)"

    @property
    def key_names(self) -> tuple[str, ...]:
        """The keys that it needs."""
        named = (self.pin_key, self.mac_key, self.card_value_key, self.cryptogram_key)
        return tuple(name for name in named if name)


def load_scenario(name_or_path: str) -> IssuerScenario:
    """Read a scenario file.

    Raises:
        ScenarioError: no such file, no TOML, or wrong content; lists everything that is wrong.
    """
    source, text = _read(name_or_path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(source, (str(error),)) from None
    return scenario_from(table, source)


def scenario_from(table: dict[str, Any], source: str = "scenario") -> IssuerScenario:
    """A parsed TOML table as a scenario; errors as in `load_scenario`."""
    problems: list[str] = []
    accounts = _rows(table, "account", AccountRule, problems)
    faults = _rows(table, "fault", FaultRule, problems)
    rest = {key: value for key, value in table.items() if key not in ("account", "fault")}
    scenario = IssuerScenario(name="")
    try:
        scenario = msgspec.convert(rest, IssuerScenario)
    except msgspec.ValidationError as error:
        problems.append(str(error))
    else:
        problems += _contradictions(scenario)
    problems += [
        f"[[account]] {number}: {problem}"
        for number, rule in enumerate(accounts, 1)
        for problem in account_problems(rule)
    ]
    problems += [
        f"[[fault]] {number}: {problem}" for number, rule in enumerate(faults, 1) for problem in fault_problems(rule)
    ]
    if problems:
        raise ScenarioError(source, tuple(problems))
    return msgspec.structs.replace(scenario, account=accounts, fault=faults, party=scenario.party or scenario.name)


def _read(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    try:
        if path.suffix == "" and path.name == name_or_path:
            found = resources.files("specs") / f"{name_or_path}.toml"
            return f"specs/{name_or_path}.toml", found.read_text("utf-8")
        return str(path), path.read_text("utf-8")
    except OSError as error:
        raise ScenarioError(name_or_path, (error.strerror or "cannot be read",)) from None
    except UnicodeDecodeError:
        raise ScenarioError(name_or_path, ("not UTF-8",)) from None


def _rows(table: dict[str, Any], name: str, kind: type[S], problems: list[str]) -> tuple[S, ...]:
    rows = table.get(name, [])
    if not isinstance(rows, list):
        problems.append(f"[[{name}]]: expected a list of tables")
        return ()
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(msgspec.convert(row, kind))
        except msgspec.ValidationError as error:
            problems.append(f"[[{name}]] {number}: {error}")
    return tuple(found)


def _contradictions(scenario: IssuerScenario) -> list[str]:
    problems = []
    if not scenario.name or "|" in scenario.name:
        problems.append("name must not be empty or contain '|'")
    for name, address in (("listen", scenario.listen), ("dial", scenario.dial)):
        try:
            if address:
                address_of(address)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    try:
        load_dialect(scenario.dialect)
        framing(scenario.framing, scenario.max_frame)
    except (MessagesError, OSError) as error:
        problems.append(str(error))
    problems += [f"prefix {prefix!r} must be digits" for prefix in scenario.prefixes if not prefix.isdecimal()]
    if scenario.pin_format not in FORMATS:
        problems.append(f"pin_format must be one of {', '.join(map(str, FORMATS))}")
    if scenario.mac_algorithm not in ALGORITHMS:
        problems.append(f"mac_algorithm must be one of {', '.join(ALGORITHMS)}")
    if scenario.chip_scheme not in SCHEMES:
        problems.append(f"chip_scheme must be one of {', '.join(SCHEMES)}")
    problems += [f"[default]: {problem}" for problem in default_problems(scenario.default)]
    problems += [
        f"test_keys.{name}: {_key_problem(value)}" for name, value in scenario.test_keys.items() if _key_problem(value)
    ]
    if scenario.pin_tries < 0 or scenario.max_connections < 1:
        problems.append("pin_tries must be >= 0 and max_connections >= 1")
    return problems


def _key_problem(value: str) -> str:
    """What is wrong with a test key; never the key."""
    try:
        length = len(bytes.fromhex(value))
    except ValueError:
        length = 0
    return "" if length in (16, 24, 32) else "must be 32, 48 or 64 hexadecimal digits"
