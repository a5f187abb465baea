"""ledger.table_checks and the bounds of the walks: no row of the journal is passed by, and nothing stays unsealed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from console.database_roles import AUDITOR, OWNER
from ledger.checks import CHECKS
from ledger.seal import seal
from ledger.sealing import REMINDER_S, Sealing
from ledger.table_checks import COUNTS, TABLE_CHECKS, TABLE_SETTINGS
from ledger.verify import Report
from tests.conftest import Database
from tests.ledger.store import connected
from tests.ledger.test_verify import after_a_day, verify


def wrong(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.problems}


def said(report: Report) -> str:
    return "\n".join(problem for check in report.checks for problem in check.problems)


# A payment a thousand times as large as intent 1, under numbers that no walk meets.
FORGED = """
ALTER TABLE ledger.outcomes DROP CONSTRAINT outcomes_seq_check;
INSERT INTO ledger.intents SELECT (jsonb_populate_record(i, jsonb_build_object('id', {id}, 'key', 'forged'))).*
  FROM ledger.intents i WHERE id = 1;
INSERT INTO ledger.outcomes (intent_id, seq, decision, response_code, auth_code, reason, answer)
  OVERRIDING SYSTEM VALUE SELECT {id}, {seq}, 'approved', '00', '', '', '{{}}';
INSERT INTO ledger.postings SELECT {id}, line, account_id, layer, currency, amount_minor FROM ledger.postings
 WHERE intent_id = 1;
