"""Results of an acquirer's run: requests with their final state go in, counts and percentiles by kind come out."""

from __future__ import annotations

from array import array

import msgspec

from simulators.acquirer.book import Request, State

QUANTILES = {"p50_ms": 0.50, "p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}


class KindReport(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, or all of them.

    Args:
        count: number of sent ones; approved, declined, reversed, other (abandoned, unresolved, without a final state):
            their results. repeated: number sent more than once.
        p50_ms … max_ms: from sending to the end, of those that were answered without a repeat; 0 where there are none.
    """

    kind: str
    count: int
    approved: int
    declined: int
    reversed: int
    other: int
    repeated: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class AcquirerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Args:
        seconds: from the first request to the last end; per_s: requests a second.
        answers: counts by DE 39. unanswered: left alone after every attempt.
        received: counts of the switch's messages (chargebacks, echoes, keys).
        lines: of the book; unsettled: those whose end the acquirer does not know.
    """

    name: str
    seconds: float
    per_s: float
    requests: int
    unanswered: int
    answers: dict[str, int]
    received: int
    lines: int
    unsettled: int
    total: KindReport
    kinds: list[KindReport]


class Tally:
    """Counts requests as they end."""

    def __init__(self) -> None:
        self.unanswered = 0
        self.answers: dict[str, int] = {}
        self._kinds: dict[str, _Kind] = {}

    def count(self, request: Request, took_s: float | None) -> None:
        """Take one request; `took_s` from sending to its answer, None where it was repeated or never answered."""
        kind = self._kinds.setdefault(request.kind, _Kind())
        kind.count += 1
        kind.repeated += request.repeats > 0
        name = _BECAME.get(request.state, "other")
        kind.became[name] = kind.became.get(name, 0) + 1
        if took_s is not None:
            kind.took.append(took_s)
        if code := request.response_code:
            self.answers[code] = self.answers.get(code, 0) + 1

    def kinds(self) -> list[KindReport]:
        """One row a kind that was sent, the most frequent first."""
        rows = [kind.report(name) for name, kind in self._kinds.items()]
        return sorted(rows, key=lambda row: (-row.count, row.kind))

    def total(self) -> KindReport:
        whole = _Kind()
        for kind in self._kinds.values():
            whole.count += kind.count
            whole.repeated += kind.repeated
            whole.took.extend(kind.took)
            for name, number in kind.became.items():
                whole.became[name] = whole.became.get(name, 0) + number
        return whole.report("all")


class _Kind:
    def __init__(self) -> None:
        self.count = self.repeated = 0
        self.became: dict[str, int] = {}
        self.took = array("d")

    def report(self, name: str) -> KindReport:
        ordered = sorted(self.took)
        return KindReport(
            kind=name,
            count=self.count,
            approved=self.became.get("approved", 0),
            declined=self.became.get("declined", 0),
            reversed=self.became.get("reversed", 0),
            other=self.became.get("other", 0),
            repeated=self.repeated,
            **{quantile: percentile_ms(ordered, share) for quantile, share in QUANTILES.items()},
        )


_BECAME = {State.APPROVED: "approved", State.DECLINED: "declined", State.REVERSED: "reversed"}


def percentile_ms(ordered: list[float], share: float) -> float:
    """A percentile of sorted seconds, in milliseconds; 0 where there are none."""
    if not ordered:
        return 0.0
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
