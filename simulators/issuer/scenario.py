"""Scenario files of simulated issuers: TOML in, a frozen `IssuerScenario` out; called by the console and tests.

A name without a path is looked up in specs/, so `cardswitch sim issuer scenario-alpha` needs no file of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from hsm.algorithms.emv_schemes import SCHEMES
from hsm.algorithms.mac import AES_CMAC, ALGORITHMS
from hsm.algorithms.pinblock import FORMATS
from messages.address import address_of
from messages.dialect import Dialect, load_dialect
from messages.errors import MessagesError, SpecError
from messages.framing import Framing, framing
from simulators.errors import ScenarioError
from simulators.faults import FaultRule, answering_problems, fault_problems
from simulators.issuer.accounts import AccountRule, account_problems, default_problems
from simulators.scenario_table import partial_struct, read_struct, read_structs, read_table
from simulators.tls import TlsScenario, tls_problems

MAX_PREFIX = 11  # digits; a BIN, never a card
MAX_ELEMENT = 128


class LinkScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common part of issuers and networks: one link to the switch.

    Args:
        name: the link's name as the switch configures it; books carry it.
        listen: host:port; port 0 takes a free one. dial: host:port of a switch that accepts; instead of `listen`.
        sign_on: send 0800 with DE 70 = 001 on each new connection.
        tls: under the connections, see `simulators.tls`; none: no TLS.
        dialect: name or path. framing, max_frame, header, header_bytes (hexadecimal): as in `messages.framing`.
        party: whose exported keys it uses; "" for `name`.
        pin_key: name of its zone PIN key; "" refuses requests with DE 52. pin_format: ISO 9564 format of the blocks.
        mac_key: name of its zone authentication key; "" for a link without MACs. mac_algorithm: one of
            `hsm.algorithms.mac.ALGORITHMS`. mac_management: whether network management carries a MAC, too.
        test_keys: name → hexadecimal: keys in the file, because they protect nothing; they take precedence over those
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
    tls: TlsScenario | None = None
    dialect: str = "iso87-ascii"
    framing: str = "2-byte-be"
    max_frame: int = 8192
    header: str | int = ""
    header_bytes: str = ""
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

    def framed(self, dialect: Dialect) -> Framing:
        """Its framing. Raises SpecError."""
        try:
            start = bytes.fromhex(self.header_bytes)
        except ValueError:
            raise SpecError("framing", ["header_bytes is no hexadecimal"]) from None
        return framing(
            self.framing, self.max_frame, header=self.header, header_bytes=start, keepalive=dialect.keepalive
        )

    def keys(self, exchanged: Mapping[str, bytes]) -> dict[str, bytes]:
        """All keys by name: `exchanged` ones, and the test keys of the scenario over them."""
        return {**exchanged, **{name: bytes.fromhex(value) for name, value in self.test_keys.items()}}


class IssuerScenario(LinkScenario, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated issuer.

    Args:
        card_value_key: name of the key of card values (CVV, CVV2); "" where it does not look at them.
        cryptogram_key: name of its master key for cryptograms (IMK-AC); "" where it does not look at DE 55.
        chip_scheme: the scheme of its cards, one of `hsm.algorithms.emv_schemes.SCHEMES`.
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
    source, table = read_table(name_or_path)
    return scenario_from(table, source)


def scenario_from(table: Mapping[str, Any], source: str = "scenario") -> IssuerScenario:
    """A parsed TOML table as a scenario; errors as in `load_scenario`."""
    problems: list[str] = []
    parts = read_parts(table, problems)
    rest = {key: value for key, value in table.items() if key not in PARTS}
    # Faults of single keys are listed at once; the rest is checked together all the same.
    made = read_struct(rest, IssuerScenario, "", problems) or partial_struct(rest, IssuerScenario, name="?")
    assert made is not None
    problems += link_problems(made) + holder_problems(made)
    if problems:
        raise ScenarioError(source, tuple(problems))
    return msgspec.structs.replace(made, **parts, party=made.party or made.name)


PARTS = ("default", "account", "fault")
R = TypeVar("R", bound=msgspec.Struct)


class Holder(Protocol):
    """A holder of accounts: an issuer, or one behind a network."""

    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def chip_scheme(self) -> str: ...
    @property
    def pin_tries(self) -> int: ...


def read_parts(table: Mapping[str, Any], problems: list[str], within: str = "") -> dict[str, Any]:
    """[default], [[account]] and [[fault]] of an issuer.

    Args:
        within: goes before each problem: "[[issuer]] 2 ".
    """
    parts: dict[str, Any] = {"fault": read_faults(table, problems, within)}
    if "default" in table:
        parts["default"] = read_struct(table["default"], AccountRule, f"{within}[default] ", problems)
        rule = parts["default"] or partial_struct(table["default"], AccountRule)
        problems += [f"{within}[default] {problem}" for problem in default_problems(rule)]
    parts["account"] = _rows(table, "account", AccountRule, account_problems, problems, within)
    problems += _named_twice(table.get("account"), within)
    return parts


def _named_twice(rows: object, within: str) -> list[str]:
    """Accounts of the same card or prefix, by their numbers: only one of them would count."""
    first: dict[tuple[str, object], int] = {}
    problems = []
    for number, row in enumerate(rows if isinstance(rows, list) else (), 1):
        for key in ("pan", "prefix"):
            value = row.get(key) if isinstance(row, dict) else None
            if isinstance(value, str) and (known := first.setdefault((key, value), number)) != number:
                problems.append(f"{within}[[account]] {number}: {key} is that of [[account]] {known}")
    return problems


def read_faults(table: Mapping[str, Any], problems: list[str], within: str = "") -> tuple[FaultRule, ...]:
    """[[fault]] of an issuer or a network."""
    return _rows(
        table, "fault", FaultRule, lambda rule: fault_problems(rule) + answering_problems(rule), problems, within
    )


def link_problems(scenario: LinkScenario) -> list[str]:
    """Contradictions in the link of a scenario, one line each."""
    problems = []
    if not scenario.name or "|" in scenario.name:
        problems.append("name: must not be empty or contain '|'")
    for name, address in (("listen", scenario.listen), ("dial", scenario.dial)):
        try:
            if address:
                address_of(address)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    try:
        dialect = load_dialect(scenario.dialect)
    except (MessagesError, OSError) as error:
        problems.append(f"dialect: {error}")
        dialect = load_dialect("iso87-ascii")
    try:
        scenario.framed(dialect)
    except MessagesError as error:
        problems.append(f"framing: {error}")
    if scenario.tls is not None:
        problems += [f"tls: {problem}" for problem in tls_problems(scenario.tls, serves=not scenario.dial)]
    if scenario.pin_format not in FORMATS:
        problems.append(f"pin_format: must be one of {', '.join(map(str, FORMATS))}")
    if scenario.mac_algorithm not in ALGORITHMS:
        problems.append(f"mac_algorithm: must be one of {', '.join(ALGORITHMS)}")
    problems += [
        f"test_keys.{name}: {_key_problem(value)}" for name, value in scenario.test_keys.items() if _key_problem(value)
    ]
    if scenario.max_connections < 1:
        problems.append("max_connections: must be >= 1")
    if not 0 <= scenario.trace_element <= MAX_ELEMENT:
        problems.append(f"trace_element: must be 0–{MAX_ELEMENT}")
    return problems


def holder_problems(scenario: Holder, within: str = "") -> list[str]:
    """Contradictions in the accounts of an issuer, one line each."""
    problems = [
        f"{within}prefixes: {prefix!r} must be 1–{MAX_PREFIX} digits"
        for prefix in scenario.prefixes
        if not (prefix.isascii() and prefix.isdigit() and len(prefix) <= MAX_PREFIX)
    ]
    if scenario.chip_scheme not in SCHEMES:
        problems.append(f"{within}chip_scheme: must be one of {', '.join(SCHEMES)}")
    if scenario.pin_tries < 0:
        problems.append(f"{within}pin_tries: must be >= 0")
    return problems


def _rows(
    table: Mapping[str, Any],
    name: str,
    kind: type[R],
    look: Callable[[R], list[str]],
    problems: list[str],
    within: str,
) -> tuple[R, ...]:
    rows = table.get(name, [])
    read = dict(read_structs(rows, kind, name, problems, within))
    for number, row in enumerate(rows if isinstance(rows, list) else (), 1):
        rule = read.get(number) or partial_struct(row, kind)
        problems += [f"{within}[[{name}]] {number}: {problem}" for problem in (look(rule) if rule else ())]
    return tuple(read.values())


def _key_problem(value: str) -> str:
    """The fault of a test key; never the key."""
    try:
        length = len(bytes.fromhex(value))
    except ValueError:
        length = 0
    return "" if length in (16, 24, 32) else "must be 32, 48 or 64 hexadecimal digits"
