"""Which link a request takes: routes, links and circuit breakers go in, the first link that is fit comes out.

`switch.online` asks before a request is recorded, because the intent names the link that a reversal must go to. Never
again after that: once something may have been sent, another link could only make it happen twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec
import structlog

from switch.meters import Meters
from switch.routing.breaker import Breaker, Circuit
from switch.routing.settings import BreakerSettings, Route
from switch.routing.table import Asked, RoutingTable, Rule

log = structlog.get_logger("switch.routing")

NOT_FIT, CIRCUIT_OPEN = "issuer_down", "circuit_open"
# A circuit as a number, for the gauge.
LEVELS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}


class Line(Protocol):
    """The state of a link as the choice needs it."""

    @property
    def fit(self) -> bool: ...


class Taken(msgspec.Struct, frozen=True, gc=False):
    """The link of a request.

    `country` is the card's, alpha-2. `unfit` is why nothing can be sent to it, "" where it can. `probe` is the number
    of the trial where the request tries a half-open link, else 0.
    """

    issuer: str
    country: str = ""
    unfit: str = ""
    probe: int = 0


class Choice:
    """Chooses links in one worker.

    Args:
        lines: issuer links by name.
        spoken_for: links in whose name we may answer; where none is fit, the first of them is taken.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        breakers: Iterable[BreakerSettings],
        lines: Mapping[str, Line],
        spoken_for: Iterable[str],
        meters: Meters,
    ) -> None:
        self.breakers: dict[str, Breaker] = {}
        self._lines = lines
        self._meters = meters
        self.use(RoutingTable(routes), breakers, spoken_for)

    def use(self, table: RoutingTable, breakers: Iterable[BreakerSettings], spoken_for: Iterable[str]) -> None:
        """Go on with other settings; a breaker whose settings are the same keeps its state."""
        self.table = table
        self._spoken_for = frozenset(spoken_for)
        self._turns: dict[int, dict[str, int]] = {}  # by id of the rule: share that each member has got beyond its own
        settings = {entry.issuer: entry for entry in breakers}
        general = settings.get("", BreakerSettings())
        for name in self._lines:
            wanted, present = settings.get(name, general), self.breakers.get(name)
            if present is None or present.settings != wanted:
                self.breakers[name] = Breaker(wanted, present)

    def by_number(
        self, leading: str, asked: Asked, now: float, until: float, table: RoutingTable | None = None
    ) -> Taken | None:
        """The link for a card; None where no route fits.

        Args:
            leading: its first digits, as many as `table.digits` at least.
            now: seconds on trio's clock.
            until: when the request is given up at the latest.
            table: the one that `leading` was asked for, where there may be another by now.
        """
        rule = (table or self.table).find(leading, asked)
        if rule is None:
            return None
        country = rule.route.country
        for name in self._in_turn(rule, now) if rule.shared else rule.targets:
            if self._lines[name].fit and self.breakers[name].admits(now):
                return Taken(name, country, "", self.breakers[name].begin(until))
        name = next((name for name in rule.targets if name in self._spoken_for), rule.targets[0])
        return Taken(name, country, self._objection(name, now))

    def by_name(self, issuer: str, country: str, now: float, until: float) -> Taken:
        """The link that an original went to: later messages must follow it."""
        unfit = self._objection(issuer, now)
        return Taken(issuer, country, unfit, 0 if unfit else self.breakers[issuer].begin(until))

    def withdrawn(self, taken: Taken) -> None:
        """Nothing was sent."""
        self.breakers[taken.issuer].withdrawn(taken.probe)

    def ended(self, taken: Taken, now: float, response_code: str | None) -> None:
        """A request that was sent has ended.

        Args:
            response_code: DE 39 of the answer; None where there was none in time.
        """
        breaker = self.breakers[taken.issuer]
        well = response_code is not None and response_code not in breaker.settings.codes
        failed, ended = (0, 0) if well else breaker.failing(now)
        state = breaker.ended(now, well=well, probe=taken.probe)
        if state is None:
            return
        self._meters.count("circuit_changes", taken.issuer, state)
        tell = log.critical if state is Circuit.OPEN else log.warning
        tell(f"circuit_{state}", link=taken.issuer, failed=failed + (not well), ended=ended + 1)

    def levels(self) -> dict[str, float]:
        """For the gauge: 0 closed, 1 half-open, 2 open."""
        return {name: LEVELS[breaker.state] for name, breaker in self.breakers.items()}

    def _objection(self, name: str, now: float) -> str:
        if not self._lines[name].fit:
            return NOT_FIT
        return "" if self.breakers[name].admits(now) else CIRCUIT_OPEN

    def _in_turn(self, rule: Rule, now: float) -> Iterator[str]:
        """The member whose turn it is among those that are fit, the other members, the alternates.

        Each turn every fit member gains its weight, and the one that has most pays the sum: shares come out exact, and
        evenly spread.
        """
        route = rule.route
        weights = route.weights or dict.fromkeys(route.members, 1)
        fit = [name for name in weights if self._lines[name].fit and self.breakers[name].admits(now)]
        if fit:
            credit = self._turns.setdefault(id(rule), {})
            for name in fit:
                credit[name] = credit.get(name, 0) + weights[name]
            chosen = max(fit, key=credit.__getitem__)
            credit[chosen] -= sum(weights[name] for name in fit)
            yield chosen
        yield from rule.targets
