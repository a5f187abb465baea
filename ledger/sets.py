"""Sets of intents and outcomes go to PostgreSQL as one call each; a result for each row comes back, in order.

`ledger.writer` calls it on its uvloop thread. A set is one transaction; where PostgreSQL refuses a set because of one
row, it is halved until that row is alone, so that it fails alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec.structs import astuple

from ledger.accounts import account_type
from ledger.errors import LedgerError, RowRefused
from ledger.journal import Begun, Decided, History, Intent, JournalUnavailable, Original, Outcome, StoredIntent, Verdict
from ledger.memory import normalised
from ledger.reader import read_originals

Row = TypeVar("Row")
Result = TypeVar("Result")

MAX_ATTEMPTS = 5
MAX_ACCOUNTS = 10_000

# The set was rolled back through no fault of its own: do it again.
RETRYABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
# A row's own fault. Everything else (a lost connection, a missing table, asyncpg in disorder) says nothing of the rows.
ROW_FAULTS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    LedgerError,
    ValueError,  # asyncpg's own DataError is one: a value that the column's type cannot carry
    TypeError,
)

_BEGIN = "SELECT * FROM ledger.begin($1, $2)"
_DECIDE = "SELECT * FROM ledger.decide($1, $2, $3)"
_NO_REFERENCE = (None, None, None)
_NO_HISTORY = History()
_encode = msgspec.json.encode


class Writer:
    """The set-based writes; one for a process, it keeps the ids of accounts.

    An empty set writes nothing, but makes a connection learn types and plans before the first payment comes.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, int] = {}

    async def begin(self, connection: Any, intents: Sequence[Intent]) -> list[Begun | Exception]:
        """Record intents; see `Journal.begin`. Results in order; a refused row has an exception."""
        return await _by_halves(lambda rows: self._begin(connection, rows), intents)

    async def decide(self, connection: Any, outcomes: Sequence[Outcome]) -> list[Decided | Exception]:
        """Record outcomes of distinct intents; see `Journal.decide`. Results as for `begin`."""
        return await _by_halves(lambda rows: self._decide(connection, rows), outcomes)

    async def _begin(self, connection: Any, intents: Sequence[Intent]) -> list[Begun | Exception]:
        cards = {intent.fingerprint for intent in intents if intent.fingerprint}
        locks = sorted({int.from_bytes(card[:8], "big", signed=True) for card in cards})
        # The fields of Intent are the columns of ledger.new_intent, in order; the last one makes three columns.
        values = [astuple(intent) for intent in intents]
        rows = await connection.fetch(_BEGIN, locks, [v[:-1] + (v[-1] or _NO_REFERENCE) for v in values])
        rows.sort(key=lambda row: row[0])
        wanted = {row[1] for row in rows if not row[2]} | {row[3] for row in rows if row[3] is not None}
        found = await read_originals(connection, sorted(wanted))
        return [_begun(intent, row, found) for intent, row in zip(intents, rows, strict=True)]

    async def _decide(self, connection: Any, outcomes: Sequence[Outcome]) -> list[Decided | Exception]:
        outcomes = [normalised(outcome) for outcome in outcomes]
        postings = [(o.intent_id, n, p) for o in outcomes for n, p in enumerate(o.postings, 1)]
        advices = [(o.intent_id, a) for o in outcomes for a in o.advices]
        accounts = await self._account_ids(connection, {p.account for _, _, p in postings})
        rows = await connection.fetch(
            _DECIDE,
            [
                (
                    o.intent_id,
                    o.decision,
                    o.response_code,
                    o.auth_code,
                    o.reason,
                    _encode(o.answer).decode(),
                    o.original_id,
                    o.original_seq,
                    o.amount_minor,
                )
                for o in outcomes
            ],
            [(i, n, accounts[p.account], p.layer, p.currency, p.amount_minor) for i, n, p in postings],
            [(i, a.link, a.mti, _encode(a.elements).decode(), a.token) for i, a in advices],
        )
        if not rows:
            return [Decided(Verdict.WON, outcome) for outcome in outcomes]
        failed = {row[0]: row[1] for row in rows}
        first = await read_originals(connection, [intent_id for intent_id, existing in failed.items() if existing])
        return [_decided(outcome, failed, first) for outcome in outcomes]

    async def _account_ids(self, connection: Any, names: set[str]) -> dict[str, int]:
        known = self._accounts
        missing = sorted(name for name in names if name not in known)
        if missing:
            types = [account_type(name).value for name in missing]
            rows = await connection.fetch("SELECT * FROM ledger.account_ids($1, $2)", missing, types)
            if len(known) + len(rows) > MAX_ACCOUNTS:
                known.clear()
                missing = sorted(names)
                types = [account_type(name).value for name in missing]
                rows = await connection.fetch("SELECT * FROM ledger.account_ids($1, $2)", missing, types)
            known.update((row["name"], row["id"]) for row in rows)
        return {name: known[name] for name in names}


def _begun(intent: Intent, row: Any, found: dict[int, Original]) -> Begun:
    _, intent_id, fresh, original_id, *history = row
    original = None if original_id is None else found.get(original_id)
    if fresh:
        card = _NO_HISTORY if history[0] is None else History(*history)
        return Begun(StoredIntent(intent_id, intent), True, card, None, original)
    existing = found[intent_id]
    return Begun(existing.stored, False, _NO_HISTORY, existing.outcome, original)


def _decided(outcome: Outcome, failed: dict[int, bool], first: dict[int, Original]) -> Decided:
    existing = failed.get(outcome.intent_id)
    if existing is None:
        return Decided(Verdict.WON, outcome)
    if not existing:
        return Decided(Verdict.STALE, outcome)
    stored = first[outcome.intent_id].outcome
    assert stored is not None
    return Decided(Verdict.LOST, stored)


async def _by_halves(
    write: Callable[[Sequence[Row]], Awaitable[list[Result | Exception]]], rows: Sequence[Row]
) -> list[Result | Exception]:
    """Write a set; on an error that is a row's own fault, its halves."""
    for attempt in range(MAX_ATTEMPTS):
        try:
            return await write(rows)
        except RETRYABLE:
            # A random pause, so that the two that met do not meet again.
            await asyncio.sleep(random.uniform(0, 0.005) * 2**attempt)
        except ROW_FAULTS as error:
            refused = error
            break
    else:
        raise JournalUnavailable(f"a set was rolled back {MAX_ATTEMPTS} times")
    if len(rows) <= 1:
        return [RowRefused(f"{type(refused).__name__}: {refused}") for _ in rows]
    middle = len(rows) // 2
    return await _by_halves(write, rows[:middle]) + await _by_halves(write, rows[middle:])
