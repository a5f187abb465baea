"""ledger.writer and ledger.lane: group commit, limits, cancellation, and what happens when PostgreSQL goes away."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trio

from console.database_roles import LEDGER, OWNER
from console.migration import migrate
from console.postgresql import EmbeddedPostgres, role_passwords
from ledger.floor import Floor
from ledger.journal import AdviceDraft, Intent, JournalUnavailable, Kind, Outcome, Totals, Verdict, network_stan
from ledger.sets import Writer, _by_halves
from ledger.writer import PostgresJournal, open_journal
from tests.conftest import Database
from tests.ledger.samples import NOW, hold, intent, outcome
from tests.ledger.store import begin, connected, decide
from tests.state import new_state

CARD = b"\x01" * 16
KILL = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'cardswitch ledger'"""


async def settled(journal: PostgresJournal, message: Intent) -> int:
    """Begin and decide as a caller that repeats until it knows; returns the intent's number."""
    while True:
        try:
            begun = await journal.begin(message)
            number = begun.stored.intent_id
            decided = await journal.decide(outcome(number, postings=hold(100)))
            assert decided.verdict in (Verdict.WON, Verdict.LOST)
            return number
        except JournalUnavailable:
            await trio.sleep(0.01)


async def leased(journal: PostgresJournal) -> bool:
    """A lease, as a caller that asks until the lane of reads is there."""
    while True:
        try:
            return await journal.lease("x", "me", 1)
        except JournalUnavailable:
            await trio.sleep(0.01)


async def refusal(journal: PostgresJournal, why: str) -> None:
    """Open intents until one is refused for `why`."""
    while True:
        try:
            await journal.begin(intent())
        except JournalUnavailable as error:
            if why in str(error):
                return
        await trio.sleep(0.01)


async def in_asyncio(function: Callable[[], Awaitable[Any]]) -> Any:
    """asyncpg for the test itself, in a thread with a loop of its own."""
    return await trio.to_thread.run_sync(lambda: asyncio.run(function()))  # type: ignore[arg-type]


@asynccontextmanager
async def card_locked(database: Database) -> AsyncIterator[None]:
    """Somebody else holds the lock of CARD: a set with it waits."""

    held, release = threading.Event(), threading.Event()

    async def hold_lock() -> None:
        async with connected(database.dsn(OWNER)) as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", int.from_bytes(CARD[:8], "big"))
            held.set()
            await asyncio.to_thread(release.wait)

    thread = threading.Thread(target=lambda: asyncio.run(hold_lock()))
    thread.start()
    await trio.to_thread.run_sync(held.wait)
    try:
        yield
    finally:
        release.set()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)


async def count(database: Database, sql: str, *arguments: Any) -> Any:
    async def query() -> Any:
        async with connected(database.dsn(OWNER)) as connection:
            return await connection.fetchval(sql, *arguments)

    return await in_asyncio(query)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            await test()

    trio.run(main)


