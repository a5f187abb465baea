"""ledger.advice_demand: both forms of the rule say the same, and rows that no outcome calls for are marked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from console.database_roles import LEDGER, OWNER
from ledger.advice_demand import IS_DEMANDED, NOT_DEMANDED, UNREADABLE, demanded_advice, is_demanded
from ledger.checks import CHECKS
from ledger.journal import Advice, AdviceDraft, Decision, Intent, Kind, Outcome
from ledger.memory import MemoryJournal
from ledger.saf import waiting_advices
from ledger.table_checks import TABLE_CHECKS
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.samples import intent, outcome
from tests.ledger.store import begin, connected, decide

A, D, R = Decision.APPROVED, Decision.DECLINED, Decision.REVERSED

# Kind, type of the request, decision, reason, whether it changed an original → the type of its advice.
RULE = [
    (Kind.AUTHORIZATION, "0100", A, "authorize", False, None),
    (Kind.AUTHORIZATION, "0100", D, "issuer", False, None),
    (Kind.AUTHORIZATION, "0100", R, "issuer_timeout", False, "0420"),
    (Kind.AUTHORIZATION, "0100", A, "stand_in", False, "0120"),
    (Kind.AUTHORIZATION, "0101", A, "stand_in", False, "0121"),
    (Kind.PURCHASE, "0200", D, "stand_in_floor", False, "0220"),
    (Kind.PURCHASE, "0200", D, "stand_inside", False, None),
    (Kind.PURCHASE, "0220", A, "purchase", False, "0220"),
    (Kind.PURCHASE, "0220", A, "declined_elsewhere", False, "0220"),
    (Kind.PURCHASE, "0220", D, "no_route", False, None),
    (Kind.AUTHORIZATION, "0120", R, "reversed_by_acquirer", False, None),
    (Kind.REFUND, "0200", R, "recovered", False, "0420"),
    (Kind.INCREMENT, "0100", R, "recovered", False, "0420"),
    (Kind.INQUIRY, "0100", R, "recovered", False, None),
    (Kind.CAPTURE, "0220", A, "capture", True, "0220"),
    (Kind.CAPTURE, "0220", D, "over_capture", False, None),
    (Kind.REVERSAL, "0400", A, "void", True, "0420"),
    (Kind.REVERSAL, "0400", A, "already_reversed", False, None),
    (Kind.REDUCTION, "0400", A, "reduce", True, "0420"),
    (Kind.CHARGEBACK, "0422", A, "chargeback", True, "0422"),
    (Kind.LATE_APPROVAL, "0110", A, "approved_after_decline", False, "0420"),
    (Kind.LATE_APPROVAL, "0110", D, "approved_already", False, None),
    (Kind.TOMBSTONE, "0200", D, "reversed_before_arrival", False, None),
    (Kind.CUT_OVER, "0800", A, "", False, None),
]


@pytest.mark.parametrize(("kind", "mti", "decision", "reason", "changed", "advice"), RULE)
def test_the_advice_that_an_outcome_calls_for(
    kind: Kind, mti: str, decision: Decision, reason: str, changed: bool, advice: str | None
) -> None:
    asked = intent(kind=kind, mti=mti, issuer="alpha", token="card_1")
    decided = outcome(1, decision=decision, reason=reason, original_id=1, original_seq=1 if changed else None)
    assert demanded_advice(asked, decided) == advice
    paid = intent(issuer="beta", link="pos", token="card_2")
    named = paid if kind in (Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION, Kind.CHARGEBACK) else None
    link, token = ("alpha", "card_1") if named is None else ("beta", "card_2")
    link, token = ("pos", "") if kind is Kind.CHARGEBACK else (link, token)
    right = AdviceDraft(link, advice or "0420", {}, token)
    assert is_demanded(right, asked, decided, named, ()) is (advice is not None)
    for wrong in ({"link": "gamma"}, {"token": "card_3"}, {"mti": "0320"}):
        draft = msgspec.structs.replace(right, **wrong)
        another_card = kind is Kind.LATE_APPROVAL and advice is not None and "token" in wrong
        assert is_demanded(draft, asked, decided, named, ()) is another_card, wrong


@pytest.mark.parametrize(("later", "demanded"), [(("0220",), True), (("0120",), False), ((), False)])
def test_a_request_is_undone_before_stand_in_speaks_and_never_after(later: tuple[str, ...], demanded: bool) -> None:
    asked = intent(kind=Kind.PURCHASE, mti="0200")
    undone = AdviceDraft("alpha", "0420", {}, "card_1")
    assert is_demanded(undone, asked, outcome(1, reason="stand_in"), None, later) is demanded
    assert not is_demanded(undone, asked, outcome(1, reason="purchase"), None, later)


# Both forms of the rule

LINKS, TOKENS, REASONS = ("alpha", "pos", "gamma", ""), ("card_1", "card_2", ""), ("", "stand_in", "stand_in_mcc", "x")
TYPES = ("0100", "0120", "0121", "0200", "0220", "0400", "0420", "0422", "0110")
ROWS = 4_000


def made_up(dice: random.Random, number: int) -> tuple[Intent, Outcome | None, list[AdviceDraft]]:
    """An intent, its outcome and its advices; some of it as the switch writes it, some not."""
    kind = dice.choice(list(Kind))
    changes = kind in (Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION, Kind.CHARGEBACK)
    asked = intent(
        key=f"key{number}",
        kind=kind,
        mti=dice.choice(TYPES),
        issuer=dice.choice(LINKS),
        link=dice.choice(LINKS),
        token=dice.choice(TOKENS),
        original_key=f"key{dice.randint(1, number)}" if changes and dice.random() < 0.9 else None,
    )
    seq = number if changes and dice.random() < 0.8 else None
    decided = outcome(
        number,
        decision=A if seq else dice.choice([A, D, R]),
        reason=dice.choice(REASONS),
        original_id=dice.randint(1, number) if seq else None,
        original_seq=seq,
    )
    types = dice.sample(["0120", "0220", "0420", "0422"], dice.randint(1, 4))
    drafts = [AdviceDraft(dice.choice([asked.issuer, *LINKS]), mti, {}, dice.choice(TOKENS)) for mti in types]
    return asked, decided if dice.random() < 0.95 else None, drafts


def test_the_rule_in_sql_is_the_rule_in_python(database: Database) -> None:
    dice = random.Random(7)
    rows = [made_up(dice, number) for number in range(1, ROWS + 1)]
    expected: dict[tuple[int, str], bool] = {}
    for number, (asked, decided, drafts) in enumerate(rows, 1):
        names = asked.original_key
        if decided is not None and asked.kind is Kind.CHARGEBACK:
            names = f"key{decided.original_id}"
        named = rows[int(names[3:]) - 1][0] if names and names != "keyNone" else None
        for at, draft in enumerate(drafts):
            later = [other.mti for other in drafts[at + 1 :]]
            demanded = decided is not None and is_demanded(draft, asked, decided, named, later)
            expected[number, draft.mti] = demanded

    async def run() -> dict[tuple[int, str], bool]:
        async with connected(database.dsn(OWNER)) as owner:
            await owner.execute("SET session_replication_role = replica")
            names = ["key", "kind", "link", "mti", "processing_code", "transmitted_at", "created_at", "deadline_at",
                     "trace_id", "token", "fingerprint", "masked_pan", "amount_minor", "currency", "merchant",
                     "terminal", "mcc", "country", "acquirer_id", "rrn", "stan", "issuer", "card_country", "final",
                     "original_key"]  # fmt: skip
            await owner.copy_records_to_table(
                "intents", schema_name="ledger", columns=["id", *names],
                records=[(n, *(getattr(i, name) for name in names)) for n, (i, _, _) in enumerate(rows, 1)],
            )  # fmt: skip
            await owner.execute("DROP INDEX ledger.outcomes_change")
            await owner.copy_records_to_table(
                "outcomes", schema_name="ledger",
                columns=["intent_id", "decision", "response_code", "auth_code", "reason", "answer", "original_id",
                         "original_seq"],
                records=[(o.intent_id, o.decision, "00", "", o.reason, "{}", o.original_id, o.original_seq)
                         for _, o, _ in rows if o is not None],
            )  # fmt: skip
            await owner.copy_records_to_table(
                "advices", schema_name="ledger", columns=["intent_id", "link", "mti", "elements", "token"],
                records=[(n, d.link, d.mti, "{}", d.token) for n, (_, _, drafts) in enumerate(rows, 1) for d in drafts],
            )  # fmt: skip
            found = await owner.fetch(
                f"SELECT d.intent_id, d.mti, {IS_DEMANDED} AS demanded FROM ledger.advices d"
                " LEFT JOIN ledger.intents i ON i.id = d.intent_id"
                " LEFT JOIN ledger.outcomes o ON o.intent_id = d.intent_id"
            )
            return {(row["intent_id"], row["mti"]): row["demanded"] for row in found}

    found = asyncio.run(run())
    assert found == expected
    demanded_kinds = {rows[number - 1][0].kind for (number, _), demanded in expected.items() if demanded}
    assert demanded_kinds == {
        Kind.AUTHORIZATION, Kind.INCREMENT, Kind.PURCHASE, Kind.REFUND, Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION,
        Kind.CHARGEBACK, Kind.LATE_APPROVAL,
    }  # fmt: skip


# Rows that somebody else has written

INSERT = "INSERT INTO ledger.advices (intent_id, link, mti, elements, token) VALUES ($1, $2, $3, $4, $5) RETURNING id"


def in_journal(database: Database, work: Callable[[Any, Any], Awaitable[None]]) -> None:
    """`work(journal, forge)`; `forge` writes as the switch's own role does."""

    async def forge(sql: str, *values: Any) -> Any:
        def blocking() -> Any:
            async def run() -> Any:
                async with connected(database.dsn(LEDGER)) as connection:
                    return await connection.fetchval(sql, *values)

            return asyncio.run(run())

        return await trio.to_thread.run_sync(blocking)

    async def main() -> None:
        with trio.fail_after(60):
            async with open_journal(database.dsn(LEDGER)) as journal:
                await work(journal, forge)

    trio.run(main)


