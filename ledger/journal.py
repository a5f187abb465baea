"""Records that the switch writes before and after a message leaves: intents, outcomes, advices.

The switch hands in an `Intent` before a request leaves for an issuer and an `Outcome` before an answer
leaves for an acquirer; each call returns once its row is durable. `ledger.writer.PostgresJournal` keeps
them in PostgreSQL, `ledger.memory.MemoryJournal` in this process; both obey this module and the same tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

# `Outcome.reason` of an approval that was given in the issuer's place, and of file updates that changed something.
STAND_IN = "stand_in"
CARD_BLOCKED, CARD_UNBLOCKED = "card_blocked", "card_unblocked"
# An advice of a decline: it is approved as an advice, and counts nowhere.
DECLINED_ELSEWHERE = "declined_elsewhere"


class Kind(StrEnum):
    """The request of a message; one word for each row of the lifecycle table."""

    AUTHORIZATION = "authorization"  # 0100: a hold; of zero: a look at the account. 0120: a hold decided elsewhere
    INCREMENT = "increment"  # 0100 on an approved authorization: the hold grows
    PURCHASE = "purchase"  # 0200, processing code 00: hold and capture at once. 0220: the same, decided elsewhere
    CAPTURE = "capture"  # 0220 on an authorization: posts a hold, in whole or in part
    REFUND = "refund"  # 0200, processing code 20
    INQUIRY = "inquiry"  # 0100, 0200, processing code 30 or 31: the balance of the account
    REVERSAL = "reversal"  # 0400, 0420: all of it
    REDUCTION = "reduction"  # 0400, 0420 with DE 95: a hold shrinks to a smaller amount
    CHARGEBACK = "chargeback"  # 0422, from the issuer
    TOMBSTONE = "tombstone"  # placeholder for an original that was reversed before it arrived
    FILE_UPDATE = "file_update"  # 0302, from the issuer: its negative list
    RECONCILIATION = "reconciliation"  # 0500, 0520: totals of a business day, theirs or ours
    ADMINISTRATIVE = "administrative"  # 0600, 0620: a text
    LATE_APPROVAL = "late_approval"  # 0110, 0210 from an issuer that has declined the same request before
    CUT_OVER = "cut_over"  # 0800, 0820 with DE 70 = 201: a business day of a link begins


class Decision(StrEnum):
    """The outcome of an intent; decided once, by the first insert."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"  # the issuer's decision is unknown: it gets a reversal


class Layer(StrEnum):
    """Pending lines are holds, posted lines are money."""

    PENDING = "pending"
    POSTED = "posted"


