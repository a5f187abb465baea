"""The two journals behind one fixture: both behave in the same way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from console.database_roles import LEDGER
from ledger.journal import Journal
from ledger.memory import MemoryJournal
from ledger.writer import open_journal

Run = Callable[[Callable[[Journal], Awaitable[None]]], None]


@pytest.fixture(params=["memory", "postgres"])
def run(request: pytest.FixtureRequest) -> Run:
    """`run(test)` runs an async function with a journal, in trio."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        if request.param == "memory":
            yield MemoryJournal()
        else:
            async with open_journal(database.dsn(LEDGER)) as journal:
                yield journal

    if request.param == "postgres":
        database = request.getfixturevalue("database")

    def run(test: Callable[[Journal], Awaitable[None]]) -> None:
        async def main() -> None:
            with trio.fail_after(20):
                async with opened() as journal:
                    await test(journal)

        trio.run(main)

    return run