async def reversed_request(journal: Any) -> int:
    """A request that ended without an answer, with its reversal; the number of its intent."""
    begun = await journal.begin(intent())
    draft = AdviceDraft("alpha", "0420", {4: "000000010000"}, "card_1")
    await journal.decide(outcome(begun.stored.intent_id, decision=R, advices=(draft,)))
    return int(begun.stored.intent_id)


def test_rows_that_somebody_else_has_written_are_marked_and_true_ones_are_not(database: Database) -> None:
    async def work(journal: Any, forge: Any) -> None:
        asked = await journal.begin(intent())
        await journal.decide(outcome(asked.stored.intent_id, reason="authorize"))
        true = await reversed_request(journal)
        approved = asked.stored.intent_id
        forged = {
            await forge(INSERT, approved, "alpha", "0420", "{}", "card_1"): NOT_DEMANDED,
            await forge(INSERT, approved, "alpha", "0220", "{}", "card_2"): NOT_DEMANDED,
            await forge(INSERT, true, "alpha", "0220", "{}", "card_1"): NOT_DEMANDED,
            await forge(INSERT, true, "alpha", "0422", "[1]", "card_1"): NOT_DEMANDED,
            await forge(INSERT, 4711, "alpha", "0420", '{"4": "x"}', "card_1"): NOT_DEMANDED,
        }
        found: list[Advice] = await journal.advices("alpha", 0, 100)
        assert {advice.advice_id: advice.refusal for advice in found if advice.refusal} == forged
        assert [(advice.intent_id, advice.draft.mti) for advice in found if not advice.refusal] == [(true, "0420")]
        # None of them keeps the others from being read, once they are put aside.
        for number in forged:
            await journal.park(number, "worker", NOT_DEMANDED)
        assert [advice.intent_id for advice in await journal.advices("alpha", 0, 100)] == [true]
        retried = "SELECT ledger.act_on_advice($1, 'retried', 'eve', 'because')"
        for number in forged:
            assert await forge(retried, number) == "done"
        found = await journal.advices("alpha", 0, 100)
        assert {advice.advice_id for advice in found if advice.refusal} == set(forged)

    in_journal(database, work)
    rows = asyncio.run(_listed(database))
    assert [row.state for row in rows if row.reason == "because"] == ["retried"] * 5


