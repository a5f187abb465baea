"""Scenario files of simulated acquirers: TOML in, a frozen `AcquirerScenario` out; called by the console and tests."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from hsm.algorithms.emv_schemes import SCHEMES
from hsm.algorithms.mac import AES_CMAC, ALGORITHMS
from hsm.algorithms.pinblock import FORMATS
from messages.address import address_of
from messages.amounts_by_currency import MAX_AMOUNT_MINOR, AmountsByCurrency, amount_in, is_currency, table_problems
from messages.dialect import load_dialect
from messages.errors import MessagesError
from messages.framing import framing
from simulators.acquirer.faults import acquirer_fault_problems
from simulators.acquirer.profile import AcquirerProfile, Card
from simulators.errors import ScenarioError
from simulators.faults import FaultRule, fault_problems
from simulators.load.population import population
from simulators.scenario_table import partial_struct, read_struct, read_structs, read_table
from simulators.tls import TlsScenario, tls_problems

MAX_COUNT, MAX_SECONDS, MAX_CONCURRENCY, MAX_CARDS = 1_000_000, 3_600.0, 5_000, 100_000
# More than that is a load test, and goes to this machine only.
REMOTE_RATE, REMOTE_CONCURRENCY = 20.0, 16


class CardRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[card]]: one that customers use, or with `count` so many of a BIN.

    Args:
        pan: 12–19 digits. prefix: 8 digits instead, with `count` cards that are valid by Luhn.
        expiry: YYMM. pin: 4–12 digits; "" for none. icc_data, sequence, track2: as in `Card`.
        chip_key: name of the issuer's master key for cryptograms (IMK-AC) among the test keys: the card has a chip and
            makes true ones. chip_scheme: its scheme, one of `hsm.algorithms.emv_schemes.SCHEMES`.
        weight: frequency of its use beside others.
    """

    pan: str = ""
    prefix: str = ""
    count: int = 1
    expiry: str = "3012"
    pin: str = ""
    icc_data: str = ""
    sequence: str = ""
    track2: str = ""
    chip_key: str = ""
    chip_scheme: str = "emv-csk"
    weight: float = 1.0

    def __repr__(self) -> str:
        return f"CardRule(count={self.count}, weight={self.weight})"

    def cards(self) -> list[Card]:
        pans = population(self.count, (self.prefix,)) if self.prefix else [self.pan]
        return [Card(pan, self.expiry, self.pin, self.icc_data, self.sequence, self.track2) for pan in pans]


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[mix]: frequency of customers' and terminals' requests, as weights >= 0."""

    purchase: float = 40.0
    cash_back: float = 4.0
    pre_authorization: float = 25.0
    refund: float = 4.0
    balance_inquiry: float = 4.0
    verification: float = 4.0
    purchase_advice: float = 4.0
    hold_advice: float = 2.0
    administrative: float = 1.0
    reconciliation: float = 1.0
    cut_over: float = 0.0


class Afterwards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[afterwards]: later changes of approved requests, as shares 0–1.

    Args:
        increment, partial_reversal, partial_completion, completion, void: of holds, in this order; a hold that is
            completed for good or voided is done.
        reversal, refund: of purchases. pause_s: before each of them.
    """

    increment: float = 0.2
    partial_reversal: float = 0.1
    partial_completion: float = 0.3
    completion: float = 0.8
    void: float = 0.5
    reversal: float = 0.05
    refund: float = 0.05
    pause_s: float = 0.0


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[run]: amount and speed of the traffic.

    Args:
        count: requests at most; seconds: for so long at most; whichever comes first.
        rate: requests a second; 0 for as many as answers let.
        concurrency: customers at the same time.
    """

    count: int = 100
    seconds: float = 60.0
    rate: float = 10.0
    concurrency: int = 4


class AcquirerScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated acquirer.

    Args:
        name: the link's name as the switch configures it; books carry it.
        dial: host:port of the switch. listen: host:port where the switch dials us; instead of `dial`.
        tls: under the connections, see `simulators.tls`; none: no TLS.
        header: "tpdu", "vap" or a number of bytes before each message; header_bytes: hexadecimal, of what we start.
        dialect, framing, max_frame, party, pin_key, pin_format, mac_key, mac_algorithm, mac_management, test_keys,
            trace_element, seed: as of an issuer's scenario. ksn, ksn_element: DUKPT, hexadecimal and the element.
        acquirer_id, terminal, merchant, mcc, place, country, repeats, first_stan: as in `AcquirerProfile`.
        connections: number; timeout_s: for an answer; attempts: messages for one request before it is left alone.
        replay: a file of messages to send instead of what [mix] makes up; see `simulators.acquirer.replay`.
        currencies: alphabetic codes, at random.
        from_minor, to_minor: least and greatest amount; cashback_minor: most cash. Tables by currency, with each
            of `currencies`, or numbers of minor units in each.
    """

    name: str
    dial: str = "127.0.0.1:5010"
    listen: str = ""
    tls: TlsScenario | None = None
    dialect: str = "iso87-ascii"
    framing: str = "2-byte-be"
    max_frame: int = 8192
    header: str | int = ""
    header_bytes: str = ""
    party: str = ""
    pin_key: str = ""
    pin_format: int = 0
    ksn: str = ""
    ksn_element: int = 0
    mac_key: str = ""
    mac_algorithm: str = AES_CMAC
    mac_management: bool = False
    test_keys: dict[str, str] = {}
    trace_element: int = 0
    acquirer_id: str = "10001"
    terminal: str = "TERM0001"
    merchant: str = "DEMOSHOP"
    mcc: str = "5411"
    place: str = "Demo Shop, Main Street 1"
    country: str = "DE"
    repeats: int = 1
    first_stan: int = 1
    connections: int = 1
    timeout_s: float = 5.0
    attempts: int = 20
    seed: int = 0
    replay: str = ""
    from_minor: AmountsByCurrency = 100
    to_minor: AmountsByCurrency = 10_000
    currencies: tuple[str, ...] = ("EUR",)
    cashback_minor: AmountsByCurrency = 5_000
    card: tuple[CardRule, ...] = (CardRule(pan="4242424242424242"),)
    mix: Mix = Mix()
    afterwards: Afterwards = Afterwards()
    run: Run = Run()
    fault: tuple[FaultRule, ...] = ()

    def __repr__(self) -> str:  # test keys are keys, cards are cards
        return f"AcquirerScenario({self.name!r}, {len(self.card)} cards, {len(self.fault)} faults)"

    @property
    def key_names(self) -> tuple[str, ...]:
        """The keys that it needs."""
        return tuple(name for name in (self.pin_key, self.mac_key) if name)

    def keys(self, exchanged: Mapping[str, bytes]) -> dict[str, bytes]:
        """All keys by name: `exchanged` ones, and the test keys of the scenario over them.

        Raises:
            ScenarioError: one that it needs is not among them.
        """
        keys = {**exchanged, **{name: bytes.fromhex(value) for name, value in self.test_keys.items()}}
        missing = [f"there is no key {name!r} for party {self.party!r}" for name in self.key_names if name not in keys]
        if missing:
            raise ScenarioError(self.name, tuple(missing))
        return keys

    def profile(self) -> AcquirerProfile:
        shared = {field: getattr(self, field) for field in AcquirerProfile.__struct_fields__ if field != "link"}
        return AcquirerProfile(link=self.name, **shared)


