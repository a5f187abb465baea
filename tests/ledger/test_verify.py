"""ledger.verify, seal, trial_balance, entries and book: over one day of payments, and after somebody tampered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from console.database_roles import AUDITOR, LEDGER, OWNER
from ledger.book import LedgerLine, book
from ledger.checks import CHECKS, Check
from ledger.entries import entries_of_key, entries_of_payment, entries_of_trace
from ledger.journal import AdviceDraft, Decision, Journal, Kind, Layer, Original, network_stan
from ledger.lifecycle import rule
from ledger.memory import MemoryJournal
from ledger.posting import postings
from ledger.seal import seal
from ledger.trial_balance import trial_balance
from ledger.verify import MACS, Report
from ledger.verify import verify as verify_at
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.samples import FEES, intent, outcome
from tests.ledger.store import begin, connected

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ADVICES = {Kind.CAPTURE: "0220", Kind.REVERSAL: "0420", Kind.CHARGEBACK: "0422"}


async def verify(connection: Any, **options: Any) -> Report:
    return await verify_at(connection, now=NOW, **options)


async def pay(journal: Journal, kind: Kind, amount: int, of: str | None = None, **changes: Any) -> str:
    """One message, ruled, booked and decided as the switch does; returns its key."""
    message = intent(kind=kind, amount_minor=amount, original_key=of, **changes)
    begun = await journal.begin(message)
    ruling = rule(kind, begun.original, amount, message.currency)
    original_id = begun.original.stored.intent_id if begun.original else None
    lines = postings(
        ruling.event,
        amount_minor=amount,
        currency=message.currency,
        issuer=message.issuer,
        merchant=message.merchant,
        fees=FEES,
        original=begun.original,
    )
    await journal.decide(
        outcome(
            begun.stored.intent_id,
            decision=Decision.APPROVED if ruling.response_code == "00" else Decision.DECLINED,
            response_code=ruling.response_code,
            reason=ruling.reason,
            postings=lines,
            original_id=original_id,
            original_seq=begun.original.next_seq if begun.original and ruling.event else None,
            advices=advices_of(kind, begun.original) if lines else (),
        )
    )
    return message.key


def advices_of(kind: Kind, original: Original | None) -> tuple[AdviceDraft, ...]:
    """As `switch.drafts` makes them, without elements."""
    if kind not in ADVICES or original is None:
        return ()
    paid = original.stored.intent
    link, token = (paid.link, "") if kind is Kind.CHARGEBACK else (paid.issuer, paid.token)
    return (AdviceDraft(link, ADVICES[kind], {}, token),)


async def day(journal: Journal) -> dict[str, str]:
    """A shop's day; returns the keys of its payments by name."""
    keys = {}
    keys["held"] = await pay(journal, Kind.AUTHORIZATION, 1_000)
    keys["captured"] = await pay(journal, Kind.AUTHORIZATION, 10_000)
    await pay(journal, Kind.CAPTURE, 8_000, keys["captured"])
    keys["purchase"] = await pay(journal, Kind.PURCHASE, 5_000, issuer="beta", mti="0200")
    keys["refund"] = await pay(journal, Kind.REFUND, 2_000, keys["purchase"], issuer="beta", mti="0200")
    keys["undone refund"] = await pay(journal, Kind.REFUND, 500, keys["purchase"], issuer="beta", mti="0200")
    await pay(journal, Kind.REVERSAL, 500, keys["undone refund"])
    keys["charged back"] = await pay(journal, Kind.PURCHASE, 3_000)
    await pay(journal, Kind.CHARGEBACK, 3_000, keys["charged back"])
    keys["voided"] = await pay(journal, Kind.AUTHORIZATION, 700)
    await pay(journal, Kind.REVERSAL, 700, keys["voided"])
    keys["undone"] = await pay(journal, Kind.PURCHASE, 900)
    await pay(journal, Kind.REVERSAL, 900, keys["undone"])
    await pay(journal, Kind.REVERSAL, 900, keys["undone"])
    keys["dollars"] = await pay(journal, Kind.PURCHASE, 400, currency="USD")
    keys["declined"] = await pay(journal, Kind.PURCHASE, 0)
    return keys