async def _listed(database: Database) -> Any:
    async with connected(database.dsn(LEDGER)) as connection:
        return await waiting_advices(connection)


def test_an_action_for_another_link_sends_nothing_there(database: Database) -> None:
    async def work(journal: Any, forge: Any) -> None:
        await reversed_request(journal)
        (true,) = await journal.advices("alpha", 0, 10)
        await journal.park(true.advice_id, "worker", "no answer")
        await forge(
            "INSERT INTO ledger.advice_actions (advice_id, link, action, actor, reason)"
            " VALUES ($1, 'beta', 'retried', 'eve', 'to my own link') RETURNING id",
            true.advice_id,
        )
        assert await journal.advices("beta", 0, 10) == []

    in_journal(database, work)


def test_a_true_row_whose_elements_cannot_be_read_holds_up_nobody(database: Database) -> None:
    async def spoil() -> None:
        async with connected(database.dsn(OWNER)) as owner:
            await owner.execute("UPDATE ledger.advices SET elements = '[7]' WHERE id = 1")

    async def work(journal: Any, forge: Any) -> None:
        await reversed_request(journal)
        await trio.to_thread.run_sync(lambda: asyncio.run(spoil()))
        await reversed_request(journal)
        assert [advice.refusal for advice in await journal.advices("alpha", 0, 10)] == [UNREADABLE, ""]

    in_journal(database, work)


