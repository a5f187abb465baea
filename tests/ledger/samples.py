"""Intents, outcomes and originals for the tests of this package."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.config import FeesConfig, fee_schedule
from ledger.fees import FeeSchedule
from ledger.journal import (
    Change,
    Decision,
    Intent,
    Kind,
    Layer,
    Original,
    Outcome,
    Posting,
    StoredIntent,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
FEES: FeeSchedule = fee_schedule(FeesConfig(fixed_minor=0, dispute_fee_minor={"EUR": 1_500}))
_numbers = itertools.count(1)


def intent(**changes: Any) -> Intent:
    """An authorization of 100.00 EUR on issuer alpha, with a key of its own."""
    number = next(_numbers)
    at = changes.get("created_at", NOW)
    values: dict[str, Any] = {
        "key": f"pos|0100|20260301120000|{number:06d}|1234",
        "kind": Kind.AUTHORIZATION,
        "link": "pos",
        "mti": "0100",
        "processing_code": "000000",
        "transmitted_at": at.replace(microsecond=0),
        "created_at": at,
        "deadline_at": at + timedelta(seconds=3),
        "trace_id": f"trace{number}",
        "token": "card_1",
        "fingerprint": b"",
        "masked_pan": "424242******4242",
        "amount_minor": 10_000,
        "currency": "EUR",
        "merchant": "DEMOSHOP",
        "terminal": "TERM0001",
        "mcc": "5411",
        "country": "DE",
        "acquirer_id": "1234",
        "rrn": f"{number:012d}",
        "stan": f"{number:06d}",
        "issuer": "alpha",
    }
    return Intent(**{**values, **changes})


def hold(amount_minor: int, currency: str = "EUR") -> tuple[Posting, ...]:
    """The lines of an authorization."""
    return (
        Posting(Layer.PENDING, "issuer:alpha:receivable", amount_minor, currency),
        Posting(Layer.PENDING, "settlement:pending", -amount_minor, currency),
    )


def outcome(intent_id: int, **changes: Any) -> Outcome:
    """An approval without lines."""
    values: dict[str, Any] = {
        "intent_id": intent_id,
        "decision": Decision.APPROVED,
        "response_code": "00",
        "auth_code": "A1B2C3",
        "answer": {38: "A1B2C3", 39: "00"},
    }
    return Outcome(**{**values, **changes})


def original(
    kind: Kind = Kind.AUTHORIZATION,
    decision: Decision | None = Decision.APPROVED,
    changes: tuple[Change, ...] = (),
    amount_minor: int = 10_000,
    postings: tuple[Posting, ...] = (),
    currency: str = "EUR",
) -> Original:
    """An original in the state that the arguments say."""
    stored = StoredIntent(1, intent(kind=kind, amount_minor=amount_minor, currency=currency))
    decided = None if decision is None else outcome(1, decision=decision, postings=postings)
    return Original(stored, decided, changes)
