"""Stand-in: decisions in the name of an issuer that cannot be asked, within the limits that it has set.

`switch.online` asks `StandIns` for requests that found no fit link, and for those whose issuer was silent. The intent,
the card's history and the negative list go in, a `Verdict` comes out; `switch.decisions` books it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ledger.journal import History, Intent
from switch.routing.settings import LEADING_DIGITS, StandIn, denied_span

APPROVED = "approved"


class Facts(msgspec.Struct, frozen=True):
    """The input of the limits; `leading` are the card's first digits, `history` is without the present request."""

    intent: Intent
    history: History
    leading: str
    has_pin: bool


class Verdict(msgspec.Struct, frozen=True):
    """`reason` is `approved`, or the exceeded limit; `response_code` is DE 39.

    `spoken`: false where stand-in does not decide such a request, and the issuer gets no advice of it.
    """

    response_code: str
    reason: str
    spoken: bool = True


Limit = Callable[["_Limits", Facts], bool]  # True: it is exceeded


class _Limits:
    """The settings of one issuer, ready for use."""

    def __init__(self, settings: StandIn) -> None:
        self.settings = settings
        self.spans = [denied_span(text) for text in settings.denied]


def _type(limits: _Limits, facts: Facts) -> bool:
    return facts.intent.kind not in limits.settings.types or facts.intent.amount_minor <= 0


def _pin(limits: _Limits, facts: Facts) -> bool:
    """Nobody has verified the PIN."""
    return facts.has_pin and limits.settings.pin == "decline"


def _mcc(limits: _Limits, facts: Facts) -> bool:
    return facts.intent.mcc in limits.settings.denied_mcc


def _denied(limits: _Limits, facts: Facts) -> bool:
    """After a reload we may know fewer digits of a card than the ranges need; we deny it if any match is possible."""
    least, most = (int(facts.leading.ljust(LEADING_DIGITS, digit)) for digit in "09")
    return any(first <= most and least <= last for first, last in limits.spans)


def _floor(limits: _Limits, facts: Facts) -> bool:
    return facts.intent.amount_minor > limits.settings.floor_minor.get(facts.intent.currency, 0)


def _count_1h(limits: _Limits, facts: Facts) -> bool:
    return _over(limits.settings.count_1h, facts.history.count_1h + 1)


def _sum_1h(limits: _Limits, facts: Facts) -> bool:
    most = limits.settings.sum_1h_minor.get(facts.intent.currency)
    return _over(most, facts.history.sum_1h_minor + facts.intent.amount_minor)


def _count_24h(limits: _Limits, facts: Facts) -> bool:
    return _over(limits.settings.count_24h, facts.history.count_24h + 1)


def _sum_24h(limits: _Limits, facts: Facts) -> bool:
    most = limits.settings.sum_24h_minor.get(facts.intent.currency)
    return _over(most, facts.history.sum_24h_minor + facts.intent.amount_minor)


# In the order in which they are looked at; the first that is exceeded is the reason.
LIMITS: dict[str, Limit] = {
    "type": _type,
    "pin": _pin,
    "mcc": _mcc,
    "denied": _denied,
    "floor": _floor,
    "count_1h": _count_1h,
    "sum_1h": _sum_1h,
    "count_24h": _count_24h,
    "sum_24h": _sum_24h,
}
UNSPOKEN = "type"
BLOCKED = "blocked"  # the negative list; it is asked last, because it is in the journal


class StandIns:
    """The issuers in whose names we may answer.

    Attributes:
        digits: number of a card's leading digits that the finest denied range needs.
    """

    def __init__(self, entries: Iterable[StandIn]) -> None:
        self._limits = {entry.issuer: _Limits(entry) for entry in entries}
        denied = [text for limits in self._limits.values() for text in limits.settings.denied]
        self.digits = max((len(end) for text in denied for end in text.split("-")), default=0)

    @property
    def issuers(self) -> tuple[str, ...]:
        return tuple(self._limits)

    def speaks(self, issuer: str, *, timed_out: bool = False) -> bool:
        """Whether there is a stand-in for an issuer that is away, or silent."""
        limits = self._limits.get(issuer)
        return limits is not None and (limits.settings.on_timeout or not timed_out)

    def judge(self, facts: Facts, *, blocked: bool) -> Verdict:
        """The decision on a request.

        Args:
            blocked: whether the card is on the issuer's negative list.
        """
        limits = self._limits[facts.intent.issuer]
        code = limits.settings.response_code
        for reason, exceeded in LIMITS.items():
            if exceeded(limits, facts):
                return Verdict(code, reason, spoken=reason != UNSPOKEN)
        return Verdict(code, BLOCKED) if blocked else Verdict("00", APPROVED)


def auth_code(intent_id: int) -> str:
    """DE 38 of an approval of ours: S and five digits, so that it is known for what it is."""
    return f"S{intent_id % 100_000:05d}"


def _over(most: int | None, value: int) -> bool:
    return most is not None and value > most