def test_a_row_without_an_outcome_does_not_hide_how_long_the_next_one_waits(database: Database) -> None:
    async def work(journal: Any, forge: Any) -> None:
        await forge(INSERT, 4711, "alpha", "0420", "{}", "card_1")
        await reversed_request(journal)
        await trio.sleep(0.2)
        found = await journal.backlog("alpha", 10)
        assert found.waiting == 2 and found.oldest_s >= 0.2

    in_journal(database, work)


def test_the_journal_in_memory_marks_the_same_rows() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        true = await reversed_request(journal)
        journal._advices[2] = Advice(2, true, "", AdviceDraft("alpha", "0220", {}, "card_1"), "")
        journal._advices[3] = Advice(3, 4711, "", AdviceDraft("alpha", "0420", {}, "card_1"), "")
        assert [advice.refusal for advice in await journal.advices("alpha", 0, 9)] == ["", NOT_DEMANDED, NOT_DEMANDED]

    trio.run(main)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("UPDATE ledger.advices SET link = 'beta'", "advices"),
        ("UPDATE ledger.advices SET token = 'card_2'", "advices"),
        ("UPDATE ledger.advices SET mti = '0422'", "advices"),
        ("UPDATE ledger.advices SET mti = '0422'", "advices-stored"),
        ("DELETE FROM ledger.advices", "advices-stored"),
    ],
)
def test_the_verification_reports_a_changed_or_missing_advice(database: Database, change: str, check: str) -> None:
    sql = {each.name: each.sql for each in (*CHECKS, *TABLE_CHECKS)}[check]
    stretch = (0, 100) if check == "advices-stored" else ()

    async def run() -> None:
        async with connected(database.dsn(LEDGER)) as connection, connected(database.dsn(OWNER)) as owner:
            (begun,) = await begin(connection, [intent()])
            draft = AdviceDraft("alpha", "0420", {}, "card_1")
            await decide(connection, [outcome(begun.stored.intent_id, decision=R, advices=(draft,))])
            assert await owner.fetch(sql, *stretch) == []
            await owner.execute(change)
            assert len(await owner.fetch(sql, *stretch)) == 1

    asyncio.run(run())