def test_many_calls_share_few_sets(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Writer.begin

    async def counted(self: Writer, connection: Any, intents: Any) -> Any:
        sizes.append(len(intents))
        return await original(self, connection, intents)

    monkeypatch.setattr(Writer, "begin", counted)

    async def test() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal, trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(journal.begin, intent())

    run(test)
    assert sum(sizes) == 300
    assert len(sizes) < 60


def test_killed_connections_lose_nothing(database: Database) -> None:
    async def test() -> None:
        numbers: list[int] = []
        messages = [intent(fingerprint=CARD) for _ in range(600)]

        async with open_journal(database.dsn(LEDGER)) as journal:

            async def caller(mine: list[Intent]) -> None:
                for message in mine:
                    numbers.append(await settled(journal, message))

            async with trio.open_nursery() as nursery:
                for n in range(20):
                    nursery.start_soon(caller, messages[n::20])
                killed = 0
                for _ in range(4):
                    await trio.sleep(0.03)
                    killed += await count(database, KILL)
        assert killed > 0
        assert len(set(numbers)) == 600
        assert await count(database, "SELECT count(*) FROM ledger.intents") == 600
        assert await count(database, "SELECT count(*) FROM ledger.outcomes") == 600
        assert await count(database, "SELECT count(*) FROM ledger.postings") == 1200

    run(test)


def test_history_is_exact_across_workers(database: Database) -> None:
    async def test() -> None:
        seen: list[tuple[int, int]] = []

        async def one(journal: PostgresJournal) -> None:
            begun = await journal.begin(intent(fingerprint=CARD))
            seen.append((begun.stored.intent_id, begun.history.count_24h))

        async with (
            open_journal(database.dsn(LEDGER)) as first,
            open_journal(database.dsn(LEDGER)) as second,
            trio.open_nursery() as nursery,
        ):
            for n in range(200):
                nursery.start_soon(one, first if n % 2 else second)
        assert [earlier for _, earlier in sorted(seen)] == list(range(200))

    run(test)


def test_a_full_queue_refuses_at_once(database: Database) -> None:
    async def test() -> None:
        refused = 0

        async def one(journal: PostgresJournal) -> None:
            nonlocal refused
            try:
                await journal.begin(intent(fingerprint=CARD))
            except JournalUnavailable:
                refused += 1

        async with open_journal(database.dsn(LEDGER), max_waiting=5, connections=1, max_set=1) as journal:
            async with trio.open_nursery() as nursery, card_locked(database):
                nursery.start_soon(one, journal)
                await trio.sleep(0.1)  # under way, on the only connection
                for _ in range(8):
                    nursery.start_soon(one, journal)
                await trio.sleep(0.1)
                assert refused == 3
            assert refused == 3
        assert await count(database, "SELECT count(*) FROM ledger.intents") == 6

    run(test)


def test_a_cancelled_callers_row_stays_in_its_set(database: Database) -> None:
    async def test() -> None:
        mine, other = intent(fingerprint=CARD), intent(fingerprint=CARD)
        async with open_journal(database.dsn(LEDGER)) as journal:
            async with trio.open_nursery() as nursery, card_locked(database):
                nursery.start_soon(journal.begin, other)
                with trio.move_on_after(0.1) as scope:
                    await journal.begin(mine)
                assert scope.cancelled_caught
            again = await journal.begin(mine)
            assert not again.fresh

    run(test)


def test_a_call_has_a_deadline_and_the_journal_goes_on(database: Database) -> None:
    async def test() -> None:
        async with open_journal(database.dsn(LEDGER), deadline_s=0.3) as journal:
            async with card_locked(database):
                started = trio.current_time()
                with pytest.raises(JournalUnavailable):
                    await journal.begin(intent(fingerprint=CARD))
                assert trio.current_time() - started < 2
                assert (await journal.begin(intent())).fresh
            assert (await journal.begin(intent(fingerprint=CARD))).history.count_24h == 0

    run(test)


def test_leaving_does_not_hang_with_calls_under_way(database: Database) -> None:
    async def test() -> None:
        refused = []

        async def one(journal: PostgresJournal) -> None:
            try:
                await journal.begin(intent(fingerprint=CARD))
            except JournalUnavailable as error:
                refused.append(str(error))

        async with (
            card_locked(database),
            trio.open_nursery() as nursery,
            open_journal(database.dsn(LEDGER), connections=1, max_set=1) as journal,
        ):
            for _ in range(3):
                nursery.start_soon(one, journal)
            await trio.sleep(0.1)
        assert len(refused) == 3

    run(test)


def test_no_server_is_said_at_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(JournalUnavailable, match="cannot be reached"):
            async with open_journal(f"postgresql://x@/x?host={tmp_path}", connect_timeout_s=0.3):
                pass

    run(test)


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    state = new_state("test")
    server = EmbeddedPostgres(state, settings={"fsync": "off", "shared_buffers": "32MB"})
    try:
        server.start()
        asyncio.run(migrate(server.dsn(OWNER), role_passwords(state)))
        yield server
    finally:
        server.destroy()
        shutil.rmtree(state, ignore_errors=True)


def test_the_server_goes_away_and_comes_back(own_server: EmbeddedPostgres) -> None:
    async def test() -> None:
        async with open_journal(own_server.dsn(LEDGER)) as journal:
            message = intent()
            first = await settled(journal, message)
            await trio.to_thread.run_sync(own_server.stop)
            await trio.sleep(0.05)
            for _ in range(3):
                started = time.monotonic()
                with pytest.raises(JournalUnavailable):
                    await journal.begin(intent())
                assert time.monotonic() - started < 0.5
            await trio.to_thread.run_sync(own_server.start)
            assert await settled(journal, message) == first
            # Each lane comes back by itself: at the latest after the longest pause, 1 s, and the time to connect.
            with trio.fail_after(5):
                assert await leased(journal)

    run(test)


def test_no_intent_is_opened_while_its_decision_could_not_be_booked(database: Database) -> None:
    async def test() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            message = intent()
            first = await settled(journal, message)
            await count(database, "REVOKE EXECUTE ON FUNCTION ledger.decide FROM cardswitch_ledger")
            assert await count(database, KILL) > 0
            with trio.fail_after(5):
                await refusal(journal, "decisions cannot be booked")
                before = await count(database, "SELECT count(*) FROM ledger.intents")
                assert await leased(journal)  # the server is there, and the other lanes are
                for _ in range(20):
                    await refusal(journal, "decisions cannot be booked")
            assert await count(database, "SELECT count(*) FROM ledger.intents") == before
            await count(database, "GRANT EXECUTE ON FUNCTION ledger.decide TO cardswitch_ledger")
            assert await settled(journal, message) == first

    run(test)


def test_advices_become_visible_in_order_to_a_reader_that_goes_on(database: Database) -> None:
    async def test() -> None:
        seen: list[int] = []

        async def write(journal: PostgresJournal, n: int) -> None:
            begun = await journal.begin(intent())
            advice = AdviceDraft("alpha", "0420", {11: f"{n:06d}"}, "card_1")
            await journal.decide(outcome(begun.stored.intent_id, advices=(advice,)))

        async def read(journal: PostgresJournal) -> None:
            while len(seen) < 200:
                found = await journal.advices("alpha", seen[-1] if seen else 0, 50)
                seen.extend(advice.advice_id for advice in found)

        async with (
            open_journal(database.dsn(LEDGER), max_set=8) as first,
            open_journal(database.dsn(LEDGER), max_set=8) as second,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(read, first)
            for n in range(200):
                nursery.start_soon(write, first if n % 2 else second, n)
        assert len(set(seen)) == 200
        assert seen == sorted(seen)

    run(test)


def test_sets_that_were_rolled_back_are_written_again() -> None:
    attempts = 0

    async def write(rows: Any) -> list[Any]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return list(rows)

    assert asyncio.run(_by_halves(write, [1, 2, 3])) == [1, 2, 3]
    assert attempts == 3

    async def never(rows: Any) -> list[Any]:
        raise asyncpg.DeadlockDetectedError("deadlock detected")

    with pytest.raises(JournalUnavailable, match="rolled back"):
        asyncio.run(_by_halves(never, [1]))


def test_of_a_set_only_the_guilty_rows_are_refused() -> None:
    async def write(rows: Any) -> list[Any]:
        if any(row < 0 for row in rows):
            raise ValueError("negative")
        return list(rows)

    results = asyncio.run(_by_halves(write, [1, -2, 3, 4, -5]))
    assert [str(result) for result in results] == ["1", "ValueError: negative", "3", "4", "ValueError: negative"]


class _Store:
    """Stands for a connection with a stored floor."""

    def __init__(self, stored: int) -> None:
        self.stored = [stored]

    async def fetchval(self, sql: str, name: str) -> int:
        return max(self.stored)

    async def execute(self, sql: str, name: str, up_to: int) -> None:
        self.stored.append(up_to)


def test_a_floor_rises_only_after_what_was_under_way_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("ledger.floor.time.monotonic", lambda: now)

    async def test() -> None:
        nonlocal now
        store = _Store(5)
        floor = Floor("undecided", settle_s=10)
        assert await floor.value(store) == 5
        await floor.saw(store, 20_000)
        assert await floor.value(store) == 5
        now = 11.0
        await floor.saw(store, 15_000)  # a slow transaction has shown 15,001 meanwhile
        assert await floor.value(store) == 15_000
        assert store.stored == [5, 15_000]
        now = 30.0
        await floor.saw(store, 16_000)
        assert await floor.value(store) == 15_000

    asyncio.run(test())


def test_undecided_are_found_above_the_floor_after_a_restart(database: Database) -> None:
    async def test() -> None:
        async with open_journal(database.dsn(LEDGER), deadline_s=0.1) as journal:
            for _ in range(20):
                await settled(journal, intent())
            open_one = await journal.begin(intent())
            await settled(journal, intent())
            late = open_one.stored.intent.deadline_at.replace(year=2030)
            for _ in range(5):
                assert await journal.undecided(late, 10) == [open_one.stored]
                await trio.sleep(0.1)
            assert journal._undecided._value == open_one.stored.intent_id - 1
        async with open_journal(database.dsn(LEDGER)) as journal:
            assert await journal.undecided(late, 10) == [open_one.stored]

    run(test)


def test_the_writer_seals_by_itself(database: Database) -> None:
    async def test() -> None:
        async with open_journal(database.dsn(LEDGER), seal_every_s=0.05) as journal:
            await settled(journal, intent())
            while not await count(database, "SELECT count(*) FROM ledger.seals"):  # noqa: ASYNC110
                await trio.sleep(0.05)

    run(test)


def test_sets_that_change_the_same_originals_do_not_deadlock(database: Database) -> None:
    """Two workers, two originals, changed the other way round; somebody else holds up the first set in its middle."""

    async def waiting(connection: Any, count: int) -> None:
        blocked = """SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        while await connection.fetchval(blocked) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def test() -> list[Verdict]:
        dsn = database.dsn(LEDGER)
        async with connected(dsn) as one, connected(dsn) as two, connected(dsn) as other, connected(dsn) as looking:
            ids = [begun.stored.intent_id for begun in await begin(other, [intent() for _ in range(7)])]
            left, right, first, held_up, last, *crossed = ids
            await decide(other, [outcome(left), outcome(right)])

            def change(number: int, original: int) -> Outcome:
                return outcome(number, original_id=original, original_seq=1)

            transaction = other.transaction()
            await transaction.start()
            await decide(other, [outcome(held_up)])
            mine = [change(first, left), outcome(held_up), change(last, right)]
            theirs = [change(crossed[0], right), change(crossed[1], left)]
            sets = [asyncio.create_task(Writer().decide(one, mine))]
            await waiting(looking, 1)
            sets.append(asyncio.create_task(Writer().decide(two, theirs)))
            await waiting(looking, 2)
            await transaction.rollback()
            return [decided.verdict for done in await asyncio.gather(*sets) for decided in done]  # type: ignore[union-attr]

    assert asyncio.run(test()) == [Verdict.WON] * 3 + [Verdict.STALE] * 2
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert trio.run(count, database, deadlocks) == 0


def test_a_set_reads_what_it_needs_however_full_the_tables_are(database: Database) -> None:
    """No hot statement may read a table from end to end: a day has 100 million rows."""
    read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = $1::text::regclass"
    tables = ("ledger.intents", "ledger.outcomes", "ledger.postings")

    async def test() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(200):
                        nursery.start_soon(settled, journal, intent())
            before = {table: await count(database, read, table) for table in tables}
            for _ in range(40):
                await settled(journal, intent())
        # Counts of a connection are complete once it has closed.
        after = {table: await count(database, read, table) for table in tables}
        rows = {table: after[table] - before[table] for table in tables}
        assert all(seen < 600 for seen in rows.values()), rows

    run(test)


def test_an_original_named_by_time_and_number_is_found_without_walking_to_it(database: Database) -> None:
    """Planned when nothing is there, as on the first day, and used when much is."""
    old, named = 20_000, 15_000
    read = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'ledger.intents'::regclass"

    async def fill() -> None:
        async with connected(database.dsn(OWNER)) as connection:
            await connection.execute(
                f"""INSERT INTO ledger.intents SELECT r.* FROM ledger.intents i, generate_series(1, {old}) n
                     CROSS JOIN LATERAL jsonb_populate_record(i, jsonb_build_object(
                           'id', nextval('ledger.intents_id_seq'), 'key', n::text,
                           'created_at', i.created_at + n * interval '1 s')) r"""
            )
            await connection.execute("SELECT brin_summarize_new_values('ledger.intents_created')")

    async def test() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            first = (await journal.begin(intent())).stored
            await in_asyncio(fill)
            at = first.intent.created_at.replace(microsecond=0) + timedelta(seconds=named)
            reference = ("alpha", at, network_stan(first.intent_id + named))
            begun = await journal.begin(intent(key="later", kind=Kind.CHARGEBACK, original_reference=reference))
            assert begun.original is not None
            assert begun.original.stored.intent_id == first.intent_id + named
        # By index, the pages of one range; from end to end, the index was summarised.
        assert await count(database, read) < 2_000

    run(test)


def test_what_a_process_asked_on_its_first_day_it_asks_as_well_when_the_tables_are_full(database: Database) -> None:
    """PostgreSQL keeps the plan of a statement that was asked some times, made for tables with nothing in them."""
    old, since = 20_000, 100
    # Not of outcomes: so few of them are worth no index, and a day of them is found by number in any case.
    rows = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'ledger.intents'::regclass"

    async def lay_floor() -> None:
        async with connected(database.dsn(OWNER)) as connection:
            await connection.execute("INSERT INTO ledger.floors VALUES ('undecided', $1)", old)

    async def fill() -> None:
        """All but the last `since` belong to a day that has ended."""
        async with connected(database.dsn(OWNER)) as connection:
            await connection.execute("SET session_replication_role = replica")
            row = intent(link="pos", kind=Kind.CUT_OVER, transmitted_at=NOW - timedelta(days=1))
            number = (await begin(connection, [row]))[0].stored.intent_id
            await connection.execute(
                f"""INSERT INTO ledger.intents
                    SELECT r.* FROM generate_series($1 + 1, {old} + {since}) n, ledger.intents i
                     CROSS JOIN LATERAL jsonb_populate_record(i, jsonb_build_object('id', n, 'key', n::text,
                           'kind', CASE n WHEN {old} THEN 'cut_over' ELSE 'purchase' END,
                           'transmitted_at', i.transmitted_at + interval '1 day')) r
                     WHERE i.id = $1""",
                number,
            )
            await connection.execute(
                """INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer)
                   SELECT id, 'approved', '00', '', '', '{}' FROM ledger.intents ORDER BY id"""
            )
            await connection.execute("SELECT brin_summarize_new_values('ledger.outcomes_seq')")

    async def look(journal: PostgresJournal) -> int:
        assert await journal.undecided(NOW + timedelta(days=1), 100) == []
        return (await journal.totals("pos", NOW)).get("EUR", Totals()).debits

    async def test() -> None:
        await in_asyncio(lay_floor)
        async with open_journal(database.dsn(LEDGER)) as journal:
            for _ in range(8):
                assert await look(journal) == 0
            await in_asyncio(fill)
            before = await count(database, rows)
            assert await look(journal) == since
        assert await count(database, rows) - before < 10 * since

    run(test)