class Posting(msgspec.Struct, frozen=True):
    """One journal line: `amount_minor` > 0 debits `account`, < 0 credits it.

    `account` is a path whose first part says its type, e.g. `issuer:alpha:receivable`.
    The lines of one outcome sum to zero per layer and currency; the database enforces it.
    """

    layer: Layer
    account: str
    amount_minor: int
    currency: str


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it arrived, free of card data; durable before anything leaves for the issuer.

    Args:
        key: the acquirer's key, `messages.exchange.acquirer_key`; unique for ever.
        transmitted_at: DE 7 resolved to a full date, aware UTC.
        created_at: when the switch accepted it, aware UTC, whole milliseconds. It becomes DE 7 towards the issuer.
        token: the vault's card reference; "" where the message names no card.
        fingerprint: 16 bytes, HMAC of the PAN; b"" where there is none.
        currency: ISO 4217 alphabetic code.
        amount_minor: >= 0, in minor units of `currency`; of a reduction what is to be left on hold.
        cashback_minor: the part of it that the cardholder gets in cash.
        local_time: DE 13 and 12, MMDDhhmmss where the card was; "" where not said.
        stated: further statements of a message without an issuer's answer, as JSON of its elements free of card data,
            so that any worker can decide it later: `stated_elements`. "" for nothing.
        merchant: DE 42 without padding. terminal: DE 41. mcc: DE 18. acquirer_id: DE 32. rrn: DE 37. stan: DE 11.
        country: ISO 3166 alpha-2 of the place of sale (DE 43, last two), "" if not said.
        issuer: the link it will be sent to, "" if none could be found.
        card_country: ISO 3166 alpha-2 of the card's issuer, "" if not known; decides the international fee.
        final: of a capture: no other will follow (DE 60); the rest of the hold is released.
        deadline_at: when the answer is overdue; recovery takes the intent over some grace after it.
        original_key: acquirer's key of the message that this one refers to, if any.
        original_reference: for messages that start at an issuer: (issuer link, DE 7 of the original as it was
            sent to that issuer resolved to a date, STAN as it was sent), if any.
    """

    key: str
    kind: Kind
    link: str
    mti: str
    processing_code: str
    transmitted_at: datetime
    created_at: datetime
    deadline_at: datetime
    trace_id: str
    token: str = ""
    fingerprint: bytes = b""
    masked_pan: str = ""
    amount_minor: int = 0
    currency: str = ""
    merchant: str = ""
    terminal: str = ""
    mcc: str = ""
    country: str = ""
    acquirer_id: str = ""
    rrn: str = ""
    stan: str = ""
    issuer: str = ""
    card_country: str = ""
    final: bool = True
    original_key: str | None = None
    cashback_minor: int = 0
    local_time: str = ""
    stated: str = ""
    original_reference: tuple[str, datetime, str] | None = None


class History(msgspec.Struct, frozen=True):
    """Activity of this card before this intent (authorizations and purchases; sums in the intent's currency).

    Exact across workers: intents of one card are recorded one after the other.
    """

    count_1h: int = 0
    sum_1h_minor: int = 0
    count_24h: int = 0
    sum_24h_minor: int = 0
    merchants_24h: int = 0
    same_5m: int = 0  # same card, merchant, amount and currency within 5 minutes


class AdviceDraft(msgspec.Struct, frozen=True):
    """A message that must reach `link`, stored with the outcome that calls for it.

    `elements` holds no card data: DE 2 is put in from `token` each time it is sent.
    DE 7 and DE 11 are part of it, so that repeats are recognised as such.
    Unique on (intent, mti): a second draft of the same is ignored.
    """

    link: str
    mti: str
    elements: dict[int, str]
    token: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an intent, with everything that must commit with it.

    Args:
        answer: elements of the answer except card data and what is echoed from the request; replayed for repeats.
        original_id: the intent that this one changes (capture, reversal, refund, chargeback), else None.
        original_seq: number of changes that the decision has seen + 1. Somebody else's change in between makes the
            outcome `stale`: read the original again and decide again. Kept for approved outcomes only: others
            change nothing.
        amount_minor: the approved amount where that is not the intent's amount, else None.
        reason: one word; those above mean something to the journal.
    """

    intent_id: int
    decision: Decision
    response_code: str
    auth_code: str = ""
    reason: str = ""
    answer: dict[int, str] = {}
    postings: tuple[Posting, ...] = ()
    advices: tuple[AdviceDraft, ...] = ()
    original_id: int | None = None
    original_seq: int | None = None
    amount_minor: int | None = None


class StoredIntent(msgspec.Struct, frozen=True):
    intent_id: int
    intent: Intent


class Change(msgspec.Struct, frozen=True):
    """An approved outcome that changed an original: kind and amount.

    Args:
        amount_minor: 0 where the change itself was reversed later (a refund, say); it keeps its place in the count.
        final: nothing is left on hold after it.
        fee_minor: amount that it earned the platform (`platform:revenue`), < 0 where it gave back.
        undoes: of a reversal the key that it names: another change's where it undoes an increment.
        cashback_minor: the cash that its message states, >= 0.
    """

    kind: Kind
    amount_minor: int
    final: bool
    fee_minor: int = 0
    undoes: str = ""
    cashback_minor: int = 0


class Original(msgspec.Struct, frozen=True):
    """An intent with its outcome and every approved change so far, oldest first."""

    stored: StoredIntent
    outcome: Outcome | None
    changes: tuple[Change, ...]

    @property
    def next_seq(self) -> int:
        return len(self.changes) + 1

    @property
    def approved_minor(self) -> int:
        """The approved amount; less than the request's for a partial approval."""
        outcome = self.outcome
        asked = self.stored.intent.amount_minor
        return asked if outcome is None or outcome.amount_minor is None else outcome.amount_minor


class Begun(msgspec.Struct, frozen=True):
    """The durable intent. `fresh` is False where the key was there before: then `stored` and `outcome` are the old
    ones (outcome None: still undecided) and `history` is empty."""

    stored: StoredIntent
    fresh: bool
    history: History
    outcome: Outcome | None
    original: Original | None


class Verdict(StrEnum):
    WON = "won"  # this outcome is the durable one
    LOST = "lost"  # the intent had an outcome already; `Decided.outcome` is that one
    STALE = "stale"  # the original has changed meanwhile; nothing was written


class Decided(msgspec.Struct, frozen=True):
    verdict: Verdict
    outcome: Outcome


class Advice(msgspec.Struct, frozen=True):
    """A stored advice that has not been acknowledged.

    `refusal` says why it must not be sent: the row was not written by a version of the switch (`ledger.advice_demand`).
    It is "" for all others.
    """

    advice_id: int
    intent_id: int
    trace_id: str
    draft: AdviceDraft
    refusal: str


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers and amounts (minor units) of a business day in one currency, all >= 0.

    Debits are purchases and captures, credits are refunds; of reversals those of purchases and of refunds count.
    """

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
        """Debits less credits, reversals taken off: > 0 is what cardholders have paid in all."""
        return self.debits_minor - self.debit_reversals_minor - self.credits_minor + self.credit_reversals_minor

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class Backlog(msgspec.Struct, frozen=True):
    """Advices of a link without an answer: those that wait, those that are parked, and for how long the first of those
    that wait has done so."""

    waiting: int = 0
    parked: int = 0
    oldest_s: float = 0.0


class JournalUnavailable(Exception):
    """The store cannot be reached or its queue is full; nothing is known to be written. Decline with 96."""


class Journal(Protocol):
    """Strongly consistent store of intents, outcomes and advices. All methods raise JournalUnavailable."""

    async def begin(self, intent: Intent) -> Begun:
        """Record an intent, or find the one with its key; durable on return."""

    async def decide(self, outcome: Outcome) -> Decided:
        """Record an outcome with its postings and advices, or find the one that was first; durable on return."""

    async def original(self, intent_id: int) -> Original | None:
        """The present state of an intent, read again after `stale` or while a repeat waits."""

    async def sent(self, issuer: str, at: datetime, stan: str) -> Original | None:
        """The present state of the intent that went to an issuer link with a DE 7 (to the second) and a DE 11."""

    async def undecided(self, overdue_at: datetime, limit: int) -> list[StoredIntent]:
        """Intents without an outcome whose `deadline_at` is before `overdue_at`, oldest first."""

    async def advices(self, link: str, after_id: int, limit: int) -> list[Advice]:
        """Advices to `link` without acknowledgement, in order."""

    async def park(self, advice_id: int, actor: str, reason: str) -> None:
        """Put an advice aside until an operator has it sent again or dropped. Twice is once."""

    async def backlog(self, link: str, limit: int) -> Backlog:
        """Number of advices that `link` has not answered; of the waiting ones, about `limit` are counted."""

    def sealing_behind_s(self) -> dict[str, float]:
        """Seconds since everything had its `seals`, and these their `macs`; empty where this process does not seal."""

    async def issuer_of(self, key: str) -> tuple[str, str]:
        """The issuer link and the card's country of the intent with a key; ("", "") where there is none."""

    async def sender_of(self, key: str) -> tuple[str, str] | None:
        """DE 32 and DE 41 of the intent with a key, "" for what it lacks; None where there is no such intent."""

    async def acknowledge(self, advice_id: int, response_code: str) -> None:
        """Record that the peer has answered an advice. Twice is once."""

    async def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take or extend a lease; True where `holder` has it now."""

    async def blocked(self, fingerprint: bytes, issuer: str) -> bool:
        """Whether a card is on the negative list of an issuer: its last file update put it there."""

    async def business_day(self, link: str) -> datetime | None:
        """Midnight, UTC, of the business day that the link's last approved cut-over opened; None before the first."""

    async def totals(self, link: str, business_day: datetime, acquirer_id: str | None = None) -> dict[str, Totals]:
        """Amounts booked for a link in a business day, by currency.

        Args:
            link: an acquirer's or an issuer's.
            business_day: its midnight, UTC. The day goes from the link's last cut-over to it, or to a day before it,
                up to the next cut-over; from the first outcome where there was none.
            acquirer_id: only payments with this DE 32 and their changes; leading zeros do not count, "" is payments
                without one. None: all of the link.
        """


_stated = msgspec.json.Decoder(dict[int, str])


def state(elements: Mapping[int, str]) -> str:
    """Elements as `Intent.stated`."""
    return msgspec.json.encode(elements).decode() if elements else ""


def stated_elements(intent: Intent) -> dict[int, str]:
    """The stated elements of an intent, by number."""
    return _stated.decode(intent.stated) if intent.stated else {}


def network_stan(intent_id: int) -> str:
    """DE 11 towards the issuer: 6 digits from the intent's number, never 000000.

    Numbers come from one sequence, so two messages in the same second never share one below 999,999/s,
    whichever worker sends them; and a restart does not start the count again.
    """
    return f"{intent_id % 999_999 + 1:06d}"