"""
PASSED_BY = [
    ("INSERT INTO ledger.postings SELECT -5, line, account_id, layer, currency, amount_minor FROM ledger.postings"
     " WHERE intent_id = 1", {"numbers"}, "ledger.postings has a row whose intent_id is -5"),
    (FORGED.format(id=5000, seq=0), {"numbers", "counts"}, "ledger.outcomes has a row whose seq is 0"),
    (FORGED.format(id=0, seq=-7), {"numbers", "counts"}, "ledger.intents has a row whose id is 0"),
    ("ALTER TABLE ledger.postings DROP CONSTRAINT postings_pkey, ALTER intent_id DROP NOT NULL;"
     " INSERT INTO ledger.postings SELECT NULL, line, account_id, layer, currency, amount_minor FROM ledger.postings"
     " WHERE intent_id = 1", {"numbers"}, "ledger.postings has a row whose intent_id is empty"),
    ("INSERT INTO ledger.postings SELECT 5000000000, line, account_id, layer, currency, amount_minor"
     " FROM ledger.postings WHERE intent_id = 1", {"posting-outcome"}, "intent 5000000000: lines without an approval"),
    ("UPDATE ledger.accounts SET type = 'expense' WHERE name = 'platform:revenue'", {"accounts"},
     "platform:revenue has type expense: the chart says income"),
    ("INSERT INTO ledger.accounts (name, type) VALUES ('merchant:MINE:secret', 'asset')", {"accounts"},
     "merchant:MINE:secret has type asset: the chart has no such account"),
    ("ALTER TABLE ledger.postings ENABLE ROW LEVEL SECURITY;"
     " CREATE POLICY all_of_it ON ledger.postings USING (true)", {"tables"}, "a policy may hide rows of it"),
    ("ALTER TABLE ledger.intents RENAME TO real; CREATE VIEW ledger.intents AS SELECT * FROM ledger.real;"
     " GRANT SELECT ON ledger.intents TO PUBLIC", {"tables"}, "ledger.intents is no plain table"),
    ("INSERT INTO ledger.advices (intent_id, link, mti, elements, token) VALUES (4, 'beta', '0220', '{}', 'card_1')",
     {"advices"}, "0220 to beta: the outcome of intent 4 calls for none"),
    ("INSERT INTO ledger.advices (intent_id, link, mti, elements, token) VALUES (9000, 'beta', '0420', '{}', '')",
     {"advices"}, "0420 to beta: the outcome of intent 9000 calls for none"),
    ("INSERT INTO ledger.acknowledgements (advice_id, response_code) VALUES (999, '00')", {"acknowledgements"},
     "advice 999 is acknowledged and is not there"),
    ("INSERT INTO ledger.floors VALUES ('advices alpha', 2)", {"floors"}, "to alpha waits below the floor of its link"),
    ("INSERT INTO ledger.floors VALUES ('undecided', 9000)", {"floors"}, "the floor undecided is 9000"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "seen_by", "text"), PASSED_BY)
def test_rows_outside_of_the_walks_are_found(database: Database, sql: str, seen_by: set[str], text: str) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await seal(owner, max_rows=5)
            before = await verify(auditor)
            assert before.whole, before
            await owner.execute("SET session_replication_role = replica")
            await owner.execute(sql)
            for report in (await verify(auditor), await verify(auditor, since=before.verified)):
                assert wrong(report) >= seen_by, report
                assert text in said(report)

    after_a_day(database, check)


@pytest.mark.parametrize("name", ["advices", "acknowledgements", "floors"])
def test_rules_about_advices_join_by_index_whatever_the_planner_knows(database: Database, name: str) -> None:
    """A table without statistics, or with old ones, is taken for a small one."""
    (check,) = [check for check in TABLE_CHECKS if check.name == name]

    async def run() -> list[str]:
        async with connected(database.dsn(AUDITOR)) as auditor, auditor.transaction():
            await auditor.execute(TABLE_SETTINGS)
            return [row[0] for row in await auditor.fetch(f"EXPLAIN {check.sql} LIMIT 20")]

    plan = asyncio.run(run())
    assert not [line for line in plan if "Hash" in line and "Join" in line], plan
    assert not [line for line in plan if "Seq Scan on advice" in line or "Seq Scan on ack" in line], plan
    assert any("Index" in line and "using" in line for line in plan)


def test_every_rule_about_tables_is_seen_to_fail() -> None:
    seen = set().union(*(names for _, names, _ in PASSED_BY))
    assert seen - {check.name for check in CHECKS} == {check.name for check in TABLE_CHECKS} | {COUNTS[0]}


def test_an_outcome_before_the_last_verification_that_was_deleted_is_counted(database: Database) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await seal(owner, max_rows=5)
            before = await verify(auditor)
            await owner.execute("DELETE FROM ledger.outcomes WHERE intent_id = 1")
            assert wrong(await verify(auditor, since=before.verified)) >= {"counts"}

    after_a_day(database, check)


def test_numbers_far_apart_are_walked_in_a_few_stretches(database: Database) -> None:
    """A thousand million numbers without a row would be 50,000 stretches."""

    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await owner.execute("SET session_replication_role = replica")
            await owner.execute(FORGED.format(id=10**9, seq=2 * 10**9))
            queries: list[str] = []
            async with auditor_log(auditor, queries):
                report = await verify(auditor)
            assert report.outcomes == 17 and len(queries) < 100, len(queries)

    after_a_day(database, check)


class auditor_log:
    """Collects the statements of a connection."""

    def __init__(self, connection: Any, queries: list[str]) -> None:
        self._connection, self._log = connection, lambda record: queries.append(record.query)

    async def __aenter__(self) -> None:
        self._connection.add_query_logger(self._log)

    async def __aexit__(self, *_: object) -> None:
        self._connection.remove_query_logger(self._log)


@pytest.mark.parametrize(
    ("age", "text"),
    [("20 minutes", "16 outcomes from number 1 on have no seal, the oldest is 12"), ("-1 day", "is decided 86")],
)
def test_outcomes_that_stay_unsealed_are_wrong(database: Database, age: str, text: str) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            assert (await verify(auditor, max_unsealed_s=3600)).whole, "they are new"
            await owner.execute("UPDATE ledger.outcomes SET decided_at = now() - $1::text::interval", age)
            assert (await verify(auditor)).whole, "nobody asks"
            report = await verify(auditor, max_unsealed_s=60)
            assert wrong(report) == {"unsealed"} and text in said(report)
            await seal(owner)
            assert (await verify(auditor, max_unsealed_s=60)).whole

    after_a_day(database, check)


def test_rounds_that_fail_are_errors_with_their_reason_at_a_sampled_rate(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    sealing = Sealing("", 1.0, 1.0, None, lambda: now)
    for _ in range(int(2 * REMINDER_S)):
        now += 1.0
        sealing.failed(TypeError("no digest of version 9"))
    sealing.failed(OSError("gone"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "the ledger could not be sealed: TypeError: no digest of version 9; nothing has been sealed for 1 s,"
         " 0 such rounds were not logged"),
        ("ERROR", "the ledger could not be sealed: TypeError: no digest of version 9; nothing has been sealed for"
         " 301 s, 299 such rounds were not logged"),
        ("ERROR", "the ledger could not be sealed: OSError: gone; nothing has been sealed for 600 s, 299 such rounds"
         " were not logged"),
    ]  # fmt: skip
