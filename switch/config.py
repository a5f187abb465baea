"""The switch's part of the configuration: TOML tables in, frozen structs out.

`console/` reads the file and hands the whole table to `switch_config`; a worker gets the structs. Every problem is
found before anything starts, and all are listed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ledger.config import FeesConfig, MerchantConfig, fee_problems
from messages.currencies import CURRENCIES
from switch.errors import ConfigError
from switch.fraud_settings import FraudRule, Rates, fraud_contradictions
from switch.links.permissions import Permissions, permission_problems
from switch.links.settings import AcquirerLink, IssuerLink, address_problem, link_contradictions
from switch.message_set import FROM_ACQUIRERS, FROM_ISSUERS
from switch.pin_rules import pin_contradictions
from switch.routing.settings import (
    BreakerSettings,
    Route,
    SafSettings,
    StandIn,
    breaker_contradictions,
    routing_contradictions,
    saf_contradictions,
    stand_in_contradictions,
)
from switch.routing.table import RoutingTable

S = TypeVar("S")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[switch]: settings that all workers share. Times in seconds."""

    workers: int = 2
    metrics: str = ""  # host:port; worker n listens on port + n; "" for none
    recovery_grace_s: float = 5.0
    max_in_flight: int = 2000
    unreferenced_refunds: bool = False
    drain_s: float = 10.0
    payment_log: bool = True


class SwitchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to know."""

    settings: Settings = Settings()
    acquirers: tuple[AcquirerLink, ...] = ()
    issuers: tuple[IssuerLink, ...] = ()
    routes: tuple[Route, ...] = ()
    breakers: tuple[BreakerSettings, ...] = ()
    stand_ins: tuple[StandIn, ...] = ()
    saf: SafSettings = SafSettings()
    fraud: tuple[FraudRule, ...] = ()
    rates: Rates = Rates()
    fees: FeesConfig = FeesConfig()
    merchants: tuple[MerchantConfig, ...] = ()


def switch_config(table: Mapping[str, Any], source: str = "configuration") -> SwitchConfig:
    """Read [switch], [[acquirer]], [[issuer]], [[route]], [[breaker]], [[stand_in]], [saf], [[fraud]], [rates],
    [fees] and [[merchant]]; other tables are not looked at.

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
        breakers=_many(table, "breaker", BreakerSettings, problems),
        stand_ins=_many(table, "stand_in", StandIn, problems),
        saf=_one(table, "saf", SafSettings, SafSettings(), problems),
        fraud=_many(table, "fraud", FraudRule, problems),
        rates=_one(table, "rates", Rates, Rates(), problems),
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
        label = (
            row.get("name") or row.get("id") or row.get("prefix") or row.get("from") or row.get("issuer")
            if isinstance(row, dict)
            else None
        )
        try:
            found.append(msgspec.convert(row, kind))
        except msgspec.ValidationError as error:
            problems.append(f"[[{name}]] {label or number}: {error}")
    return tuple(found)


def _contradictions(config: SwitchConfig) -> list[str]:
    """Settings that each section allows by itself, but not together with the rest."""
    problems: list[str] = []
    problems += link_contradictions(config.acquirers, config.issuers)
    problems += _permission_contradictions(config)
    problems += pin_contradictions(config.acquirers, config.issuers)
    problems += _routing_contradictions(config)
    problems += fraud_contradictions(config.fraud, config.rates)
    problems += fee_problems(config.fees, config.merchants, _accepted(config))
    if config.settings.metrics:
        problems += address_problem("[switch] metrics", config.settings.metrics)
    if config.settings.max_in_flight <= 0:
        problems.append("[switch] max_in_flight must be > 0")
    return problems


def running_contradictions(present: SwitchConfig, taken: SwitchConfig) -> list[str]:
    """Contradictions between settings that a reload replaces and settings that need a restart.

    Args:
        present: the present configuration. taken: the same with everything that a reload replaces.
    """
    routing = (
        *routing_contradictions(taken.routes, present.issuers, present.acquirers),
        *breaker_contradictions(taken.breakers, present.issuers),
        *stand_in_contradictions(taken.stand_ins, present.issuers),
    )
    fees = fee_problems(present.fees, present.merchants, _accepted(taken))
    return [f"{problem} (of the links that run)" for problem in routing] + [
        f"{problem} (of the fees that run; other fees need a restart)" for problem in fees
    ]


def _accepted(config: SwitchConfig) -> dict[str, tuple[str, ...]]:
    """The currencies in which each acquirer link may ask for new payments; all of them where it is not restricted."""
    given = {acquirer.name: acquirer.permissions for acquirer in config.acquirers}
    return {
        name: tuple(CURRENCIES) if permissions is None or permissions.currencies is None else permissions.currencies
        for name, permissions in given.items()
    }


def _permission_contradictions(config: SwitchConfig) -> list[str]:
    """Permissions that name what cannot be, or what is no matter of an issuer."""
    problems: list[str] = []
    for acquirer in config.acquirers:
        if acquirer.permissions is not None:
            label = f"acquirer[{acquirer.name}].permissions"
            problems += permission_problems(label, acquirer.permissions, FROM_ACQUIRERS, CURRENCIES)
    for issuer in config.issuers:
        if issuer.permissions is not None:
            label = f"issuer[{issuer.name}].permissions"
            problems += permission_problems(label, issuer.permissions, FROM_ISSUERS, CURRENCIES)
            if issuer.permissions != Permissions(messages=issuer.permissions.messages):
                problems.append(f"{label}: of an issuer there are messages only: leave the others out")
    return problems


def _routing_contradictions(config: SwitchConfig) -> list[str]:
    problems = routing_contradictions(config.routes, config.issuers, config.acquirers)
    if not problems:
        try:
            RoutingTable(config.routes)
        except ValueError as error:
            problems = [f"route: {error}"]
    problems += breaker_contradictions(config.breakers, config.issuers)
    problems += stand_in_contradictions(config.stand_ins, config.issuers)
    return problems + saf_contradictions(config.saf)
