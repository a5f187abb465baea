"""An acquirer's totals of a business day, from requests as they end; reconciliation messages carry them.

Source: ISO 8583:1987 DE 74–77, 86–89, 97.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulators.acquirer.book import Request, State
from simulators.issuer.totals import Sums, Totals

DEBITS = frozenset({"purchase", "purchase advice", "capture"})


class DayTotals:
    """Sums by business day (MMDD) and currency."""

    def __init__(self) -> None:
        self._totals = Totals()

    @property
    def day(self) -> str:
        """The business day that is counted now; "" before the first cut-over."""
        return self._totals.day

    def cut_over(self, day: str) -> None:
        self._totals.cut_over(day)

    def of(self, day: str, currency: str) -> Sums:
        """As `simulators.issuer.totals.Totals.of`."""
        return self._totals.of(day, currency)

    def count(self, ended: Iterable[Request]) -> None:
        """Take requests that have just ended; each comes here once."""
        for request in ended:
            if request.state is not State.APPROVED:
                continue
            if request.kind in DEBITS:
                self._totals.debit("", request.currency, request.approved_minor)
            elif request.kind == "refund":
                self._totals.credit("", request.currency, request.approved_minor)
            elif request.kind == "reversal" and request.original is not None:
                self._undo(request.original)

    def _undo(self, original: Request) -> None:
        """A reversal was acknowledged; of what was never approved here there is nothing to take back."""
        if original.approved_minor and original.kind in ("purchase", "purchase advice"):
            self._totals.reverse("", original.currency, original.approved_minor)
        elif original.approved_minor and original.kind == "refund":
            self._totals.reverse("", original.currency, -original.approved_minor)
