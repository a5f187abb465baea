"""The routing table: a card's leading digits and what is asked go in, the route comes out.

Built once from [[route]] and again at a reload; `switch.routing.choice` asks it for each request,
`switch.routing.explanation` for operators. The numbers are cut at every end of a range, so a lookup is one search in a
sorted list, and what lies between two cuts has its routes ready in the order in which they win.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

import msgspec

from switch.routing.settings import LEADING_DIGITS, MAX_OVERLAP, Route, several


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The input of conditions: MTI without its repeat digit, DE 3, alpha currency, minor units, acquirer link."""

    mti: str
    processing_code: str
    currency: str
    amount_minor: int
    acquirer: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A route ready for use.

    `rank` orders rules that fit the same number: the first whose conditions hold wins. `shared`: its `members` take
    requests in turn.
    """

    route: Route
    first: int
    last: int
    rank: tuple[int, int, int]
    targets: tuple[str, ...]
    shared: bool
    conditional: bool
    mti: frozenset[str]
    processing_code: tuple[str, ...]
    currency: frozenset[str]
    acquirer: frozenset[str]

    def objection(self, asked: Asked) -> str:
        """The condition that does not hold; "" where all do."""
        if self.mti and asked.mti not in self.mti:
            return "mti"
        if self.processing_code and not asked.processing_code.startswith(self.processing_code):
            return "processing_code"
        if self.currency and asked.currency not in self.currency:
            return "currency"
        if self.acquirer and asked.acquirer not in self.acquirer:
            return "acquirer"
        low, high = self.route.amount_from_minor, self.route.amount_to_minor
        if (low is not None and asked.amount_minor < low) or (high is not None and asked.amount_minor > high):
            return "amount"
        return ""


class RoutingTable:
    """Ranges of numbers; of those that fit the narrowest wins, then the one with more conditions, then the first.

    Attributes:
        digits: number of leading digits that the finest route needs.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.rules = tuple(_rule(route, number) for number, route in enumerate(routes))
        self.digits = max((len(rule.route.prefix or rule.route.first) for rule in self.rules), default=0)
        self._starts: list[int] = []
        self._fitting: list[tuple[Rule, ...]] = []
        self._cut()

    def find(self, leading: str, asked: Asked) -> Rule | None:
        """The rule for a card.

        Args:
            leading: its first digits, 11 where some route looks at as many.
        """
        at = bisect_right(self._starts, int(leading.ljust(LEADING_DIGITS, "0"))) - 1
        if at < 0:
            return None
        for rule in self._fitting[at]:
            if not rule.conditional or not rule.objection(asked):
                return rule
        return None

    @property
    def deepest(self) -> int:
        """The most routes that fit one number."""
        return max(map(len, self._fitting), default=0)

    def _cut(self) -> None:
        """Walk over all ends of ranges, with the rules that are open at each."""
        opening: dict[int, list[Rule]] = {}
        closing: dict[int, list[Rule]] = {}
        for rule in self.rules:
            opening.setdefault(rule.first, []).append(rule)
            closing.setdefault(rule.last + 1, []).append(rule)
        live: list[Rule] = []
        for start in sorted(opening.keys() | closing.keys()):
            for rule in closing.get(start, ()):
                live.remove(rule)
            live += opening.get(start, ())
            if len(live) > MAX_OVERLAP:
                raise ValueError(f"more than {MAX_OVERLAP} routes fit numbers that begin with {start:011d}")
            live.sort(key=attrgetter("rank"))
            self._starts.append(start)
            self._fitting.append(tuple(live))


def _rule(route: Route, number: int) -> Rule:
    first, last = route.span
    conditions = sum(bool(value) for value in route.conditions[:4]) + sum(v is not None for v in route.conditions[4:])
    return Rule(
        route=route,
        first=first,
        last=last,
        rank=(last - first, -conditions, number),
        targets=route.targets,
        shared=len(route.members) > 1,
        conditional=conditions > 0,
        mti=frozenset(several(route.mti)),
        processing_code=several(route.processing_code),
        currency=frozenset(several(route.currency)),
        acquirer=frozenset(several(route.acquirer)),
    )
