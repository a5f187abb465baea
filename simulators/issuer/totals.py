"""An issuer's totals of a business day: bookings for each acquirer and currency, as reconciliation counts them.

The issuer's requests and advices add to them; reconciliation messages are checked against them, a network settles by
them. A request that is undone counts as itself and as its reversal.

Source: ISO 8583:1987 DE 74–79, 82–89, 97, 66.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from messages.reconciliation import agree, net_element

MAX_DAYS = 1_000  # opened; the oldest go first
MAX_SUMS = 10_000  # days × acquirers × currencies; the oldest go first


class Sums(msgspec.Struct):
    """Numbers and amounts in minor units, all >= 0; `debits` is what cardholders paid."""

    debits: int = 0
    debits_minor: int = 0
    debit_reversals: int = 0
    debit_reversals_minor: int = 0
    credits: int = 0
    credits_minor: int = 0
    credit_reversals: int = 0
    credit_reversals_minor: int = 0

    @property
    def net_minor(self) -> int:
        """Debits minus credits, reversals taken off."""
        return self.debits_minor - self.debit_reversals_minor - self.credits_minor + self.credit_reversals_minor

    def add(self, other: Sums) -> None:
        for name in Sums.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def elements(self) -> dict[int, str]:
        """DE 74–77, 86–89 and 97."""
        return {
            74: f"{self.credits:010d}",
            75: f"{self.credit_reversals:010d}",
            76: f"{self.debits:010d}",
            77: f"{self.debit_reversals:010d}",
            86: f"{self.credits_minor:016d}",
            87: f"{self.credit_reversals_minor:016d}",
            88: f"{self.debits_minor:016d}",
            89: f"{self.debit_reversals_minor:016d}",
            97: net_element(self.net_minor),
        }

    def agrees(self, elements: Mapping[int, str]) -> bool:
        """As `messages.reconciliation.agree`; ValueError for what is no number."""
        return agree(self.elements(), elements)


class SettlementLine(msgspec.Struct, frozen=True, kw_only=True):
    """Debt of an issuer for a business day: `net_minor` > 0; or its credit: < 0. The other fields as in `Sums`."""

    day: str
    issuer: str
    acquirer_id: str
    currency: str
    debits: int
    debits_minor: int
    debit_reversals: int
    debit_reversals_minor: int
    credits: int
    credits_minor: int
    credit_reversals: int
    credit_reversals_minor: int
    net_minor: int


class Totals:
    """Sums by business day (MMDD), acquirer (DE 32) and currency (alphabetic).

    Attributes:
        day: the business day that is counted now; "" before the first cut-over.
    """

    def __init__(self) -> None:
        self.day = ""
        self._opened: dict[str, None] = {}  # in the order of their cut-overs
        self._sums: dict[tuple[str, str, str], Sums] = {}

    def debit(self, acquirer_id: str, currency: str, amount_minor: int) -> None:
        sums = self._of(acquirer_id, currency)
        sums.debits += 1
        sums.debits_minor += amount_minor

    def credit(self, acquirer_id: str, currency: str, amount_minor: int) -> None:
        sums = self._of(acquirer_id, currency)
        sums.credits += 1
        sums.credits_minor += amount_minor

    def reverse(self, acquirer_id: str, currency: str, posted_minor: int, *, whole: bool = True) -> None:
        """Take `posted_minor` back: of a purchase where it is positive, of a refund where it is negative."""
        sums = self._of(acquirer_id, currency)
        if posted_minor > 0:
            sums.debit_reversals += whole
            sums.debit_reversals_minor += posted_minor
        elif posted_minor < 0:
            sums.credit_reversals += whole
            sums.credit_reversals_minor -= posted_minor

    def cut_over(self, day: str) -> None:
        """Later bookings belong to `day`; opening a day twice changes nothing."""
        self.day = day
        self._opened[day] = None
        while len(self._opened) > MAX_DAYS:
            del self._opened[next(iter(self._opened))]

    def of(self, day: str, currency: str) -> Sums:
        """The sums of a day and currency over all acquirers; those before the first cut-over for an unknown day."""
        found = Sums()
        days = {*self._opened, *(known for known, _, _ in self._sums)}
        for (known, _, held), sums in self._sums.items():
            if held == currency and known == (day if day in days else ""):
                found.add(sums)
        return found

    def settlement(self, issuer: str) -> Iterator[SettlementLine]:
        """A line for each day, acquirer and currency, oldest first."""
        for (day, acquirer_id, currency), sums in list(self._sums.items()):
            yield SettlementLine(
                day=day,
                issuer=issuer,
                acquirer_id=acquirer_id,
                currency=currency,
                net_minor=sums.net_minor,
                **msgspec.structs.asdict(sums),
            )

    def _of(self, acquirer_id: str, currency: str) -> Sums:
        key = (self.day, acquirer_id.lstrip("0"), currency)
        sums = self._sums.get(key)
        if sums is None:
            while len(self._sums) >= MAX_SUMS:
                del self._sums[next(iter(self._sums))]
            sums = self._sums[key] = Sums()
        return sums
