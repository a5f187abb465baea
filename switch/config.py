"""The switch's part of the configuration: TOML tables in, frozen structs out.

`console/` reads the file and hands the whole table to `switch_config`; a worker gets the structs. Every problem is
found before anything starts, and all are listed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from ledger.config import FeesConfig, FeeTable, MerchantConfig
from ledger.errors import FeeError
from messages.address import address_of
from messages.dialect import load_dialect
from messages.errors import MessagesError
from messages.framing import framing
from switch.errors import ConfigError
from switch.pin_rules import pin_contradictions

S = TypeVar("S")

MAX_KEY_HOURS = 24 * 366
CRYPTOGRAM_BASE64 = 28  # characters of the 20 bytes that come with a network token


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[switch]: what all workers share. Times in seconds."""

    workers: int = 2
    metrics: str = ""  # host:port; worker n listens on port + n; "" for none
    recovery_grace_s: float = 5.0
    max_in_flight: int = 2000
    unreferenced_refunds: bool = False
    drain_s: float = 10.0
    payment_log: bool = True


class AcquirerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[acquirer]]: a link that acquirers dial; the port says who they are."""

    name: str
    listen: str
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    pin_key: str = ""
    pin_format: int = 0  # ISO 9564 format of the PIN blocks that it sends
    ksn_element: int | None = None  # where the KSN is, if pin_key is a base derivation key
    mac_key: str = ""
    mac_management: bool = False
    key_exchange_hours: float = 0.0  # 0: by command only
    surrogate: bool = False
    token_cryptogram_element: int | None = None  # where network tokens have their cryptogram, base64
    trace_element: int | None = None
    must_sign_on: bool = False
    max_connections: int = 100  # a worker
    advice_timeout_s: float = 5.0


class IssuerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[issuer]]: a link that every worker dials."""

    name: str
    address: str
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    pin_key: str = ""
    pin_format: int = 0  # ISO 9564 format of the PIN blocks that it gets
    mac_key: str = ""
    mac_management: bool = False
    key_exchange_hours: float = 0.0
    deadline_s: float = 3.0
    echo_s: float = 30.0
    missed_echoes: int = 3
    dial_timeout_s: float = 3.0
    reconnect_s: float = 0.2  # first back-off; doubles up to reconnect_cap_s, with jitter
    reconnect_cap_s: float = 10.0
    max_pending: int = 2000
    advice_timeout_s: float = 3.0
    trace_element: int | None = None


def exchanged_keys(link: AcquirerLink | IssuerLink) -> dict[str, str]:
    """Names of the keys of a link that may be exchanged over it, by kind; a base derivation key may not."""
    derived = isinstance(link, AcquirerLink) and link.ksn_element is not None
    names = {"pin": "" if derived else link.pin_key, "mac": link.mac_key}
    return {kind: name for kind, name in names.items() if name}


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[route]]: BIN prefix of 1–8 digits → issuer link; the longest prefix wins."""

    prefix: str
    issuer: str
    country: str = ""


class FraudRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[fraud]]: matches where all that is set matches; counts and sums include the present request."""

    name: str
    action: Literal["allow", "review", "decline"]
    bin: tuple[str, ...] = ()
    currency: str = ""
    amount_over_minor: int | None = None
    count_1h_over: int | None = None
    sum_1h_over_minor: int | None = None
    count_24h_over: int | None = None
    sum_24h_over_minor: int | None = None
    merchants_24h_over: int | None = None
    same_5m_over: int | None = None
    abroad: bool | None = None
    response_code: str = "59"


class SwitchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to know."""

    settings: Settings = Settings()
    acquirers: tuple[AcquirerLink, ...] = ()
    issuers: tuple[IssuerLink, ...] = ()
    routes: tuple[Route, ...] = ()
    fraud: tuple[FraudRule, ...] = ()
    fees: FeesConfig = FeesConfig()
    merchants: tuple[MerchantConfig, ...] = ()


def switch_config(table: Mapping[str, Any], source: str = "configuration") -> SwitchConfig:
    """Read [switch], [[acquirer]], [[issuer]], [[route]], [[fraud]], [fees] and [[merchant]]; other tables are not
    looked at.

    Args:
        table: the parsed TOML file.
        source: its name, for errors.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    problems: list[str] = []
    config = SwitchConfig(
        settings=_one(table, "switch", Settings, Settings(), problems),
        acquirers=_many(table, "acquirer", AcquirerLink, problems),
        issuers=_many(table, "issuer", IssuerLink, problems),
        routes=_many(table, "route", Route, problems),
        fraud=_many(table, "fraud", FraudRule, problems),
        fees=_one(table, "fees", FeesConfig, FeesConfig(), problems),
        merchants=_many(table, "merchant", MerchantConfig, problems),
    )
    problems += _contradictions(config)
    if problems:
        raise ConfigError(source, tuple(problems))
    return config