def load_acquirer_scenario(name_or_path: str) -> AcquirerScenario:
    """Read a scenario file.

    Raises:
        ScenarioError: no such file, no TOML, or wrong content; lists everything that is wrong.
    """
    source, table = read_table(name_or_path)
    return acquirer_scenario_from(table, source)


def acquirer_scenario_from(table: Mapping[str, Any], source: str = "scenario") -> AcquirerScenario:
    """A parsed TOML table as a scenario; errors as in `load_acquirer_scenario`."""
    problems: list[str] = []
    rest = {key: value for key, value in table.items() if key not in _PARTS}
    scenario = read_struct(rest, AcquirerScenario, "", problems)
    parts: dict[str, Any] = {}
    for name, kind in (("mix", Mix), ("afterwards", Afterwards), ("run", Run)):
        if name in table and (part := read_struct(table[name], kind, f"[{name}] ", problems)) is not None:
            parts[name] = part
    if "card" in table:
        cards = read_structs(table["card"], CardRule, "card", problems)
        problems += [f"[[card]] {number}: {problem}" for number, rule in cards for problem in _card_problems(rule)]
        parts["card"] = tuple(rule for _, rule in cards)
    faults = read_structs(table.get("fault", []), FaultRule, "fault", problems)
    for number, rule in faults:
        problems += [f"[[fault]] {number}: {text}" for text in fault_problems(rule) + acquirer_fault_problems(rule)]
    parts["fault"] = tuple(rule for _, rule in faults)
    # Faults of single keys are listed already; the rest is checked together.
    made = scenario or partial_struct(rest, AcquirerScenario, name="?")
    assert made is not None
    made = msgspec.structs.replace(made, **parts, party=made.party or made.name)
    problems += scenario_problems(made)
    if problems:
        raise ScenarioError(source, tuple(problems))
    return made