BOOK = {
    "held": (1_000, 0),
    "captured": (0, 8_000),
    "purchase": (0, 5_000),
    "refund": (0, -2_000),
    "undone refund": (0, 0),
    "charged back": (0, 0),
    "voided": (0, 0),
    "undone": (0, 0),
    "dollars": (0, 400),
    "declined": (0, 0),
}


def after_a_day(database: Database, check: Callable[[dict[str, str]], Coroutine[Any, Any, None]]) -> None:
    async def live() -> dict[str, str]:
        async with open_journal(database.dsn(LEDGER)) as journal:
            return await day(journal)

    asyncio.run(check(trio.run(live)))


def check_book(lines: list[LedgerLine], keys: dict[str, str]) -> None:
    by_key = {line.key: line for line in lines}
    assert {name: (by_key[key].held_minor, by_key[key].posted_minor) for name, key in keys.items()} == BOOK
    assert len(lines) == len(keys)
    assert all(line.decided for line in lines)
    assert by_key[keys["purchase"]].issuer == "beta"
    assert by_key[keys["dollars"]].currency == "USD"
    assert by_key[keys["declined"]].decision == "declined"


def test_the_book_of_both_journals_is_the_same(database: Database) -> None:
    memory = MemoryJournal()
    keys_in_memory = trio.run(day, memory)
    check_book(memory.book(), keys_in_memory)
    assert sum(line.amount_minor for line in memory.postings()) == 0

    async def check(keys: dict[str, str]) -> None:
        async with connected(database.dsn(AUDITOR)) as connection:
            lines = await book(connection)
            check_book(lines, keys)
            number = await connection.fetchval("SELECT id FROM ledger.intents WHERE key = $1", keys["purchase"])
            line = next(line for line in lines if line.key == keys["purchase"])
            assert line.network_key == f"beta|0200|0301120000|{network_stan(number)}"

    after_a_day(database, check)


