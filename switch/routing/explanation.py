"""Why a card takes the route that it takes: a number and what is known of a request go in, every rule that fits the
number comes out, with the reason why it wins or does not.

For operators (`cardswitch route explain`); pure. Unknown values of a request stay open: rules that depend on them win
only if they match. `RoutingTable.find` decides for requests; where everything is known the two say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from switch.routing.settings import LEADING_DIGITS
from switch.routing.table import RoutingTable, Rule

# `wins`; `depends`: wins if its open conditions hold; `no`: a condition does not hold; `beaten`: another one wins.
Verdict = Literal["wins", "depends", "no", "beaten"]


class Known(msgspec.Struct, frozen=True):
    """The known values of a request, as `switch.routing.table.Asked`; None for an unknown one."""

    mti: str | None = None
    processing_code: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    acquirer: str | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that fits all the numbers asked about, or a part of them.

    Args:
        number: its place in the file, from 1.
        first, last: its numbers, 11 digits; `whole`: they include all that were asked about.
        reason: why, in words.
        open: the conditions that are not known to hold.
    """

    number: int
    label: str
    first: str
    last: str
    whole: bool
    verdict: Verdict
    reason: str
    open: tuple[str, ...] = ()
    targets: tuple[tuple[str, str], ...]  # link → its part: primary, alternate 1, 70 of 100


def explained(table: RoutingTable, leading: str, known: Known) -> list[Finding]:
    """Every rule that fits, in the order in which they win.

    Args:
        leading: 1 to 11 first digits of a card; fewer than 11 ask about all numbers that begin so.
    """
    low, high = int(leading.ljust(LEADING_DIGITS, "0")), int(leading.ljust(LEADING_DIGITS, "9"))
    fitting = sorted(
        (rule for rule in table.rules if rule.first <= high and rule.last >= low), key=lambda rule: rule.rank
    )
    found: list[Finding] = []
    winner: Rule | None = None
    for rule in fitting:
        whole = rule.first <= low and rule.last >= high
        wrong, unknown = _conditions(rule, known)
        verdict: Verdict = "depends"
        if wrong:
            verdict, reason = "no", wrong
        elif winner is not None:
            verdict, reason = "beaten", f"{winner.route.label} {_why_before(winner, rule)}"
        elif unknown or not whole:
            reason = _depends(rule, unknown, whole)
        else:
            winner, verdict, reason = rule, "wins", _why_first(found)
        found.append(
            Finding(
                number=rule.rank[2] + 1,
                label=rule.route.label,
                first=f"{rule.first:0{LEADING_DIGITS}d}",
                last=f"{rule.last:0{LEADING_DIGITS}d}",
                whole=whole,
                verdict=verdict,
                reason=reason,
                open=tuple(unknown),
                targets=_targets(rule),
            )
        )
    return found


def _holds_amount(rule: Rule, amount_minor: int) -> bool:
    low, high = rule.route.amount_from_minor, rule.route.amount_to_minor
    return (low is None or amount_minor >= low) and (high is None or amount_minor <= high)


# Condition → whether the rule has it, whether a value fulfils it, and what it wants, in words.
_CONDITIONS: dict[str, tuple[Callable[[Rule], object], Callable[[Rule, str], bool], Callable[[Rule], str]]] = {
    "mti": (lambda r: r.mti, lambda r, v: v in r.mti, lambda r: _either(r.mti)),
    "processing_code": (
        lambda r: r.processing_code,
        lambda r, v: v.startswith(r.processing_code),
        lambda r: _either(r.processing_code),
    ),
    "currency": (lambda r: r.currency, lambda r, v: v in r.currency, lambda r: _either(r.currency)),
    "acquirer": (lambda r: r.acquirer, lambda r, v: v in r.acquirer, lambda r: _either(r.acquirer)),
    "amount_minor": (
        lambda r: r.route.conditions[4:] != (None, None),
        lambda r, v: _holds_amount(r, int(v)),
        lambda r: _between(r.route.amount_from_minor, r.route.amount_to_minor),
    ),
}


def _conditions(rule: Rule, known: Known) -> tuple[str, list[str]]:
    """The first condition that does not hold, in words; and those of which nobody knows."""
    unknown: list[str] = []
    for name, (has, holds, wants) in _CONDITIONS.items():
        if not has(rule):
            continue
        value = getattr(known, name)
        if value is None:
            unknown.append(f"{name} is {wants(rule)}")
        elif not holds(rule, str(value)):
            return f"{name} {value} is not {wants(rule)}", []
    return "", unknown


def _depends(rule: Rule, unknown: list[str], whole: bool) -> str:
    wanted = list(unknown)
    if not whole:
        wanted.append(f"the number is from {rule.first:0{LEADING_DIGITS}d} to {rule.last:0{LEADING_DIGITS}d}")
    return f"wins if {' and '.join(wanted)}"


def _why_first(before: list[Finding]) -> str:
    if not before:
        return "the narrowest range that fits"
    if any(finding.verdict == "depends" for finding in before):
        return "the narrowest range that fits, unless one above does"
    return "the narrowest range whose conditions hold"


def _why_before(winner: Rule, rule: Rule) -> str:
    if winner.rank[0] != rule.rank[0]:
        return "is narrower"
    return "has more conditions" if winner.rank[1] != rule.rank[1] else "comes before it in the file"


def _targets(rule: Rule) -> tuple[tuple[str, str], ...]:
    route = rule.route
    found: list[tuple[str, str]] = []
    if route.weights:
        total = sum(route.weights.values())
        found += [(name, f"{weight} of {total}") for name, weight in route.weights.items()]
        found += [(name, f"alternate {n}") for n, name in enumerate(route.alternates, 1)]
    elif rule.shared:
        found += [(name, f"1 of {len(route.members)}") for name in route.members]
    else:
        found += [(route.issuer, "primary")]
        found += [(name, f"alternate {n}") for n, name in enumerate(route.alternates, 1)]
    return tuple(found)


def _either(values: frozenset[str] | tuple[str, ...]) -> str:
    return " or ".join(sorted(values))


def _between(low: int | None, high: int | None) -> str:
    if low is None:
        return f"{high} or less"
    return f"{low} or more" if high is None else f"from {low} to {high}"
