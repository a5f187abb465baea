"""The settings of routing: [[route]], [[breaker]], [[stand_in]] and [saf] of the file, as frozen structs.

`switch.config` reads them and adds the `…_contradictions` to what it lists; a reload replaces them in a running worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from messages.amounts_by_currency import is_currency, named, table_problems
from messages.money import currency_exponent
from switch.links.settings import AcquirerLink, IssuerLink

LEADING_DIGITS = 11  # of a card number that routes may look at. Source: issue of BINs, ISO/IEC 7812-1:2017 and ranges
MIN_RANGE_DIGITS = 6
MAX_ROUTES = 50_000
MAX_OVERLAP = 64  # routes that fit one number
MAX_WEIGHT = 1000
_MAX_SUM = 2**63 - 1  # minor units; the database has no greater sums

Balance = Literal["primary", "weighted", "round-robin"]
Kinds = Literal["authorization", "purchase", "refund"]


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[route]]: leading digits of a card, with conditions → issuer links.

    `first` and `last` are `from` and `to` in the file. Of conditions with several values one must hold; amounts are in
    minor units of the request's currency, both ends included.
    """

    prefix: str = ""
    first: str = msgspec.field(default="", name="from")
    last: str = msgspec.field(default="", name="to")
    issuer: str = ""
    alternates: tuple[str, ...] = ()
    weights: dict[str, int] = {}
    balance: Balance | None = None
    country: str = ""
    mti: str | tuple[str, ...] = ()
    processing_code: str | tuple[str, ...] = ()
    currency: str | tuple[str, ...] = ()
    acquirer: str | tuple[str, ...] = ()
    amount_from_minor: int | None = None
    amount_to_minor: int | None = None

    @property
    def label(self) -> str:
        """Its name in errors and lists."""
        return f"route {self.prefix}" if self.prefix else f"route {self.first}–{self.last}"

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last number of 11 digits that it fits."""
        first, last = (self.prefix, self.prefix) if self.prefix else (self.first, self.last)
        return int(first.ljust(LEADING_DIGITS, "0")), int(last.ljust(LEADING_DIGITS, "9"))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The fewest prefixes that together have the numbers of its span."""
        return (self.prefix,) if self.prefix else tuple(_prefixes(self.first, self.last))

    @property
    def members(self) -> tuple[str, ...]:
        """The links among which traffic is shared; one where it is not."""
        if self.weights:
            return tuple(self.weights)
        return (self.issuer, *self.alternates) if self.balance == "round-robin" else (self.issuer,)

    @property
    def targets(self) -> tuple[str, ...]:
        """All links that it names, in their order."""
        return tuple(dict.fromkeys([*self.members, *self.alternates]))

    @property
    def conditions(self) -> tuple[object, ...]:
        """Its further conditions; equal for routes with the same ones."""
        named = (self.mti, self.processing_code, self.currency, self.acquirer)
        return (*(frozenset(several(value)) for value in named), self.amount_from_minor, self.amount_to_minor)


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[breaker]]: when a link is spared, and for how long; without `issuer`: of all that have none of their own.

    It opens at `failures` in a row, or where in `window_s` at least `minimum` requests ended and `ratio` of them or
    more failed; 0 for `failures` and `ratio` switches that off. A failure is an answer that did not come, or one with
    a DE 39 of `codes`.
    """

    issuer: str = ""
    failures: int = 10
    ratio: float = 0.5
    minimum: int = 20
    window_s: float = 10.0
    open_s: float = 5.0
    probes: int = 2
    codes: tuple[str, ...] = ()


class StandIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[stand_in]]: limits of approvals in an issuer's name; amounts are in minor units, tables by currency.

    Counts and sums include the present request; a currency that is not in `floor_minor` is never approved, and one that
    is has a limit in `sum_1h_minor` and `sum_24h_minor` where these have any.
    """

    issuer: str
    on_timeout: bool = False
    types: tuple[Kinds, ...] = ("authorization", "purchase")
    floor_minor: dict[str, int] = {}
    count_1h: int | None = None
    sum_1h_minor: dict[str, int] = {}
    count_24h: int | None = None
    sum_24h_minor: dict[str, int] = {}
    denied: tuple[str, ...] = ()
    denied_mcc: tuple[str, ...] = ()
    pin: Literal["decline", "approve"] = "decline"
    response_code: str = "91"


class SafSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[saf]: stored advices of each link: number of repeats, and the limits of the alarms."""

    repeats: int = 1000
    limit: int = 1000
    max_age_s: float = 3600.0


def several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """The values of a condition; () for none."""
    return value if isinstance(value, tuple) else (value,)


def denied_span(text: str) -> tuple[int, int]:
    """The numbers of 11 digits of `denied`: a prefix, or `first-last`. Raises ValueError."""
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (_digits(first, 1) and _digits(last, 1)):
        raise ValueError(f"{text!r} must be 1–{LEADING_DIGITS} digits, or two such numbers with - between them")
    span = int(first.ljust(LEADING_DIGITS, "0")), int(last.ljust(LEADING_DIGITS, "9"))
    if span[0] > span[1]:
        raise ValueError(f"{text!r} ends before it begins")
    return span


def routing_contradictions(
    routes: Sequence[Route], issuers: Sequence[IssuerLink], acquirers: Sequence[AcquirerLink] = ()
) -> list[str]:
    """Settings that each route allows by itself, but not together with the rest."""
    if len(routes) > MAX_ROUTES:
        return [f"route: there are {len(routes)}, more than {MAX_ROUTES}"]
    problems: list[str] = []
    names, ports = {issuer.name for issuer in issuers}, {acquirer.name for acquirer in acquirers}
    sound = []
    for route in routes:
        found = _span_problems(route)
        if not found:
            sound.append(route)
        found += _target_problems(route, names)
        found += _condition_problems(route, ports)
        problems += found
    return problems + _overlap_problems(sound)


def breaker_contradictions(breakers: Sequence[BreakerSettings], issuers: Sequence[IssuerLink]) -> list[str]:
    """The faults of [[breaker]]."""
    problems = _issuer_problems("breaker", [entry.issuer for entry in breakers], issuers, optional=True)
    for entry in breakers:
        label = f"breaker[{entry.issuer}]" if entry.issuer else "breaker"
        for name in ("minimum", "window_s", "open_s", "probes"):
            if getattr(entry, name) <= 0:
                problems.append(f"{label}: {name} must be > 0")
        if entry.failures < 0:
            problems.append(f"{label}: failures must be 0 or more")
        if not 0 <= entry.ratio <= 1:
            problems.append(f"{label}: ratio must be from 0 to 1")
        problems += [f"{label}: {code!r} is no DE 39" for code in entry.codes if len(code) != 2 or code == "00"]
    return problems


def stand_in_contradictions(entries: Sequence[StandIn], issuers: Sequence[IssuerLink]) -> list[str]:
    """The faults of [[stand_in]]."""
    problems = _issuer_problems("stand_in", [entry.issuer for entry in entries], issuers)
    for entry in entries:
        label = f"stand_in[{entry.issuer}]"
        for name in ("floor_minor", "sum_1h_minor", "sum_24h_minor"):
            problems += [f"{label}: {problem}" for problem in table_problems(name, getattr(entry, name), _MAX_SUM)]
        problems += [f"{label}: {problem}" for problem in _sums_without_limit(entry)]
        for name in ("count_1h", "count_24h"):
            if (getattr(entry, name) or 0) < 0:
                problems.append(f"{label}: {name} must be 0 or more")
        for text in entry.denied:
            try:
                denied_span(text)
            except ValueError as error:
                problems.append(f"{label}: denied {error}")
        problems += [
            f"{label}: denied_mcc {mcc!r} must be 4 digits" for mcc in entry.denied_mcc if not _digits(mcc, 4, 4)
        ]
        if len(entry.response_code) != 2 or entry.response_code == "00":
            problems.append(f"{label}: response_code must have 2 characters, and not be 00")
    return problems


def _sums_without_limit(entry: StandIn) -> list[str]:
    """A sum with a limit in one currency needs one in all in which stand-in approves: else another one evades it."""
    problems: list[str] = []
    for name in ("sum_1h_minor", "sum_24h_minor"):
        limits: dict[str, int] = getattr(entry, name)
        if limits and (missing := entry.floor_minor.keys() - limits.keys()):
            problems.append(f"{name} has no limit for {named(missing)}, which floor_minor allows: name it there, too")
    return problems


def saf_contradictions(settings: SafSettings) -> list[str]:
    """The faults of [saf]."""
    names = ("repeats", "limit", "max_age_s")
    return [f"[saf] {name} must be > 0" for name in names if getattr(settings, name) <= 0]


def _issuer_problems(
    section: str, named: Sequence[str], issuers: Sequence[IssuerLink], *, optional: bool = False
) -> list[str]:
    known = {issuer.name for issuer in issuers} | ({""} if optional else set())
    problems = [f"{section}: there is no issuer {name!r}" for name in named if name not in known]
    doubled = sorted({name for name in named if named.count(name) > 1})
    return problems + [f"{section}[{name}]: there are two of them" for name in doubled]


def _span_problems(route: Route) -> list[str]:
    if route.prefix:
        if route.first or route.last:
            return [f"{route.label}: either prefix, or from and to"]
        if not _digits(route.prefix, 1):
            return [f"route {route.prefix!r}: the prefix must be 1–{LEADING_DIGITS} digits"]
        return []
    if not (_digits(route.first, MIN_RANGE_DIGITS) and _digits(route.last, MIN_RANGE_DIGITS)):
        span = f"{MIN_RANGE_DIGITS}–{LEADING_DIGITS} digits"
        return [f"route {route.first!r}–{route.last!r}: it needs a prefix, or from and to with {span} each"]
    if len(route.first) != len(route.last):
        return [f"{route.label}: from and to must have the same number of digits"]
    return [] if route.first <= route.last else [f"{route.label}: it ends before it begins"]


def _target_problems(route: Route, names: set[str]) -> list[str]:
    problems: list[str] = []
    if bool(route.issuer) == bool(route.weights):
        problems.append(f"{route.label}: it needs issuer or weights, and not both")
    problems += [f"{route.label}: there is no issuer {name!r}" for name in route.targets if name and name not in names]
    if any(not 1 <= weight <= MAX_WEIGHT for weight in route.weights.values()):
        problems.append(f"{route.label}: weights must be 1–{MAX_WEIGHT}")
    if route.balance == "weighted" and not route.weights:
        problems.append(f'{route.label}: balance = "weighted" needs weights')
    if route.balance == "primary" and route.weights:
        problems.append(f'{route.label}: balance = "primary" has an issuer and alternates, no weights')
    if route.balance == "round-robin" and (route.weights or not route.alternates):
        problems.append(f'{route.label}: balance = "round-robin" needs issuer and alternates, and no weights')
    shared = route.balance == "round-robin" and not route.weights
    named = [*route.members, *(() if shared else route.alternates)]
    problems += [f"{route.label}: {name} is named twice" for name in sorted(set(named)) if named.count(name) > 1]
    return problems


def _condition_problems(route: Route, ports: set[str]) -> list[str]:
    problems: list[str] = []
    for mti in several(route.mti):
        if not (_digits(mti, 4, 4) and mti[3] == "0"):
            problems.append(f"{route.label}: mti {mti!r} must be 4 digits as in 0200, without a repeat's last digit")
    for code in several(route.processing_code):
        if not (_digits(code, 2, 6) and len(code) % 2 == 0):
            problems.append(f"{route.label}: processing_code {code!r} must be the first 2, 4 or all 6 digits of DE 3")
    for currency in several(route.currency):
        if not is_currency(currency):
            problems.append(f"{route.label}: currency {currency!r} is no currency of ISO 4217")
    for acquirer in several(route.acquirer):
        if acquirer not in ports:
            problems.append(f"{route.label}: there is no acquirer {acquirer!r}")
    low, high = route.amount_from_minor, route.amount_to_minor
    if route.country and not (len(route.country) == 2 and route.country.isascii() and route.country.isupper()):
        problems.append(f"{route.label}: country {route.country!r} must be two capital letters as in DE")
    if (low or 0) < 0 or (high is not None and high < (low or 0)):
        problems.append(f"{route.label}: amount_from_minor and amount_to_minor must be 0 or more, and in this order")
    if (low, high) != (None, None) and not several(route.currency):
        problems.append(f"{route.label}: amounts would be the same number in every currency: name those in currency")
    if (low, high) != (None, None) and len(digits := _decimals(route)) > 1:
        by_digits = "; ".join(f"{', '.join(codes)} with {number}" for number, codes in sorted(digits.items()))
        problems.append(
            f"{route.label}: amounts would be of another size in each of its currencies, which differ in decimal "
            f"places ({by_digits}): write a route for each"
        )
    return problems


def _decimals(route: Route) -> dict[int, list[str]]:
    """The currencies that a route names, by their decimal places."""
    found: dict[int, list[str]] = {}
    for currency in several(route.currency):
        if is_currency(currency):
            found.setdefault(currency_exponent(currency), []).append(currency)
    return found


def _overlap_problems(routes: Iterable[Route]) -> list[str]:
    """Routes of which nothing says which one is meant: as wide, overlapping, with the same conditions."""
    alike: dict[tuple[object, ...], list[Route]] = {}
    for route in routes:
        low, high = route.span
        alike.setdefault((high - low, *route.conditions), []).append(route)
    problems: list[str] = []
    for group in alike.values():
        group.sort(key=lambda route: route.span)
        for former, latter in pairwise(group):
            if latter.span[0] <= former.span[1]:
                same = former.span == latter.span
                how = "the same numbers" if same else "some of the same numbers, as wide,"
                problems.append(f"{latter.label}: it has {how} and the same conditions as {former.label}")
    return problems


def _prefixes(first: str, last: str) -> Iterator[str]:
    """Cut a range of equally long numbers into whole tens, hundreds, …"""
    start, end = int(first), int(last)
    while start <= end:
        zeros = 0
        while zeros < len(first) - 1 and start % 10 ** (zeros + 1) == 0 and start + 10 ** (zeros + 1) - 1 <= end:
            zeros += 1
        yield str(start).rjust(len(first), "0")[: len(first) - zeros]
        start += 10**zeros


def _digits(text: str, least: int, most: int = LEADING_DIGITS) -> bool:
    return text.isascii() and text.isdecimal() and least <= len(text) <= most