def test_totals_beyond_64_bits_are_added_up(database: Database) -> None:
    """Nine million payments of twelve digits in one currency reach what a bigint holds."""

    async def check(keys: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as connection:
            await connection.execute("ALTER TABLE ledger.postings DISABLE TRIGGER USER")
            await connection.execute(
                """INSERT INTO ledger.postings (intent_id, line, account_id, layer, currency, amount_minor)
                   SELECT p.intent_id, n, p.account_id, 'posted', 'IDR', $1::bigint * (1 - 2 * (n % 2))
                   FROM (SELECT intent_id, account_id FROM ledger.postings LIMIT 1) p, generate_series(100, 103) n""",
                9 * 10**18,
            )
        async with connected(database.dsn(AUDITOR)) as connection:
            balance = await trial_balance(connection)
        assert balance.totals()[Layer.POSTED, "IDR"] == (18 * 10**18, 18 * 10**18)
        assert keys

    after_a_day(database, check)


def test_an_undecided_payment_is_in_the_book(database: Database) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with connected(database.dsn(LEDGER)) as connection:
            await begin(connection, [intent(issuer="")])
            line = (await book(connection))[-1]
            assert (line.decided, line.network_key, line.held_minor) == (False, "", 0)
            assert keys

    after_a_day(database, check)


def test_trial_balance_balances_and_says_what_stands_where(database: Database) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with connected(database.dsn(AUDITOR)) as connection:
            balance = await trial_balance(connection)
        assert balance.balanced
        stands = {(line.layer, line.account, line.currency): line.balance_minor for line in balance.lines}
        assert stands[Layer.PENDING, "issuer:alpha:receivable", "EUR"] == 1_000
        assert stands[Layer.PENDING, "settlement:pending", "EUR"] == -1_000
        assert stands[Layer.POSTED, "issuer:alpha:receivable", "EUR"] == 8_000
        assert stands[Layer.POSTED, "issuer:beta:receivable", "EUR"] == 3_000
        assert stands[Layer.POSTED, "settlement:pending", "EUR"] == 0
        assert stands[Layer.POSTED, "platform:dispute_fees", "EUR"] == -1_500
        assert stands[Layer.POSTED, "platform:revenue", "EUR"] == -(232 + 145 - 58 + 87)
        assert stands[Layer.POSTED, "issuer:alpha:receivable", "USD"] == 400
        assert set(balance.totals()) == {(Layer.POSTED, "EUR"), (Layer.POSTED, "USD"), (Layer.PENDING, "EUR")}
        assert keys

    after_a_day(database, check)


def test_entries_of_one_payment(database: Database) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with connected(database.dsn(AUDITOR)) as connection:
            hold = await entries_of_key(connection, keys["captured"])
            assert [(e.account, e.debit_minor, e.credit_minor) for e in hold] == [
                ("issuer:alpha:receivable", 10_000, 0),
                ("settlement:pending", 0, 10_000),
            ]
            everything = await entries_of_payment(connection, hold[0].intent_id)
            assert [e.kind for e in everything] == [Kind.AUTHORIZATION] * 2 + [Kind.CAPTURE] * 7
            trace = await connection.fetchval("SELECT trace_id FROM ledger.intents WHERE key = $1", keys["captured"])
            assert await entries_of_trace(connection, trace) == hold

    after_a_day(database, check)


def test_a_whole_ledger_is_whole_sealed_or_not(database: Database) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with (
            connected(database.dsn(LEDGER)) as writer,
            connected(database.dsn(AUDITOR)) as auditor,
        ):
            report = await verify(auditor)
            assert report.whole, report
            assert (report.seals, report.unsealed, report.digest) == (0, report.outcomes, "")
            made = await seal(writer, max_rows=5)
            assert [(s.number, s.from_seq, s.rows) for s in made][:2] == [(1, 1, 5), (2, 6, 5)]
            assert await seal(writer) == []
            report = await verify(auditor)
            assert report.whole, report
            assert (report.seals, report.unsealed, report.digest) == (len(made), 0, made[-1].digest.hex())
            assert keys

    after_a_day(database, check)


def test_sealers_beside_each_other_make_one_chain(database: Database) -> None:
    async def check(keys: dict[str, str]) -> None:
        async def one() -> None:
            async with connected(database.dsn(LEDGER)) as connection:
                await seal(connection, max_rows=3)

        await asyncio.gather(*(one() for _ in range(4)))
        async with connected(database.dsn(AUDITOR)) as auditor:
            report = await verify(auditor)
            assert report.whole, report
            assert report.unsealed == 0
            assert keys

    after_a_day(database, check)


# Attacks by the owner of the database → the checks that see them.
TAMPERING: list[tuple[str, set[str]]] = [
    ("UPDATE ledger.postings SET amount_minor = amount_minor * 2 WHERE intent_id = 1", {"approved", "seals"}),
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor + 1 WHERE intent_id = 1 AND line = 1",
        {"balance", "outcome-balance", "approved", "seals"},
    ),
    (
        "UPDATE ledger.postings SET account_id = (SELECT id FROM ledger.accounts WHERE name = 'platform:revenue')"
        " WHERE intent_id = 1 AND line = 1",
        {"approved", "seals"},
    ),
    ("DELETE FROM ledger.postings WHERE intent_id = 1", {"approved", "seals"}),
    ("DELETE FROM ledger.outcomes WHERE intent_id = 1", {"posting-outcome", "seals"}),
    ("UPDATE ledger.outcomes SET decision = 'declined' WHERE intent_id = 1", {"posting-outcome", "seals"}),
    ("UPDATE ledger.outcomes SET response_code = '05' WHERE intent_id = 1", {"seals"}),
    ("DELETE FROM ledger.intents WHERE id = 1", {"outcome-intent", "seals"}),
    ("UPDATE ledger.intents SET merchant = 'MINE' WHERE id = 1", {"seals"}),
    ("UPDATE ledger.intents SET cashback_minor = 1 WHERE id = 1", {"seals"}),
    ("UPDATE ledger.intents SET local_time = '0301120000' WHERE id = 1", {"seals"}),
    ("UPDATE ledger.intents SET stated = '{}' WHERE id = 1", {"seals"}),
    ("UPDATE ledger.outcomes SET amount_minor = 1000 WHERE intent_id = 1", {"seals"}),
    ("UPDATE ledger.outcomes SET amount_minor = 999 WHERE intent_id = 1", {"approved", "seals"}),
    ("UPDATE ledger.accounts SET name = 'merchant:MINE:pending' WHERE name = 'merchant:DEMOSHOP:pending'", {"seals"}),
    ("UPDATE ledger.postings SET account_id = 999 WHERE intent_id = 1 AND line = 2", {"posting-account", "seals"}),
    (
        "INSERT INTO ledger.postings SELECT 1, line + 10, account_id, layer, currency, amount_minor"
        " FROM ledger.postings WHERE intent_id = 1",
        {"approved", "seals"},
    ),
    (
        "INSERT INTO ledger.outcomes (intent_id, seq, decision, response_code, auth_code, reason, answer)"
        " OVERRIDING SYSTEM VALUE SELECT 9000, 1, 'approved', '00', '', '', '{}'",
        {"outcome-intent", "seals"},
    ),
    ("DELETE FROM ledger.seals WHERE number = 2", {"seals"}),
    ("UPDATE ledger.seals SET digest = sha256('x') WHERE number = 2", {"seals"}),
    ("UPDATE ledger.outcomes SET original_seq = 7 WHERE original_seq = 1 AND intent_id = 3", {"change-order", "seals"}),
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor * 20 WHERE intent_id = 3 AND layer = 'posted'",
        {"captures", "seals"},
    ),
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor * 20 WHERE intent_id = 3 AND layer = 'pending'",
        {"holds", "seals"},
    ),
    ("UPDATE ledger.postings SET amount_minor = amount_minor * 20 WHERE intent_id = 5", {"returns", "fees", "seals"}),
    # The purchase of 50.00 gets a refund of 20.00, and then of the rest; the rest of the fee stays with the merchant.
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor + CASE WHEN account_id IN"
        " (SELECT id FROM ledger.accounts WHERE name = 'platform:revenue') THEN 88 ELSE -88 END WHERE intent_id = 5"
        " AND account_id NOT IN (SELECT id FROM ledger.accounts WHERE name LIKE 'issuer:%')",
        {"fees", "seals"},
    ),
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor - CASE WHEN account_id IN"
        " (SELECT id FROM ledger.accounts WHERE name = 'platform:revenue') THEN 59 ELSE -59 END WHERE intent_id = 5"
        " AND account_id NOT IN (SELECT id FROM ledger.accounts WHERE name LIKE 'issuer:%')",
        {"fees", "seals"},
    ),
    (
        "UPDATE ledger.postings SET amount_minor = amount_minor / abs(amount_minor) * CASE WHEN account_id IN"
        " (SELECT id FROM ledger.accounts WHERE name LIKE 'issuer:%') THEN 5000 WHEN account_id IN"
        " (SELECT id FROM ledger.accounts WHERE name LIKE 'platform:%') THEN 144 ELSE 4856 END WHERE intent_id = 5",
        {"fees", "seals"},
    ),
    # A reversal of the purchase under its refund: the returned amount was never captured.
    (
        "UPDATE ledger.outcomes SET original_id = 4, original_seq = 3 WHERE intent_id = 13;"
        " UPDATE ledger.postings SET amount_minor = -q.amount_minor FROM ledger.postings q WHERE q.intent_id = 4"
        " AND ledger.postings.intent_id = 13 AND q.line = ledger.postings.line",
        {"returns", "fees", "seals"},
    ),
    (
        "INSERT INTO ledger.floors VALUES ('undecided', 1); UPDATE ledger.outcomes SET intent_id = 9001"
        " WHERE intent_id = 1; UPDATE ledger.postings SET intent_id = 9001 WHERE intent_id = 1",
        {"floor", "outcome-intent", "seals"},
    ),
    ("DELETE FROM ledger.advices WHERE intent_id = 3", {"advices-stored"}),
]


