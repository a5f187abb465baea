"""The journal on PostgreSQL: `async with open_journal(dsn) as journal` inside trio.

The switch calls it in trio's thread; asyncpg runs on uvloop in a thread of its own, and `ledger.lane` is the bridge.
Everything that waits goes to PostgreSQL as one set and each caller wakes when its set is durable. Calls under way when
a connection was lost are in doubt: its callers get JournalUnavailable, and a repeat with the same key settles it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import trio
import uvloop

from ledger import reader, saf
from ledger.errors import RowRefused
from ledger.floor import Floor
from ledger.journal import (
    Advice,
    Backlog,
    Begun,
    Decided,
    Intent,
    JournalUnavailable,
    Original,
    Outcome,
    StoredIntent,
    Totals,
)
from ledger.lane import Lane
from ledger.sealing import OpenSigner, Sealing
from ledger.sets import Writer

_log = logging.getLogger(__name__)

SUM_DEADLINE_S = 60.0  # for the totals of one business day
MAX_SUMS = 100  # waiting


class PostgresJournal:
    """`ledger.journal.Journal` on PostgreSQL; made by `open_journal`, for the trio run that made it."""

    def __init__(
        self,
        dsn: str,
        *,
        max_waiting: int,
        connections: int,
        max_set: int,
        deadline_s: float,
        rest_s: float,
        seal_every_s: float,
        signer: OpenSigner | None,
    ) -> None:
        self._dsn = dsn
        self._deadline_s = deadline_s
        self._sealing = Sealing(dsn, seal_every_s, deadline_s, signer)
        # A statement ends within one deadline, and its connection within another.
        self._undecided = Floor("undecided", 3 * deadline_s)
        self._links: dict[str, Floor] = {}  # by the name under which they are stored
        writer = Writer()

        def lane(execute: Any, size: int, settings: dict[str, str] | None = None, sums: bool = False) -> Lane:
            limit_s = SUM_DEADLINE_S if sums else deadline_s
            return Lane(
                execute,
                lambda: self._connect(execute, {"statement_timeout": str(int(limit_s * 1000)), **(settings or {})}),
                connections=size,
                max_waiting=MAX_SUMS if sums else max_waiting,
                max_set=1 if sums else max_set,
                deadline_s=limit_s,
                rest_s=0.0 if sums else rest_s,
            )

        # Sets differ in size only, so each statement is planned once; and it must be planned for the table that is full
        # one day, not for the empty one that it meets on the first: index lookups always.
        plans = {
            "plan_cache_mode": "force_generic_plan",
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
        }
        self._begins = lane(writer.begin, connections, plans)
        self._decisions = lane(_distinct(writer), connections, plans)
        # These look rows up, or go on from a floor: by index, too, but from there in order where many are to be joined.
        self._reads = lane(self._read, 1, {"enable_seqscan": "off"})
        # Sums over a day take their time; nothing that payments need may wait behind them. A plan of their own costs
        # 1 ms, and which is best depends on the day's part of all that there is.
        self._sums = lane(self._sum, 1, {"plan_cache_mode": "force_custom_plan"}, sums=True)

    async def begin(self, intent: Intent) -> Begun:
        """See `Journal.begin`; also raises RowRefused for a row that the database does not take."""
        if not self._decisions.is_open:
            # Lanes come back one by one: an issuer is not asked for what could not be booked when it answers.
            raise JournalUnavailable("decisions cannot be booked: PostgreSQL cannot be reached")
        begun: Begun = await self._begins.submit(intent)
        return begun

    async def decide(self, outcome: Outcome) -> Decided:
        """See `Journal.decide`; also raises RowRefused for a row that the database does not take."""
        decided: Decided = await self._decisions.submit(outcome)
        return decided

    async def original(self, intent_id: int) -> Original | None:
        """See `Journal.original`."""
        original: Original | None = await self._reads.submit(("original", intent_id))
        return original

    async def sent(self, issuer: str, at: datetime, stan: str) -> Original | None:
        """See `Journal.sent`."""
        intent_id: int | None = await self._reads.submit(("sent", issuer, at, stan))
        return None if intent_id is None else await self.original(intent_id)

    async def undecided(self, overdue_at: datetime, limit: int) -> list[StoredIntent]:
        """See `Journal.undecided`."""
        found: list[StoredIntent] = await self._reads.submit(("undecided", overdue_at, limit))
        return found

    async def advices(self, link: str, after_id: int, limit: int) -> list[Advice]:
        """See `Journal.advices`."""
        found: list[Advice] = await self._reads.submit(("advices", link, after_id, limit))
        return found

    async def park(self, advice_id: int, actor: str, reason: str) -> None:
        """See `Journal.park`."""
        await self._reads.submit(("park", advice_id, actor, reason))

    async def backlog(self, link: str, limit: int) -> Backlog:
        """See `Journal.backlog`."""
        found: Backlog = await self._reads.submit(("backlog", link, limit))
        return found

    def sealing_behind_s(self) -> dict[str, float]:
        return self._sealing.behind_s()

    async def issuer_of(self, key: str) -> tuple[str, str]:
        """See `Journal.issuer_of`."""
        found: tuple[str, str] = await self._reads.submit(("issuer_of", key))
        return found

    async def sender_of(self, key: str) -> tuple[str, str] | None:
        """See `Journal.sender_of`."""
        found: tuple[str, str] | None = await self._reads.submit(("sender_of", key))
        return found

    async def acknowledge(self, advice_id: int, response_code: str) -> None:
        """See `Journal.acknowledge`."""
        await self._reads.submit(("acknowledge", advice_id, response_code))

    async def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `Journal.lease`; by the database's clock."""
        held: bool = await self._reads.submit(("lease", name, holder, ttl_s))
        return held

    async def blocked(self, fingerprint: bytes, issuer: str) -> bool:
        """See `Journal.blocked`."""
        found: bool = await self._reads.submit(("blocked", fingerprint, issuer))
        return found

    async def business_day(self, link: str) -> datetime | None:
        """See `Journal.business_day`."""
        found: datetime | None = await self._reads.submit(("business_day", link))
        return found

    async def totals(self, link: str, business_day: datetime, acquirer_id: str | None = None) -> dict[str, Totals]:
        """See `Journal.totals`; at most 60 s."""
        found: dict[str, Totals] = await self._sums.submit((link, business_day, acquirer_id))
        return found

    async def run(self, token: trio.lowlevel.TrioToken, ready: trio.Event, stop: asyncio.Event) -> None:
        """The loop's side: keep all lanes connected until `stop` is set."""
        lanes = (self._begins, self._decisions, self._reads, self._sums)
        waiting_for = set(lanes)

        def up(lane: Lane) -> None:
            waiting_for.discard(lane)
            if not waiting_for:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(ready.set)

        tasks = [asyncio.create_task(lane.run(token, lambda lane=lane: up(lane))) for lane in lanes]  # type: ignore[misc]
        if self._sealing.every_s:
            tasks.append(asyncio.create_task(self._sealing.run()))
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, execute: Any, settings: dict[str, str]) -> Any:
        """A connection that has written an empty set: it works, the schema is there, and its plans are made."""
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._deadline_s,
            server_settings={
                "application_name": "cardswitch ledger",
                "timezone": "UTC",
                "jit": "off",
                **settings,
            },
        )
        try:
            await execute(connection, [])
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _read(self, connection: Any, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """A mixed set: originals and acknowledgements together, the rest one by one."""
        ids = {row[1] for row in rows if row[0] == "original"}
        originals = await reader.read_originals(connection, sorted(ids))
        acknowledged = [row for row in rows if row[0] == "acknowledge"]
        if acknowledged:
            codes = {row[1]: row[2] for row in acknowledged}
            await connection.execute(reader.ACKNOWLEDGE, list(codes), list(codes.values()))
        results: list[Any] = []
        for row in rows:
            match row[0]:
                case "original":
                    results.append(originals.get(row[1]))
                case "acknowledge":
                    results.append(None)
                case "sent":
                    results.append(await connection.fetchval(reader.SENT, *row[1:]))
                case "undecided":
                    results.append(await self._read_undecided(connection, row[1], row[2]))
                case "advices":
                    results.append(await self._read_advices(connection, row[1], row[2], row[3]))
                case "park":
                    results.append(await connection.fetchval(saf.PARK, *row[1:]))
                case "backlog":
                    waiting, ended = self._floor(row[1]), self._ended(row[1])
                    results.append(await saf.read_backlog(connection, row[1], waiting, ended, row[2]))
                case "issuer_of":
                    found = await connection.fetchrow(saf.ISSUER_OF, row[1])
                    results.append(("", "") if found is None else tuple(found))
                case "sender_of":
                    found = await connection.fetchrow(reader.SENDER_OF, row[1])
                    results.append(None if found is None else tuple(found))
                case "business_day":
                    results.append(await connection.fetchval(reader.BUSINESS_DAY, row[1]))
                case "blocked":
                    results.append(await connection.fetchval(reader.BLOCKED, row[1], row[2]) is True)
                case _:
                    results.append(await connection.fetchval(reader.LEASE, *row[1:]) is True)
        return results

    async def _sum(self, connection: Any, rows: Sequence[tuple[str, datetime, str | None]]) -> list[Any]:
        return [await reader.read_totals(connection, *row) for row in rows]

    async def _read_undecided(self, connection: Any, overdue_at: datetime, limit: int) -> list[StoredIntent]:
        floor = await self._undecided.value(connection)
        rows = await connection.fetch(reader.UNDECIDED, floor, overdue_at, limit)
        first_open, last = rows[0]["first_open"], rows[0]["last"]
        await self._undecided.saw(connection, last if first_open is None else first_open - 1)
        return [reader.stored_of(row) for row in rows if row["id"] is not None]

    async def _read_advices(self, connection: Any, link: str, after_id: int, limit: int) -> list[Advice]:
        floor = self._floor(link)
        done = await floor.value(connection)
        last = await connection.fetchval(reader.LAST_ADVICE, link)
        rows = await connection.fetch(reader.ADVICES, link, max(after_id, done), limit)
        if after_id <= done:
            await floor.saw(connection, rows[0]["id"] - 1 if rows else last)
        ended = await self._ended(link).value(connection)
        again = await connection.fetch(saf.RETRIED, link, max(after_id, ended), limit)
        if again:
            rows = sorted([*rows, *again], key=lambda row: int(row["id"]))[:limit]
        return [reader.advice_of(row) for row in rows]

    def _floor(self, link: str) -> Floor:
        return self._links.setdefault(f"advices {link}", Floor(f"advices {link}", 0.0))

    def _ended(self, link: str) -> Floor:
        return self._links.setdefault(f"ended {link}", Floor(f"ended {link}", 0.0))


def _distinct(writer: Writer) -> Any:
    """Outcomes for one intent that wait together go one after the other: a set decides an intent once."""

    async def execute(connection: Any, outcomes: Sequence[Outcome]) -> list[Any]:
        if len({outcome.intent_id for outcome in outcomes}) == len(outcomes):
            return list(await writer.decide(connection, outcomes))
        results: list[Any] = [None] * len(outcomes)
        rest = list(enumerate(outcomes))
        while rest:
            first = {outcome.intent_id: n for n, outcome in reversed(rest)}
            now = sorted(first.values())
            done = await writer.decide(connection, [outcomes[n] for n in now])
            for n, result in zip(now, done, strict=True):
                results[n] = result
            rest = [(n, outcome) for n, outcome in rest if first[outcome.intent_id] != n]
        return results

    return execute


@contextlib.asynccontextmanager
async def open_journal(
    dsn: str,
    *,
    max_waiting: int = 4096,
    connections: int = 2,
    max_set: int = 1024,
    deadline_s: float = 5.0,
    rest_s: float = 0.004,
    connect_timeout_s: float = 10.0,
    seal_every_s: float = 0.0,
    signer: OpenSigner | None = None,
) -> AsyncIterator[PostgresJournal]:
    """The journal, connected; on leaving, what is under way gets JournalUnavailable.

    Args:
        dsn: of the role cardswitch_ledger.
        max_waiting: calls of one kind (begin, decide, all others) that may wait; more fail at once.
        connections: sets of one kind under way at once, > 0, all but the first for when very many calls wait or a
            connection is lost; `2 * connections + 2` connections in all.
        max_set: rows in one set.
        deadline_s: for one set; a call may also wait for the set before it.
        rest_s: the pause between two sets of one kind while more than 500 calls a second come in.
        connect_timeout_s: for the first connections.
        seal_every_s: interval at which this process seals the hash chain; 0: it does not.
        signer: has the token sign these seals; None: they are not signed.

    Raises: JournalUnavailable if there is no connection within `connect_timeout_s`.
    """
    journal = PostgresJournal(
        dsn,
        max_waiting=max_waiting,
        connections=connections,
        max_set=max_set,
        deadline_s=deadline_s,
        rest_s=rest_s,
        seal_every_s=seal_every_s,
        signer=signer,
    )
    token, ready = trio.lowlevel.current_trio_token(), trio.Event()
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()

    def main() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(journal.run(token, ready, stop))

    thread = threading.Thread(target=main, name="ledger", daemon=True)
    thread.start()
    try:
        with trio.move_on_after(connect_timeout_s):
            await ready.wait()
        if not ready.is_set():
            raise JournalUnavailable("PostgreSQL cannot be reached: is it running, and is the database migrated?")
        yield journal
    finally:
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            loop.call_soon_threadsafe(stop.set)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join, deadline_s)


__all__ = ["JournalUnavailable", "PostgresJournal", "RowRefused", "open_journal"]