def _one(table: Mapping[str, Any], name: str, kind: type[S], default: S, problems: list[str]) -> S:
    if name not in table:
        return default
    try:
        return msgspec.convert(table[name], kind)
    except msgspec.ValidationError as error:
        problems.append(f"[{name}]: {error}")
        return default


def _many(table: Mapping[str, Any], name: str, kind: type[S], problems: list[str]) -> tuple[S, ...]:
    rows = table.get(name, [])
    if not isinstance(rows, list):
        problems.append(f"[[{name}]]: expected a list of tables")
        return ()
    found = []
    for number, row in enumerate(rows, 1):
        label = row.get("name") or row.get("id") or row.get("prefix") if isinstance(row, dict) else None
        try:
            found.append(msgspec.convert(row, kind))
        except msgspec.ValidationError as error:
            problems.append(f"[[{name}]] {label or number}: {error}")
    return tuple(found)


def _contradictions(config: SwitchConfig) -> list[str]:
    """What each section allows by itself, but not together with the rest."""
    problems: list[str] = []
    links = [acquirer.name for acquirer in config.acquirers] + [issuer.name for issuer in config.issuers]
    problems += [
        f"link {name}: the name is used more than once" for name in sorted(set(links)) if links.count(name) > 1
    ]
    problems += [f"link {name!r}: a name must not contain '|'" for name in links if "|" in name or not name]
    for acquirer in config.acquirers:
        problems += _link_problems(acquirer.name, acquirer.listen, acquirer.dialect, acquirer.framing)
    for issuer in config.issuers:
        problems += _link_problems(issuer.name, issuer.address, issuer.dialect, issuer.framing)
        problems += [
            f"issuer {issuer.name}: {field} must be > 0"
            for field in ("deadline_s", "echo_s", "missed_echoes", "dial_timeout_s", "reconnect_s", "max_pending")
            if getattr(issuer, field) <= 0
        ]
    problems += pin_contradictions(config.acquirers, config.issuers)
    problems += _cryptogram_elements(config)
    for label, link in _labelled(config):
        if not 0 <= link.key_exchange_hours <= MAX_KEY_HOURS:
            problems.append(f"{label}: key_exchange_hours must be from 0 to {MAX_KEY_HOURS}")
        elif link.key_exchange_hours and not exchanged_keys(link):
            problems.append(f"{label}: key_exchange_hours is set, but it has no key to exchange")
    names = {issuer.name for issuer in config.issuers}
    for route in config.routes:
        if not (route.prefix.isdecimal() and 1 <= len(route.prefix) <= 8):
            problems.append(f"route {route.prefix!r}: the prefix must be 1–8 digits")
        if route.issuer not in names:
            problems.append(f"route {route.prefix}: there is no issuer {route.issuer!r}")
    for rule in config.fraud:
        for prefix in rule.bin:
            if not (prefix.isdecimal() and 1 <= len(prefix) <= 8):
                problems.append(f"fraud {rule.name}: bin {prefix!r} must be 1–8 digits, as the switch sees no more")
        if len(rule.response_code) != 2:
            problems.append(f"fraud {rule.name}: response_code must have 2 characters")
    try:
        FeeTable(config.fees, config.merchants)
    except FeeError as error:
        problems.append(str(error))
    if config.settings.metrics:
        problems += _address_problem("[switch] metrics", config.settings.metrics)
    if config.settings.max_in_flight <= 0:
        problems.append("[switch] max_in_flight must be > 0")
    return problems


def _link_problems(name: str, address: str, dialect: str, framing_name: str) -> list[str]:
    problems = _address_problem(f"link {name}", address)
    try:
        load_dialect(dialect)
        framing(framing_name)
    except (MessagesError, OSError) as error:
        problems.append(f"link {name}: {error}")
    return problems


def _labelled(config: SwitchConfig) -> list[tuple[str, AcquirerLink | IssuerLink]]:
    """All links, with what errors call them."""
    acquirers: list[tuple[str, AcquirerLink | IssuerLink]] = [(f"acquirer {x.name}", x) for x in config.acquirers]
    return acquirers + [(f"issuer {issuer.name}", issuer) for issuer in config.issuers]


def _cryptogram_elements(config: SwitchConfig) -> list[str]:
    """Elements for the cryptograms of network tokens that do not hold one."""
    problems: list[str] = []
    for link in config.acquirers:
        number = link.token_cryptogram_element
        try:
            element = load_dialect(link.dialect).elements.get(number) if number is not None else None
        except (MessagesError, OSError):
            continue  # reported with the link
        if number is not None and (element is None or element.kind != "ans" or element.characters < CRYPTOGRAM_BASE64):
            shown = "none" if element is None else element.format
            problems.append(
                f"acquirer {link.name}: token_cryptogram_element {number} of {link.dialect} is {shown}, which has no "
                f"room for a cryptogram of {CRYPTOGRAM_BASE64} characters: use one like 126"
            )
    return problems


def _address_problem(label: str, address: str) -> list[str]:
    try:
        address_of(address)
    except ValueError as error:
        return [f"{label}: {error}"]
    return []
