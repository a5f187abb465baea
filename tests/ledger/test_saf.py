"""Stored advices that a link does not take: parked, sent again, dropped; in both journals, on record in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import trio

from console.database_roles import AUDITOR, LEDGER, OWNER
from ledger.journal import Advice, AdviceDraft, Backlog, Journal, network_stan
from ledger.memory import MemoryJournal
from ledger.saf import Action, Waiting, act_on_advice, waiting_advices
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.samples import intent, outcome
from tests.ledger.store import connected


def in_database(database: Database, work: Callable[[Any], Awaitable[Any]], role: str = LEDGER) -> Any:
    """The `cardswitch saf` command: a connection of its own."""

    async def run() -> Any:
        async with connected(database.dsn(role)) as connection:
            return await work(connection)

    return asyncio.run(run())


@dataclass
class Desk:
    """A journal, and the operator beside it."""

    journal: Any
    database: Database | None

    async def store(self, *links: str) -> list[Advice]:
        for n, link in enumerate(links):
            begun = await self.journal.begin(intent())
            draft = AdviceDraft(link, "0420", {4: "000000002500", 11: f"{n:06d}"}, "card_1")
            await self.journal.decide(outcome(begun.stored.intent_id, advices=(draft,)))
        return await self.all(links[0])

    async def all(self, link: str) -> list[Advice]:
        found: list[Advice] = await self.journal.advices(link, 0, 100)
        return found

    async def act(self, advice: Advice, action: Action) -> None:
        if self.database is None:
            act = self.journal.retry if action == "retried" else self.journal.drop
            act(advice.advice_id)
            return
        database = self.database

        def blocking() -> str:
            return str(in_database(database, lambda c: act_on_advice(c, advice.advice_id, action, "ann", "asked")))

        assert await trio.to_thread.run_sync(blocking) == "done"


Run = Callable[[Callable[[Desk], Awaitable[None]]], None]


@pytest.fixture(params=["memory", "postgres"])
def at_desk(request: pytest.FixtureRequest) -> Run:
    """`at_desk(test)` runs an async function with either journal."""
    database = request.getfixturevalue("database") if request.param == "postgres" else None

    def run(test: Callable[[Desk], Awaitable[None]]) -> None:
        async def main() -> None:
            with trio.fail_after(20):
                if database is None:
                    await test(Desk(MemoryJournal(), None))
                else:
                    async with open_journal(database.dsn(LEDGER)) as journal:
                        await test(Desk(journal, database))

        trio.run(main)

    return run


def test_a_parked_advice_holds_up_nobody(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        first, second, third = await desk.store("alpha", "alpha", "alpha")
        await desk.journal.park(first.advice_id, "worker", "sent 1001 times")
        await desk.journal.park(first.advice_id, "worker", "twice is once")
        assert await desk.all("alpha") == [second, third]
        assert (await desk.journal.backlog("alpha", 10)).parked == 1

    at_desk(test)


def test_one_that_is_sent_again_goes_before_those_that_were_stored_later(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        first, second, third = await desk.store("alpha", "alpha", "alpha")
        for advice in (first, second):
            await desk.journal.park(advice.advice_id, "worker", "no answer")
        assert await desk.all("alpha") == [third]
        await desk.act(second, "retried")
        assert await desk.all("alpha") == [second, third]
        await desk.act(first, "retried")
        assert await desk.all("alpha") == [first, second, third]
        await desk.journal.park(first.advice_id, "worker", "no answer again")
        assert await desk.all("alpha") == [second, third]
        await desk.journal.acknowledge(second.advice_id, "00")
        assert await desk.all("alpha") == [third]

    at_desk(test)


def test_one_that_was_retried_is_found_again_when_all_after_it_are_done(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        advices = await desk.store(*["alpha"] * 5)
        await desk.journal.park(advices[0].advice_id, "worker", "no answer")
        for advice in advices[1:]:
            await desk.journal.acknowledge(advice.advice_id, "00")
        assert await desk.all("alpha") == []  # the floor is above all of them now
        await desk.act(advices[0], "retried")
        assert await desk.all("alpha") == [advices[0]]
        await desk.journal.acknowledge(advices[0].advice_id, "00")
        assert await desk.all("alpha") == []

    at_desk(test)


def test_counting_what_waits_loses_nobody_who_was_put_aside(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        async def counted() -> tuple[int, int]:
            found = await desk.journal.backlog("alpha", 10)
            return found.waiting, found.parked

        first, second, third, last = await desk.store(*["alpha"] * 4)
        for advice in (second, third):
            await desk.journal.park(advice.advice_id, "worker", "no answer")
        assert await counted() == (2, 2)
        await desk.journal.acknowledge(first.advice_id, "00")
        await desk.journal.acknowledge(last.advice_id, "00")
        assert await counted() == (0, 2)  # the floors are above the last one, and below the second
        await desk.act(third, "retried")
        assert await counted() == (1, 1)
        assert await desk.all("alpha") == [third]
        await desk.journal.acknowledge(third.advice_id, "00")
        await desk.act(second, "retried")
        assert await desk.all("alpha") == [second]
        assert await counted() == (1, 0)
        await desk.journal.park(second.advice_id, "worker", "no answer")
        assert await counted() == (0, 1)
        await desk.act(second, "dropped")
        assert await counted() == (0, 0)
        assert await desk.store("alpha") == await desk.all("alpha")
        assert await counted() == (1, 0)

    at_desk(test)


@pytest.mark.parametrize("parked", [True, False])
def test_a_dropped_advice_has_ended(at_desk: Run, parked: bool) -> None:
    async def test(desk: Desk) -> None:
        first, second = await desk.store("alpha", "alpha")
        if parked:
            await desk.journal.park(first.advice_id, "worker", "no answer")
        await desk.act(first, "dropped")
        assert await desk.all("alpha") == [second]
        found = await desk.journal.backlog("alpha", 10)
        assert (found.waiting, found.parked) == (1, 0)

    at_desk(test)


def test_what_was_answered_meanwhile_is_not_parked(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        (only,) = await desk.store("alpha")
        await desk.journal.acknowledge(only.advice_id, "00")
        await desk.journal.park(only.advice_id, "worker", "too late")
        assert await desk.journal.backlog("alpha", 10) == Backlog()

    at_desk(test)


def test_a_backlog_is_as_old_as_the_first_that_waits(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        for _ in range(3):
            await desk.store("alpha")
            await trio.sleep(0.2)
        ended, first, _ = await desk.all("alpha")
        await desk.journal.acknowledge(ended.advice_id, "00")
        assert (await desk.journal.backlog("alpha", 10)).oldest_s >= 0.4
        await desk.journal.park(first.advice_id, "worker", "no answer")
        alone = await desk.journal.backlog("alpha", 10)
        assert (alone.waiting, alone.parked) == (1, 1) and alone.oldest_s >= 0.2

    at_desk(test)


def test_the_backlog_is_counted_up_to_a_limit(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        assert await desk.journal.backlog("alpha", 10) == Backlog()
        advices = await desk.store("alpha", "beta", "alpha", "alpha", "alpha")
        found = await desk.journal.backlog("alpha", 10)
        assert (found.waiting, found.parked) == (4, 0)
        assert 0 <= found.oldest_s < 10
        assert (await desk.journal.backlog("alpha", 2)).waiting == 2
        await desk.journal.park(advices[0].advice_id, "worker", "no answer")
        await desk.act(advices[0], "retried")
        assert (await desk.journal.backlog("alpha", 10)).waiting == 4
        assert (await desk.journal.backlog("beta", 10)).waiting == 1

    at_desk(test)


def test_a_request_is_found_by_the_names_that_its_issuer_knows(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        known = (await desk.journal.begin(intent(issuer="beta"))).stored
        second, stan = known.intent.created_at.replace(microsecond=0), network_stan(known.intent_id)
        found = await desk.journal.sent("beta", second, stan)
        assert found is not None and found.stored.intent_id == known.intent_id and found.outcome is None
        assert await desk.journal.sent("alpha", second, stan) is None
        assert await desk.journal.sent("beta", second + timedelta(seconds=1), stan) is None
        assert await desk.journal.sent("beta", second, network_stan(known.intent_id + 1)) is None

    at_desk(test)


def test_where_a_message_went_to(at_desk: Run) -> None:
    async def test(desk: Desk) -> None:
        known = intent(issuer="beta", card_country="DE")
        await desk.journal.begin(known)
        assert await desk.journal.issuer_of(known.key) == ("beta", "DE")
        assert await desk.journal.issuer_of("pos|0100|none") == ("", "")

    at_desk(test)


# Operators' views and actions in PostgreSQL


def stored(database: Database, *links: str) -> list[int]:
    """Store an advice for each link; their numbers."""
    found: list[int] = []

    async def main() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            desk = Desk(journal, database)
            await desk.store(*links)
            for link in dict.fromkeys(links):
                found.extend(advice.advice_id for advice in await desk.all(link))

    trio.run(main)
    return sorted(found)


def listed(database: Database, *arguments: Any, **options: Any) -> list[Waiting]:
    found: list[Waiting] = in_database(database, lambda c: waiting_advices(c, *arguments, **options), AUDITOR)
    return found


def act(database: Database, advice_id: int, action: Action, actor: str = "ann", reason: str = "link is back") -> str:
    return str(in_database(database, lambda c: act_on_advice(c, advice_id, action, actor, reason)))


def parked(database: Database, advice_id: int) -> None:
    assert act(database, advice_id, "parked", "worker 0-1", "sent 1001 times") == "done"


def test_the_list_tells_what_waits_and_what_was_done(database: Database) -> None:
    one, two, three, four = stored(database, "alpha", "alpha", "beta", "alpha")
    parked(database, two)
    parked(database, four)
    assert act(database, four, "retried") == "done"
    assert [(row.advice_id, row.link, row.state) for row in listed(database)] == [
        (one, "alpha", "waiting"), (two, "alpha", "parked"), (three, "beta", "waiting"), (four, "alpha", "retried"),
    ]  # fmt: skip
    assert [row.advice_id for row in listed(database, "beta")] == [three]
    assert [row.advice_id for row in listed(database, limit=2)] == [one, two]
    row = listed(database, "alpha")[1]
    assert (row.mti, row.amount_minor, row.currency, row.masked_pan) == ("0420", 2500, "EUR", "424242******4242")
    assert (row.actor, row.reason) == ("worker 0-1", "sent 1001 times")
    assert row.acted_at is not None and row.stored_at is not None
    assert row.acted_at >= row.stored_at and row.trace_id
    assert (listed(database)[0].actor, listed(database)[0].acted_at) == ("", None)


def test_dropped_ones_are_listed_where_they_are_asked_for(database: Database) -> None:
    one, two = stored(database, "alpha", "alpha")
    assert act(database, one, "dropped", "bob", "booked by hand, ticket 17") == "done"
    assert [row.advice_id for row in listed(database)] == [two]
    row = listed(database, dropped=True)[0]
    assert (row.advice_id, row.state, row.actor, row.reason) == (one, "dropped", "bob", "booked by hand, ticket 17")


@pytest.mark.parametrize(
    ("before", "action", "says"),
    [
        ((), "retried", "not_parked"),
        (("parked",), "retried", "done"),
        (("parked", "retried"), "retried", "not_parked"),
        (("parked", "retried", "parked"), "retried", "done"),
        ((), "dropped", "done"),
        (("parked",), "dropped", "done"),
        (("dropped",), "dropped", "dropped"),
        (("dropped",), "retried", "dropped"),
        (("dropped",), "parked", "dropped"),
        (("acknowledged",), "retried", "acknowledged"),
        (("acknowledged",), "dropped", "acknowledged"),
        (("acknowledged",), "parked", "acknowledged"),
        (("parked",), "parked", "done"),
    ],
)
def test_each_action_in_each_state(database: Database, before: tuple[Any, ...], action: Action, says: str) -> None:
    (one,) = stored(database, "alpha")
    for step in before:
        if step == "acknowledged":
            sql = "INSERT INTO ledger.acknowledgements (advice_id, response_code) VALUES ($1, '00')"
            in_database(database, lambda c, sql=sql: c.execute(sql, one))  # type: ignore[misc]
        else:
            assert act(database, one, step) == "done"
    rows = "SELECT count(*) FROM ledger.advice_actions"
    count = in_database(database, lambda c: c.fetchval(rows))
    assert act(database, one, action) == says
    added = says == "done" and before != (action,)
    assert in_database(database, lambda c: c.fetchval(rows)) == count + added


def test_an_unknown_advice(database: Database) -> None:
    assert act(database, 4711, "dropped") == "unknown"


@pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("ann", ""), ("a" * 201, "why"), ("ann", "w" * 1001)])
def test_nothing_is_done_without_a_name_and_a_reason(database: Database, actor: str, reason: str) -> None:
    (one,) = stored(database, "alpha")
    with pytest.raises(asyncpg.CheckViolationError):
        act(database, one, "dropped", actor, reason)
    assert [row.state for row in listed(database)] == ["waiting"]


def test_of_two_operators_at_once_one_drops_it(database: Database) -> None:
    (one,) = stored(database, "alpha")

    async def both() -> list[str]:
        async with connected(database.dsn(LEDGER)) as ann, connected(database.dsn(LEDGER)) as bob:
            first = act_on_advice(ann, one, "dropped", "ann", "first")
            return list(await asyncio.gather(first, act_on_advice(bob, one, "dropped", "bob", "second")))

    assert sorted(asyncio.run(both())) == ["done", "dropped"]


@pytest.mark.parametrize("role", [LEDGER, AUDITOR])
def test_what_was_done_stays_on_record(database: Database, role: str) -> None:
    for statement in ("DELETE FROM ledger.advice_actions", "UPDATE ledger.advice_actions SET reason = 'other'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            in_database(database, lambda c, sql=statement: c.execute(sql), role)  # type: ignore[misc]
    if role == AUDITOR:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            in_database(database, lambda c: act_on_advice(c, 1, "dropped", "ann", "why"), role)


def test_a_new_process_sends_what_an_old_one_left(database: Database) -> None:
    """The journal of a worker ends in the middle; the next one finds the same advices in the same order."""
    numbers = stored(database, *["alpha"] * 5)
    in_database(database, lambda c: act_on_advice(c, numbers[1], "parked", "worker", "no answer"))

    async def main() -> list[int]:
        async with open_journal(database.dsn(LEDGER)) as journal:
            again: Journal = journal
            return [advice.advice_id for advice in await again.advices("alpha", 0, 10)]

    assert trio.run(main) == [numbers[0], *numbers[2:]]


async def rows_read(connection: Any) -> int:
    """Rows of advices and their actions, ever; complete once the reading connection has closed."""
    return int(
        await connection.fetchval(
            """SELECT sum(seq_tup_read) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i
                                            WHERE i.relname IN ('advices', 'acknowledgements', 'advice_actions'))
                 FROM pg_stat_user_tables t WHERE t.relname IN ('advices', 'acknowledgements', 'advice_actions')"""
        )
    )


def test_what_waits_is_found_without_reading_what_was_acknowledged_in_years(database: Database) -> None:
    old, since = 30_000, 100

    async def fill(connection: Any) -> None:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            f"""WITH d AS (INSERT INTO ledger.advices (intent_id, link, mti, elements, token)
                           SELECT -n, CASE n % 2 WHEN 0 THEN 'alpha' ELSE 'beta' END, '0420', '{{}}', 'card_1'
                             FROM generate_series(1, {old}) n RETURNING id)
                INSERT INTO ledger.acknowledgements (advice_id, response_code) SELECT id, '00' FROM d"""
        )
        await connection.execute(
            "INSERT INTO ledger.floors VALUES ('advices alpha', $1), ('advices beta', $1)", old - since
        )

    async def look() -> None:
        # The plan that PostgreSQL may change to by itself once it has made some for the numbers given.
        async with open_journal(database.dsn(LEDGER) + "&plan_cache_mode=force_generic_plan") as journal:
            for _ in range(3):
                assert [advice.advice_id for advice in await journal.advices("alpha", 0, 100)] == waiting[:2]
                assert (await journal.backlog("alpha", 100)).waiting == 2

    in_database(database, fill, OWNER)
    waiting = stored(database, "alpha", "alpha", "beta")
    in_database(database, lambda c: c.execute("ANALYZE"), OWNER)
    before = in_database(database, rows_read, OWNER)
    trio.run(look)
    assert [row.advice_id for row in listed(database)] == waiting
    # Two links, from their floors; a process looks from there once, an operator each time.
    assert in_database(database, rows_read, OWNER) - before < 20 * since


@pytest.mark.parametrize("acted", [False, True])
def test_a_process_that_counts_and_looks_on_reads_once_what_has_ended(database: Database, acted: bool) -> None:
    """A process without a lease counts all the same, every few seconds, for as long as it runs."""
    old = 5_000  # too few for a floor to be stored

    async def fill(connection: Any) -> None:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            f"""WITH d AS (INSERT INTO ledger.advices (intent_id, link, mti, elements, token)
                           SELECT -n, 'alpha', '0420', '{{}}', 'card_1' FROM generate_series(1, {old}) n RETURNING id)
                INSERT INTO ledger.acknowledgements (advice_id, response_code) SELECT id, '00' FROM d"""
        )
        for action in ("parked", "retried") if acted else ():
            await connection.execute(
                "INSERT INTO ledger.advice_actions (advice_id, link, action, actor, reason)"
                " SELECT id, link, $1, 'ann', 'why' FROM ledger.advices ORDER BY id",
                action,
            )
        await connection.execute("ANALYZE")

    async def look() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            for _ in range(10):
                assert (await journal.backlog("alpha", 100)).waiting == 0
                if acted:
                    assert await journal.advices("alpha", 0, 100) == []

    in_database(database, fill, OWNER)
    before = in_database(database, rows_read, OWNER)
    trio.run(look)
    # Advices, acknowledgements and both actions, with some room for how they are joined.
    assert in_database(database, rows_read, OWNER) - before < 10 * old
