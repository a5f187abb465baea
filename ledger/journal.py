"""What the switch writes before and after a message leaves: intents, outcomes, advices.

The switch hands in an `Intent` before a request leaves for an issuer and an `Outcome` before an answer
leaves for an acquirer; each call returns once its row is durable. `ledger.writer.PostgresJournal` keeps
them in PostgreSQL, `ledger.memory.MemoryJournal` in this process; both obey this module and the same tests.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class Kind(StrEnum):
    """What a message asks for; one word for each row of the lifecycle table."""

    AUTHORIZATION = "authorization"  # 0100: a hold
    PURCHASE = "purchase"  # 0200, processing code 00: hold and capture at once
    CAPTURE = "capture"  # 0220: posts a hold, in whole or in part
    REFUND = "refund"  # 0200, processing code 20
    REVERSAL = "reversal"  # 0400, 0420
    CHARGEBACK = "chargeback"  # 0422, from the issuer
    TOMBSTONE = "tombstone"  # stands for an original that was reversed before it arrived


class Decision(StrEnum):
    """How an intent ended; decided once, by whoever inserts the outcome first."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"  # nobody knows what the issuer did: it is told to undo it


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
        amount_minor: >= 0, in minor units of `currency`.
        merchant: DE 42 without padding. terminal: DE 41. mcc: DE 18. acquirer_id: DE 32. rrn: DE 37. stan: DE 11.
        country: ISO 3166 alpha-2 of the place of sale (DE 43, last two), "" if not said.
        issuer: the link it will be sent to, "" if none could be found.
        card_country: ISO 3166 alpha-2 of the card's issuer, "" if not known; decides the international fee.
        final: of a capture: no other will follow (DE 60); what is left on hold is released.
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
    original_reference: tuple[str, datetime, str] | None = None


class History(msgspec.Struct, frozen=True):
    """What this card did before this intent (authorizations and purchases; sums in the intent's currency).

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
    """How an intent ended, with everything that must commit with it.

    Args:
        answer: elements of the answer except card data and what is echoed from the request; replayed for repeats.
        original_id: the intent that this one changes (capture, reversal, refund, chargeback), else None.
        original_seq: number of changes that the decision has seen + 1. Somebody else's change in between makes the
            outcome `stale`: read the original again and decide again. Kept for approved outcomes only: others
            change nothing.
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


class StoredIntent(msgspec.Struct, frozen=True):
    intent_id: int
    intent: Intent


class Change(msgspec.Struct, frozen=True):
    """An approved outcome that changed an original: how much of which kind.

    Args:
        amount_minor: 0 where the change itself was reversed later (a refund, say); it keeps its place in the count.
        final: nothing is left on hold after it.
        fee_minor: what it earned the platform (`platform:revenue`), < 0 where it gave back.
    """

    kind: Kind
    amount_minor: int
    final: bool
    fee_minor: int = 0


class Original(msgspec.Struct, frozen=True):
    """An intent with its outcome and every approved change so far, oldest first."""

    stored: StoredIntent
    outcome: Outcome | None
    changes: tuple[Change, ...]

    @property
    def next_seq(self) -> int:
        return len(self.changes) + 1


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
    """A stored advice that has not been acknowledged."""

    advice_id: int
    intent_id: int
    trace_id: str
    draft: AdviceDraft


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

    async def undecided(self, overdue_at: datetime, limit: int) -> list[StoredIntent]:
        """Intents without an outcome whose `deadline_at` is before `overdue_at`, oldest first."""

    async def advices(self, link: str, after_id: int, limit: int) -> list[Advice]:
        """Advices to `link` without acknowledgement, in order."""

    async def acknowledge(self, advice_id: int, response_code: str) -> None:
        """Record that the peer has answered an advice. Twice is once."""

    async def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take or extend a lease; True where `holder` has it now."""


def network_stan(intent_id: int) -> str:
    """DE 11 towards the issuer: 6 digits from the intent's number, never 000000.

    Numbers come from one sequence, so two messages in the same second never share one below 999,999/s,
    whichever worker sends them; and a restart does not start the count again.
    """
    return f"{intent_id % 999_999 + 1:06d}"
