"""A payment as simple sums, beside the real rules: the sums of a bookkeeper on paper.

`Shop` sends messages to the real decisions and a real journal; `Payment` says what must have come of each. Nothing here
uses the posting, fee or lifecycle rules. Amounts are minor units of the payment's currency.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import floor

from ledger.config import FeesConfig, FeeTable, MerchantConfig
from ledger.journal import Begun, Decision, Intent, Journal, Kind, Layer, Original, Outcome, state
from ledger.lifecycle import Standing, standing
from ledger.memory import MemoryJournal
from ledger.posting import check_postings
from switch.clock import whole_milliseconds
from switch.decisions import Decisions
from switch.meters import Meters

# Of two, no and three decimals, and one that no price names.
CURRENCIES = ("EUR", "JPY", "KWD", "HUF")
# Merchant → (rate, fixed fee and dispute fee in each of these): odd percentages, a fixed fee above small amounts, no
# fees at all. FIXED and STANDARD have amounts of their own in one currency, the common ones in the others.
TERMS = {
    "ODD": (Fraction(333, 10_000), (17, 5, 170, 0), (1_500, 2_500, 15_000, 0)),
    "FIXED": (Fraction(0), (30, 45, 33, 0), (0, 0, 0, 0)),
    "STANDARD": (Fraction(29, 1_000), (30, 45, 100, 0), (1_500, 2_500, 700, 0)),
    "FREE": (Fraction(0), (0, 0, 0, 0), (0, 0, 0, 0)),
}
# The same as the configuration says it.
FEES = FeeTable(
    FeesConfig(
        fixed_minor={"EUR": 30, "JPY": 45, "KWD": 100},
        dispute_fee_minor={"EUR": 1_500, "JPY": 2_500, "KWD": 5_000},
        other_currencies="rate-only",
    ),
    [
        MerchantConfig(
            "ODD",
            rate=Decimal("0.0333"),
            fixed_minor={"EUR": 17, "JPY": 5, "KWD": 170},
            dispute_fee_minor={"KWD": 15_000},
        ),
        MerchantConfig("FIXED", rate=Decimal("0"), fixed_minor={"KWD": 33}, dispute_fee_minor=0),
        MerchantConfig("STANDARD", dispute_fee_minor={"KWD": 700}),
        MerchantConfig("FREE", rate=Decimal("0"), fixed_minor=0, dispute_fee_minor=0),
    ],
)
INTERNATIONAL = Fraction(1, 100)
ISSUER_ASKED = (Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND, Kind.INCREMENT)
MTI = {
    Kind.AUTHORIZATION: "0100",
    Kind.INCREMENT: "0100",
    Kind.PURCHASE: "0200",
    Kind.REFUND: "0200",
    Kind.CAPTURE: "0220",
    Kind.CHARGEBACK: "0422",
}

NEVER = 10**12 - 3  # an amount that no payment has
FOLLOWING = (Kind.CAPTURE, Kind.INCREMENT, Kind.REVERSAL, Kind.REDUCTION, Kind.REFUND, Kind.CHARGEBACK)

Balances = Counter[tuple[Layer, str, str]]  # (layer, account, currency) → balance


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


@dataclass
class Refund:
    key: str
    amount: int
    fee: int


@dataclass
class Increment:
    key: str
    amount: int


@dataclass
class Payment:
    """The sums of one authorization or purchase."""

    key: str
    merchant: str
    currency: str
    issuer: str
    abroad: bool
    purchase: bool
    first: int  # approved at first
    authorized: int  # with the increments in force
    cash: int  # of it, not paid out yet
    held: int = 0
    released: int = 0
    captured: int = 0
    charged_back: int = 0
    fees_taken: int = 0
    dispute_fees: int = 0
    reversed: bool = False
    refunds: list[Refund] = field(default_factory=list)  # in force
    undone_refunds: list[Refund] = field(default_factory=list)
    increments: list[Increment] = field(default_factory=list)  # in force
    undone_increments: list[Increment] = field(default_factory=list)

    @property
    def refunded(self) -> int:
        return sum(refund.amount for refund in self.refunds)

    @property
    def fees_returned(self) -> int:
        return sum(refund.fee for refund in self.refunds)

    @property
    def left(self) -> int:
        return self.captured - self.refunded - self.charged_back

    def fee(self, amount: int, cash: int) -> int:
        rate, fixed, _ = TERMS[self.merchant]
        sold = amount - cash
        share = half_up(sold * (rate + INTERNATIONAL * self.abroad))
        return min(sold, share + fixed[CURRENCIES.index(self.currency)])

    def take(self, amount: int, stated_cash: int) -> None:
        """Money moves from the card to the merchant."""
        cash = min(stated_cash or self.cash, amount)
        self.cash -= min(self.cash, cash)
        self.captured += amount
        self.fees_taken += self.fee(amount, cash)

    def balances(self) -> Balances:
        earned = self.captured - self.fees_taken - self.refunded + self.fees_returned
        merchant = earned - self.charged_back - self.dispute_fees
        receivable = f"issuer:{self.issuer}:receivable"
        amounts = {
            (Layer.PENDING, receivable): self.held,
            (Layer.PENDING, "settlement:pending"): -self.held,
            (Layer.POSTED, receivable): self.left,
            (Layer.POSTED, f"merchant:{self.merchant}:pending"): -merchant,
            (Layer.POSTED, "platform:revenue"): self.fees_returned - self.fees_taken,
            (Layer.POSTED, "platform:dispute_fees"): -self.dispute_fees,
        }
        return Counter({(layer, account, self.currency): amount for (layer, account), amount in amounts.items()})

    def check(self) -> None:
        """Invariants at every moment, after any history."""
        sums = (self.held, self.released, self.captured, self.left, self.fees_taken, self.fees_returned, self.cash)
        assert min(sums) >= 0, self
        assert self.refunded + self.charged_back <= self.captured, self
        assert self.fees_returned <= self.fees_taken <= self.captured, self
        assert self.held + self.released + self.captured == self.authorized, self
        if self.refunded == self.captured:
            assert self.fees_returned == self.fees_taken, self


@dataclass
class Shop:
    """Sends messages to the real decisions; `booked` are the balances of all lines that were written."""

    journal: Journal
    decisions: Decisions
    booked: Balances = field(default_factory=Counter)
    last: int = 0

    # Steps of the shop. Each says whether it was booked; `check` must hold after it.

    async def authorize(self, merchant: str, amount: int, **of: object) -> Payment:
        return await self._start(Kind.AUTHORIZATION, merchant, amount, **of)

    async def purchase(self, merchant: str, amount: int, **of: object) -> Payment:
        return await self._start(Kind.PURCHASE, merchant, amount, **of)

    async def capture(self, of: Payment, amount: int, final: bool = True, cash: int = 0) -> bool:
        fits = 0 < amount <= of.held
        _, lines = await self._send(Kind.CAPTURE, of, amount, of.key, final=final, cashback_minor=cash)
        assert bool(lines) is fits, (of, amount)
        if fits:
            released = of.held - amount if final else 0
            of.held -= amount + released
            of.released += released
            of.take(amount, min(cash, amount))
        return fits

    async def increment(self, of: Payment, amount: int) -> bool:
        fits = of.held > 0
        key, lines = await self._send(Kind.INCREMENT, of, amount, of.key)
        assert bool(lines) is fits, of
        if fits:
            of.increments.append(Increment(key, amount))
            of.authorized += amount
            of.held += amount
        return fits

    async def undo_increment(self, of: Payment, which: Increment) -> bool:
        fits = which in of.increments and of.held >= which.amount and not of.reversed
        _, lines = await self._send(Kind.REVERSAL, of, 0, which.key)
        assert bool(lines) is fits, (of, which)
        if fits:
            of.increments.remove(which)
            of.undone_increments.append(which)
            of.authorized -= which.amount
            of.held -= which.amount
        return fits

    async def reduce(self, of: Payment, to: int) -> bool:
        fits = 0 < to < of.held
        states = (0, of.held, of.first)[self.last % 3]
        _, lines = await self._send(Kind.REDUCTION, of, to, of.key, stated=state({4: f"{states:012d}"}))
        assert bool(lines) is fits, (of, to)
        if fits:
            of.released += of.held - to
            of.held = to
        return fits

    async def reverse(self, of: Payment) -> bool:
        """All of it: the amount on hold, or a purchase of which nothing went back."""
        untouched = of.captured > 0 and of.left == of.captured
        fits = untouched if of.purchase else of.held > 0
        # Its DE 4 states in turn nothing, the amount that is held, the amount that was asked for.
        states = (0, of.held, 0 if of.purchase else of.first)[self.last % 3]
        _, lines = await self._send(Kind.REVERSAL, of, states, of.key)
        assert bool(lines) is fits, of
        if fits:
            of.released += of.captured if of.purchase else of.held
            of.held, of.reversed = 0, True
            if of.purchase:
                of.captured = of.fees_taken = 0
        return fits

    async def refund(self, of: Payment, amount: int) -> bool:
        fits = 0 < amount <= of.left
        key, lines = await self._send(Kind.REFUND, of, amount, of.key)
        assert bool(lines) is fits, (of, amount)
        if fits:
            fee = lines[Layer.POSTED, "platform:revenue", of.currency]
            before = of.fees_returned
            of.refunds.append(Refund(key, amount, fee))
            self._check_share(of, amount, fee, before)
        return fits

    async def refund_while_another_is_undone(self, of: Payment, amount: int, which: Refund) -> bool:
        """The issuer is asked about a refund, and meanwhile an earlier one is reversed."""
        fits = 0 < amount <= of.left
        key, begun = await self._begin(Kind.REFUND, of, amount, of.key)
        await self.undo_refund(of, which)
        lines = await self._decide(begun)
        assert bool(lines) is fits, (of, amount)
        if fits:
            fee = lines[Layer.POSTED, "platform:revenue", of.currency]
            assert 0 <= fee <= amount, of
            of.refunds.append(Refund(key, amount, fee))
        return fits

    async def undo_refund(self, of: Payment, which: Refund) -> bool:
        fits = which in of.refunds
        _, lines = await self._send(Kind.REVERSAL, of, 0, which.key)
        assert bool(lines) is fits, (of, which)
        if fits:
            of.refunds.remove(which)
            of.undone_refunds.append(which)
        return fits

    async def charge_back(self, of: Payment, amount: int) -> bool:
        fits = 0 < amount <= of.left
        _, lines = await self._send(Kind.CHARGEBACK, of, amount, of.key)
        assert bool(lines) is fits, (of, amount)
        if fits:
            of.charged_back += amount
            of.dispute_fees += TERMS[of.merchant][2][CURRENCIES.index(of.currency)]
        return fits

    async def contradict(self, of: Payment, kind: Kind, what: str) -> bool:
        """A message that names another card, currency or amount than those of its payment books nothing."""
        amount = max(1, of.left if kind in (Kind.REFUND, Kind.CHARGEBACK) else of.held - (kind is Kind.REDUCTION))
        more: dict[str, object] = {}
        if what == "card":
            more["fingerprint"] = b"o" * 16
        elif what == "currency":
            more["currency"] = "USD" if of.currency != "USD" else "EUR"
        else:
            amount = NEVER if kind is Kind.REVERSAL else amount
            more["stated"] = state({4: f"{NEVER:012d}", 1030: f"{NEVER:012d}" + "0" * 12})
        _, lines = await self._send(kind, of, amount, of.key, **more)
        assert not lines, (of, kind, what)
        return False

    async def check(self, payments: list[Payment]) -> None:
        """The journal says of all payments what they say of themselves."""
        expected: Balances = Counter()
        for payment in payments:
            payment.check()
            for account, amount in payment.balances().items():
                expected[account] += amount
        assert {k: v for k, v in self.booked.items() if v} == {k: v for k, v in expected.items() if v}
        for payment in payments:
            now = await self._standing(payment)
            known = (payment.held, payment.captured, payment.refunded, payment.charged_back)
            assert (now.held_minor, now.captured_minor, now.refunded_minor, now.charged_back_minor) == known, payment

    async def settle(self, payments: list[Payment]) -> None:
        """Give all back that can be given back: then every fee that was taken on it has gone back, too."""
        for payment in payments:
            if payment.held:
                await self.reverse(payment)
            await self.refund(payment, payment.left)
            assert payment.left == payment.held == 0
        await self.check(payments)

    @staticmethod
    def _check_share(of: Payment, amount: int, fee: int, before: int) -> None:
        """In proportion to what is refunded in all, but for what nobody can give back any more."""
        due = half_up(Fraction(of.fees_taken * of.refunded, of.captured))
        assert 0 <= fee <= amount, of
        all_of_it = of.fees_taken - before - fee == of.captured - of.refunded  # the rest of both is the same
        assert before + fee == due or (fee == 0 and before > due) or fee == amount or all_of_it, (of, fee)

    async def _standing(self, payment: Payment) -> Standing:
        found = await self._original(payment.key)
        assert found is not None
        return standing(found)

    async def _original(self, key: str) -> Original | None:
        begun = await self.journal.begin(_intent(Kind.AUTHORIZATION, key))
        return await self.journal.original(begun.stored.intent_id)

    async def _start(
        self,
        kind: Kind,
        merchant: str,
        amount: int,
        *,
        currency: str = "EUR",
        issuer: str = "alpha",
        abroad: bool = False,
        cash: int = 0,
        approved: int | None = None,
    ) -> Payment:
        self.last += 1
        payment = Payment(
            f"pos|{MTI[kind]}|20260301120000|{self.last:06d}|1", merchant, currency, issuer, abroad,
            purchase=kind is Kind.PURCHASE, first=approved or amount, authorized=approved or amount, cash=cash,
        )  # fmt: skip
        await self._send(kind, payment, amount, None, key=payment.key, cashback_minor=cash, approved=approved)
        if payment.purchase:
            payment.take(payment.authorized, cash)
        else:
            payment.held = payment.authorized
        return payment

    async def _send(
        self,
        kind: Kind,
        of: Payment,
        amount: int,
        original_key: str | None,
        approved: int | None = None,
        **more: object,
    ) -> tuple[str, Balances]:
        """One message through the real decisions; returns its key and what it has booked."""
        key, begun = await self._begin(kind, of, amount, original_key, **more)
        return key, await self._decide(begun, approved)

    async def _begin(
        self, kind: Kind, of: Payment, amount: int, original_key: str | None, **more: object
    ) -> tuple[str, Begun]:
        self.last += 1
        key = str(more.pop("key", f"pos|{MTI.get(kind, '0400')}|20260301120000|{self.last:06d}|1"))
        refers = kind in (Kind.REVERSAL, Kind.CHARGEBACK)  # these say nothing of the merchant
        given = {
            "amount_minor": amount, "currency": "" if kind is Kind.REVERSAL else of.currency, "issuer": of.issuer,
            "merchant": "" if refers else of.merchant, "original_key": original_key,
            "link": of.issuer if kind is Kind.CHARGEBACK else "pos", "country": "DE",
            "card_country": "US" if of.abroad else "DE", "fingerprint": b"m" * 16,
        }  # fmt: skip
        intent = _intent(kind, key, **(given | more))
        return key, await self.journal.begin(intent)

    async def _decide(self, begun: Begun, approved: int | None = None) -> Balances:
        if begun.stored.intent.kind in ISSUER_ASKED:
            told = {38: "123456", 39: "00" if approved is None else "10"}
            told |= {} if approved is None else {4: f"{approved:012d}"}
            outcome = await self.decisions.answered(begun.stored, begun.original, told, "", approved is not None)
        else:
            outcome = await self.decisions.change(begun.stored, begun.original)
        return self._post(outcome)

    def _post(self, outcome: Outcome) -> Balances:
        check_postings(outcome.postings)  # to zero, for each layer and currency
        assert not outcome.postings or outcome.decision is Decision.APPROVED
        lines: Balances = Counter()
        for line in outcome.postings:
            lines[line.layer, line.account, line.currency] += line.amount_minor
        for account, amount in lines.items():
            self.booked[account] += amount
        return lines


def _intent(kind: Kind, key: str, **more: object) -> Intent:
    now = NOW.now()
    values: dict[str, object] = {
        "key": key, "kind": kind, "link": "pos", "mti": MTI.get(kind, "0400"), "processing_code": "000000",
        "transmitted_at": now, "created_at": now, "deadline_at": now, "trace_id": "t", "token": "card_1",
        "masked_pan": "424242******4242",
    }  # fmt: skip
    return Intent(**{**values, **more})  # type: ignore[arg-type]


class _Noon:
    """A clock that does not go."""

    def now(self) -> datetime:
        return whole_milliseconds(datetime(2026, 3, 1, 12, tzinfo=UTC))


NOW = _Noon()


def shop_on(journal: Journal) -> Shop:
    return Shop(journal, Decisions(journal, FEES, NOW, Meters(), advised=lambda link: None))


async def _at_once() -> None:
    """A pause that is none: a walk over all sequences has no time for the scheduler."""


def shop_in_memory() -> Shop:
    return shop_on(MemoryJournal(_at_once))


def forked(shop: Shop, payment: Payment) -> tuple[Shop, Payment]:
    """A copy that goes on by itself; in memory only."""
    journal = MemoryJournal(_at_once)
    for name, value in vars(shop.journal).items():
        if isinstance(value, dict):
            setattr(journal, name, copy.copy(value))
    journal._changes = copy.copy(journal._changes)
    for number, changes in journal._changes.items():
        journal._changes[number] = dict(changes)
    journal._advice_count = shop.journal._advice_count  # type: ignore[attr-defined]
    fork = shop_on(journal)
    fork.booked, fork.last = Counter(shop.booked), shop.last
    return fork, copy.deepcopy(payment)


Step = Callable[[Shop, Payment], Awaitable[bool]]
