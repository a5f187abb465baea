"""A message to the switch as a row: built and stored before it leaves, read again to repeat it.

`gateway.payments` and `gateway.refunds` call `store` inside the transaction that changes the merchant's object;
`gateway.courier` sends what `request` makes of the row. DE 2 is the surrogate and is put in at the last moment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from gateway.keys import Account
from messages.exchange import acquirer_key, de7, original_data
from messages.message import Message
from messages.money import numeric_currency
from messages.mti import repeat_mti


class Kind(StrEnum):
    AUTHORIZATION = "authorization"  # 0100
    PURCHASE = "purchase"  # 0200, processing code 00
    CAPTURE = "capture"  # 0220
    REFUND = "refund"  # 0200, processing code 20
    REVERSAL = "reversal"  # 0400 for a cancellation, 0420 where no answer came


class State(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"  # no answer came: a 0420 was stored in the same transaction


# Requests are given up and reversed after some repeats; the others are repeated until they are answered.
REQUESTS = frozenset({Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND})

ENTRY_MODE = "812"  # DE 22: electronic commerce, no PIN. Source: ISO 8583:1987 DE 22, value as the schemes use it.


class Sender(msgspec.Struct, frozen=True):
    """The gateway's part of every message: link name, DE 32, DE 41, and the holder of its rows."""

    link: str
    acquirer_id: str
    terminal: str
    holder: str
    claim_s: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message. `elements` is all of it but DE 2; `key` is `messages.exchange.acquirer_key`."""

    id: int
    account_id: str
    kind: Kind
    key: str
    mti: str
    stan: str
    transmitted_at: datetime
    amount_minor: int
    currency: str
    final: bool
    surrogate: str
    elements: dict[int, str]
    payment_intent: str
    charge: str
    refund: str | None
    original_id: int | None
    trace_id: str
    state: State
    response_code: str
    auth_code: str

    def request(self, *, repeat: bool) -> Message:
        """The message to send; repeats differ from the first in the MTI only."""
        mti = repeat_mti(self.mti) if repeat else self.mti
        return Message(mti, {2: self.surrogate, **self.elements})


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The message to send: `store` adds DE 7, DE 11 and everything that follows from the account and the original."""

    kind: Kind
    mti: str
    amount_minor: int
    currency: str
    surrogate: str
    payment_intent: str
    charge: str
    trace_id: str
    final: bool = True
    refund: str | None = None
    original: Attempt | None = None
    expiry: str = ""  # DE 14, YYMM


async def store(connection: Any, sender: Sender, account: Account, draft: Draft) -> Attempt:
    """Insert the message, pending and claimed by this process; durable when the caller's transaction is."""
    number = await connection.fetchval("SELECT nextval('gateway.stan')")
    stan = f"{number % 999_999 + 1:06d}"
    now = datetime.now(UTC)
    transmitted_at = now.replace(microsecond=0)
    row = await connection.fetchrow(
        """INSERT INTO gateway.attempts (account_id, kind, key, mti, stan, transmitted_at, amount_minor, currency,
               final, surrogate, elements, payment_intent, charge, refund, original_id, trace_id, created_at,
               claimed_by, claimed_until)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
               $18, now() + make_interval(secs => $19)) RETURNING *""",
        *(account.id, draft.kind.value),
        acquirer_key(sender.link, draft.mti, transmitted_at, stan, sender.acquirer_id, sender.terminal),
        *(draft.mti, stan, transmitted_at, draft.amount_minor, draft.currency, draft.final, draft.surrogate),
        {str(number): text for number, text in _elements(sender, account, draft, stan, transmitted_at).items()},
        *(draft.payment_intent, draft.charge, draft.refund, draft.original.id if draft.original else None),
        *(draft.trace_id, now, sender.holder, sender.claim_s),
    )
    return attempt(row)


async def fetch(connection: Any, attempt_id: int, *, lock: bool = False) -> Attempt:
    """The row as it is now. The id is one of ours: a missing row is a bug."""
    row = await connection.fetchrow(
        f"SELECT * FROM gateway.attempts WHERE id = $1{' FOR UPDATE' if lock else ''}", attempt_id
    )
    assert row is not None, attempt_id
    return attempt(row)


async def first_of(connection: Any, charge: str) -> Attempt:
    """The authorization or purchase of a charge."""
    row = await connection.fetchrow(
        "SELECT * FROM gateway.attempts WHERE charge = $1 AND kind IN ('authorization', 'purchase')", charge
    )
    assert row is not None, charge
    return attempt(row)


def attempt(row: Mapping[str, Any]) -> Attempt:
    fields = {name: row[name] for name in Attempt.__struct_fields__}
    fields["kind"], fields["state"] = Kind(row["kind"]), State(row["state"])
    fields["elements"] = {int(number): text for number, text in row["elements"].items()}
    return Attempt(**fields)


def _elements(sender: Sender, account: Account, draft: Draft, stan: str, at: datetime) -> dict[int, str]:
    original = draft.original
    elements = {
        3: original.elements[3] if original else "000000",
        4: f"{draft.amount_minor:012d}",
        7: de7(at),
        11: stan,
        12: at.strftime("%H%M%S"),
        13: at.strftime("%m%d"),
        18: account.mcc,
        22: ENTRY_MODE,
        32: sender.acquirer_id,
        # Source: ISO 8583:1987 DE 37 leaves it to the acquirer; YDDDhh and DE 11 is what most use.
        37: original.elements[37] if original else f"{at.year % 10}{at:%j%H}{stan}",
        41: sender.terminal,
        42: f"{account.merchant:<15}",
        43: card_acceptor(account),
        49: numeric_currency(draft.currency),
        63: draft.trace_id,
    }
    if draft.expiry:
        elements[14] = draft.expiry
    if draft.kind is Kind.REFUND:
        elements[3] = "200000"
    if draft.kind is Kind.CAPTURE:
        elements[60] = "F" if draft.final else "P"
    if original is not None:
        elements[90] = original_data(original.mti, original.stan, original.elements[7], sender.acquirer_id)
        if original.auth_code:
            elements[38] = original.auth_code
    return elements


def card_acceptor(account: Account) -> str:
    """DE 43: name (25), city (13), country alpha-2. Source: ISO 8583:1987 DE 43, ans 40."""
    return f"{_plain(account.name):<25.25}{_plain(account.city):<13.13}{account.country}"


def _plain(text: str) -> str:
    """`text` in printable ASCII: accents are taken off, what has no equivalent becomes a space."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return re.sub(r"[^\x20-\x7e]", " ", bare)