@pytest.mark.parametrize(("sql", "seen_by"), TAMPERING)
def test_tampering_is_seen(database: Database, sql: str, seen_by: set[str]) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with (
            connected(database.dsn(OWNER)) as owner,
            connected(database.dsn(AUDITOR)) as auditor,
        ):
            await seal(owner, max_rows=5)
            # The owner can put every trigger and constraint out of the way.
            await owner.execute("SET session_replication_role = replica")
            await owner.execute(sql)
            report = await verify(auditor)
            assert {result.name for result in report.checks if result.problems} == seen_by
            assert not report.whole
            assert keys

    after_a_day(database, check)


def test_every_check_is_seen_to_fail() -> None:
    assert set().union(*(seen for _, seen in TAMPERING)) == {check.name for check in CHECKS} | {"seals"}
    assert MACS[0] == "seal-macs"  # tests/ledger/test_keyed_seals.py


# Books in which an earlier version returned other fees than it should have: sealed as they are, so nothing was altered.
OTHER_FEES = [
    ("UPDATE ledger.postings SET amount_minor = amount_minor + CASE WHEN account_id IN"
     " (SELECT id FROM ledger.accounts WHERE name = 'platform:revenue') THEN 88 ELSE -88 END WHERE intent_id = 5"
     " AND account_id NOT IN (SELECT id FROM ledger.accounts WHERE name LIKE 'issuer:%')", "too much"),
    ("UPDATE ledger.postings SET amount_minor = amount_minor / abs(amount_minor) * CASE WHEN account_id IN"
     " (SELECT id FROM ledger.accounts WHERE name LIKE 'issuer:%') THEN 5000 WHEN account_id IN"
     " (SELECT id FROM ledger.accounts WHERE name LIKE 'platform:%') THEN 144 ELSE 4856 END WHERE intent_id = 5",
     "is owed"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "due"), OTHER_FEES)