def scenario_problems(scenario: AcquirerScenario) -> list[str]:
    """Contradictions in a scenario, one line each."""
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
        start = bytes.fromhex(scenario.header_bytes)
        framing(scenario.framing, scenario.max_frame, header=scenario.header, header_bytes=start)
    except (MessagesError, OSError) as error:
        problems.append(str(error))
    except ValueError:
        problems.append("header_bytes must be hexadecimal")
    if scenario.tls is not None:
        problems += [f"tls: {problem}" for problem in tls_problems(scenario.tls, serves=bool(scenario.listen))]
    if scenario.pin_format not in FORMATS:
        problems.append(f"pin_format must be one of {', '.join(map(str, FORMATS))}")
    for number, rule in enumerate(scenario.card, 1):
        if rule.chip_key and rule.chip_key not in scenario.test_keys:
            problems.append(f"[[card]] {number}: chip_key must be one of the test_keys")
    if scenario.mac_algorithm not in ALGORITHMS:
        problems.append(f"mac_algorithm must be one of {', '.join(ALGORITHMS)}")
    for name, value in scenario.test_keys.items():
        if _hex_bytes(value) not in (16, 24, 32):
            problems.append(f"test_keys.{name}: must be 32, 48 or 64 hexadecimal digits")
    if scenario.ksn and (_hex_bytes(scenario.ksn) not in (10, 12) or not scenario.ksn_element):
        problems.append("ksn must be 20 or 24 hexadecimal digits, with a ksn_element")
    if not scenario.card:
        problems.append("there must be a [[card]]")
    elif any(rule.pin for rule in scenario.card) and not scenario.pin_key:
        problems.append("a [[card]] with a pin needs a pin_key")
    return problems + _money_problems(scenario) + _number_problems(scenario) + _speed_problems(scenario)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_PARTS = ("mix", "afterwards", "run", "card", "fault")


def _money_problems(scenario: AcquirerScenario) -> list[str]:
    problems = []
    if not scenario.currencies:
        problems.append("currencies must not be empty")
    problems += [f"currencies: unknown currency {code!r}" for code in scenario.currencies if not is_currency(code)]
    for name in ("from_minor", "to_minor", "cashback_minor"):
        amounts: AmountsByCurrency = getattr(scenario, name)
        if isinstance(amounts, dict):
            problems += table_problems(name, amounts)
            problems += [f"{name} has no amount for {code}" for code in scenario.currencies if code not in amounts]
    for code in scenario.currencies:
        least, most = (amount_in(amounts, code) for amounts in (scenario.from_minor, scenario.to_minor))
        if least is not None and most is not None and not 0 < least <= most <= MAX_AMOUNT_MINOR:
            problems.append(f"from_minor and to_minor must be 1–{MAX_AMOUNT_MINOR}, in this order ({code})")
    if sum(msgspec.structs.astuple(scenario.mix)) <= 0 or min(msgspec.structs.astuple(scenario.mix)) < 0:
        problems.append("[mix]: weights must be >= 0, and one of them above")
    return problems


