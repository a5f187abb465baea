"""Puts rows into a test's database through the journal's own writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from console.database_roles import LEDGER
from ledger.journal import Begun, Decided, Intent, Outcome, Posting, Verdict
from ledger.sets import Writer
from tests.conftest import Database
from tests.ledger.samples import outcome


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A plain asyncpg connection."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def begin(connection: Any, intents: Sequence[Intent]) -> list[Begun]:
    """Record intents; raises what the writer would raise for a row."""
    done = []
    for result in await Writer().begin(connection, intents):
        if isinstance(result, Exception):
            raise result
        done.append(result)
    return done


async def decide(connection: Any, outcomes: Sequence[Outcome]) -> list[Decided]:
    """Record outcomes; all of them win."""
    done = []
    for result in await Writer().decide(connection, outcomes):
        if isinstance(result, Exception):
            raise result
        assert result.verdict is Verdict.WON
        done.append(result)
    return done


def store(database: Database, intents: Sequence[Intent], lines: Sequence[tuple[Posting, ...]]) -> list[int]:
    """Record intents and approve the first ones with these lines; returns the numbers."""

    async def run() -> list[int]:
        async with connected(database.dsn(LEDGER)) as connection:
            numbers = [begun.stored.intent_id for begun in await begin(connection, intents)]
            pairs = list(zip(numbers, lines, strict=False))
            await decide(connection, [outcome(number, postings=made) for number, made in pairs])
            return numbers

    return asyncio.run(run())