def test_fees_booked_wrongly_can_be_settled_outside_of_the_books(database: Database, sql: str, due: str) -> None:
    async def check(keys: dict[str, str]) -> None:
        async with (
            connected(database.dsn(OWNER)) as owner,
            connected(database.dsn(AUDITOR)) as auditor,
        ):
            await owner.execute("SET session_replication_role = replica")
            await owner.execute(sql)
            await owner.execute("SET session_replication_role = origin")
            await seal(owner, max_rows=5)
            report = await verify(auditor)
            assert {result.name for result in report.checks if result.problems} == {"fees"}
            (line,) = next(result.problems for result in report.checks if result.name == "fees")
            figures = re.fullmatch(
                r"intent 4: (\d+) of (\d+) EUR in fees came back, merchant DEMOSHOP (got|is owed) (\d+)( too much)?",
                line,
            )
            assert figures is not None and due in line, line
            assert abs(int(figures[1]) - int(figures[2])) == int(figures[4])
            assert report.verified is None

            settled = await verify(auditor, settled={line, "intent 99: something else"})
            assert settled.whole and settled.verified is not None
            assert next(result.settled for result in settled.checks if result.name == "fees") == [line]
            other = await verify(auditor, settled={line.replace(figures[1], "1", 1), line[:-1]})
            assert not other.whole, "other sums are another finding"
            await owner.execute("SET session_replication_role = replica")
            await owner.execute("UPDATE ledger.outcomes SET response_code = '05' WHERE intent_id = 1")
            altered = await verify(auditor, settled={line})
            assert {result.name for result in altered.checks if result.problems} == {"seals"}
            assert keys

    after_a_day(database, check)


def test_settled_findings_take_no_place_of_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.verify.MAX_PROBLEMS", 1)
    both = Check("fees", "", "SELECT line FROM (VALUES ('known'), ('new')) v (line) WHERE $1::bigint < $2::bigint")
    monkeypatch.setattr("ledger.verify.CHECKS", (both,))

    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(AUDITOR)) as auditor:
            report = await verify(auditor, settled={"known"})
            assert (report.checks[0].problems, report.checks[0].settled) == (["new"], ["known"])

    after_a_day(database, check)