def _number_problems(scenario: AcquirerScenario) -> list[str]:
    after = msgspec.structs.asdict(scenario.afterwards)
    problems = [
        f"[afterwards] {name}: must be 0–1"
        for name, share in after.items()
        if name != "pause_s" and not 0 <= share <= 1
    ]
    limits: dict[str, tuple[float, float, float]] = {
        "repeats": (scenario.repeats, 0, 100),
        "first_stan": (scenario.first_stan, 1, 999_999),
        "connections": (scenario.connections, 1, 256),
        "timeout_s": (scenario.timeout_s, 0.01, 300),
        "attempts": (scenario.attempts, 1, 1_000),
        "[afterwards] pause_s": (scenario.afterwards.pause_s, 0, 60),
        "[run] count": (scenario.run.count, 1, MAX_COUNT),
        "[run] seconds": (scenario.run.seconds, 0.01, MAX_SECONDS),
        "[run] rate": (scenario.run.rate, 0, 1_000_000),
        "[run] concurrency": (scenario.run.concurrency, 1, MAX_CONCURRENCY),
    }
    return problems + [
        f"{name}: must be {low:.12g}–{high:.12g}"
        for name, (value, low, high) in limits.items()
        if not low <= value <= high
    ]


def _speed_problems(scenario: AcquirerScenario) -> list[str]:
    """A load test goes to this machine only."""
    run = scenario.run
    gentle = 0 < run.rate <= REMOTE_RATE and run.concurrency <= REMOTE_CONCURRENCY
    try:
        host, _ = address_of(scenario.listen or scenario.dial)
    except ValueError:
        return []
    if gentle or is_loopback(host):
        return []
    return [
        f"[run]: load tests go to loopback addresses only; to {host} at most {REMOTE_RATE:g} requests a second "
        f"(rate) of {REMOTE_CONCURRENCY} customers (concurrency)"
    ]


def _card_problems(rule: CardRule) -> list[str]:
    problems = []
    digits = rule.pan or rule.prefix
    if bool(rule.pan) == bool(rule.prefix) or not (digits.isascii() and digits.isdigit()):
        problems.append("expected either pan or prefix, digits only")
    elif rule.pan and not 12 <= len(rule.pan) <= 19:
        problems.append("pan must have 12–19 digits")
    elif rule.prefix and len(rule.prefix) != 8:
        problems.append("prefix must have 8 digits")
    if not 1 <= rule.count <= MAX_CARDS:
        problems.append(f"count must be 1–{MAX_CARDS}")
    if rule.pin and not (rule.pin.isascii() and rule.pin.isdigit() and 4 <= len(rule.pin) <= 12):
        problems.append("pin must be 4–12 digits")
    if not (len(rule.expiry) == 4 and rule.expiry.isascii() and rule.expiry.isdigit()):
        problems.append("expiry must be YYMM")
    if rule.weight <= 0:
        problems.append("weight must be > 0")
    if rule.chip_scheme not in SCHEMES:
        problems.append(f"chip_scheme must be one of {', '.join(SCHEMES)}")
    if rule.chip_key and (rule.icc_data or rule.track2):
        problems.append("a card with a chip_key makes its own icc_data, and has no track2")
    if rule.icc_data and not _hex_bytes(rule.icc_data):
        problems.append("icc_data must be hexadecimal")
    return problems


def _hex_bytes(value: str) -> int:
    """Number of bytes of a hexadecimal text; 0 where it is none."""
    try:
        return len(bytes.fromhex(value))
    except ValueError:
        return 0
