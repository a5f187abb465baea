"""Refusals of the database itself: changes by the switch's role, unbalanced lines, lines without their outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from console.database_roles import AUDITOR, GATEWAY, LEDGER, OWNER, VAULT
from ledger.journal import network_stan
from tests.conftest import Database
from tests.ledger.samples import hold, intent
from tests.ledger.store import connected, store

TABLES = ("intents", "outcomes", "accounts", "postings", "advices", "acknowledgements", "leases", "floors", "seals")


def execute(dsn: str, sql: str, *arguments: Any) -> Any:
    async def run() -> Any:
        async with connected(dsn) as connection:
            return await connection.fetch(sql, *arguments)

    return asyncio.run(run())


@pytest.mark.parametrize("role", [LEDGER, AUDITOR])
def test_rows_cannot_be_changed_or_removed(database: Database, role: str) -> None:
    async def run() -> None:
        async with connected(database.dsn(role)) as connection:
            for table in TABLES:
                column = {"leases": "holder", "floors": "name", "accounts": "name", "seals": "number"}.get(table)
                column = column or ("advice_id" if table == "acknowledgements" else "intent_id")
                column = "key" if table == "intents" else "mti" if table == "advices" else column
                statements = [f"DELETE FROM ledger.{table}", f"TRUNCATE ledger.{table}", f"DROP TABLE ledger.{table}"]
                if (role, table) != (LEDGER, "leases"):
                    statements.append(f"UPDATE ledger.{table} SET {column} = {column}")
                for statement in statements:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("ALTER TABLE ledger.postings DISABLE TRIGGER ALL")

    asyncio.run(run())


def test_the_auditor_reads_and_writes_nothing(database: Database) -> None:
    for table in TABLES:
        execute(database.dsn(AUDITOR), f"SELECT * FROM ledger.{table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(
                database.dsn(AUDITOR),
                f"INSERT INTO ledger.{table} OVERRIDING SYSTEM VALUE SELECT * FROM ledger.{table}",
            )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(database.dsn(AUDITOR), "SELECT * FROM ledger.account_ids('{cash:bank}', '{asset}')")


@pytest.mark.parametrize("role", [VAULT, GATEWAY])
def test_other_packages_see_nothing_of_the_ledger(database: Database, role: str) -> None:
    for table in TABLES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(database.dsn(role), f"SELECT * FROM ledger.{table}")


OUTCOME = """
WITH o AS (INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer)
           VALUES ($1, 'approved', '00', '', '', '{}'))
INSERT INTO ledger.postings (intent_id, line, account_id, layer, currency, amount_minor)
SELECT $1, n, (SELECT min(id) FROM ledger.accounts), layer, currency, amount
  FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS r (layer, currency, amount, n)
"""


@pytest.mark.parametrize(
    ("layers", "currencies", "amounts"),
    [
        (["posted", "posted"], ["EUR", "EUR"], [5, -4]),
        (["posted", "pending"], ["EUR", "EUR"], [5, -5]),
        (["posted", "posted"], ["EUR", "USD"], [5, -5]),
        (["posted"], ["EUR"], [5]),
    ],
)
def test_unbalanced_lines_are_refused(
    database: Database, layers: list[str], currencies: list[str], amounts: list[int]
) -> None:
    number = store(database, [intent()], [])[0]
    store(database, [intent()], [hold(1)])  # so that there is an account
    with pytest.raises(asyncpg.CheckViolationError, match="do not sum to zero"):
        execute(database.dsn(OWNER), OUTCOME, number, layers, currencies, amounts)
    execute(database.dsn(OWNER), OUTCOME, number, ["posted", "posted"], ["EUR", "EUR"], [5, -5])


def test_lines_cannot_be_added_to_a_decided_outcome(database: Database) -> None:
    number = store(database, [intent()], [hold(100)])[0]
    sql = """INSERT INTO ledger.postings (intent_id, line, account_id, layer, currency, amount_minor)
             SELECT intent_id, line + 10, account_id, layer, currency, amount_minor FROM ledger.postings
              WHERE intent_id = $1"""
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="do not commit with their outcome"):
        execute(database.dsn(LEDGER), sql, number)


def test_an_outcome_needs_its_intent_and_original(database: Database) -> None:
    number = store(database, [intent()], [])[0]
    sql = """INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer, original_id)
             VALUES ($1, 'approved', '00', '', '', '{}', $2)"""
    for intent_id, original_id in ((number + 1000, None), (number, number + 1000)):
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="no such intent"):
            execute(database.dsn(LEDGER), sql, intent_id, original_id)


def test_no_row_takes_an_unmasked_pan(database: Database) -> None:
    with pytest.raises(Exception, match="masked_pan"):
        store(database, [intent(masked_pan="4242424242424242")], [])


def test_the_database_numbers_messages_as_the_switch_does(database: Database) -> None:
    for number in (1, 999_998, 999_999, 1_000_000, 123_456_789_012):
        row = execute(database.dsn(AUDITOR), "SELECT ledger.network_stan($1)", number)[0]
        assert row[0] == network_stan(number)


def test_what_a_brin_index_has_not_summarised_does_not_grow_with_its_table(database: Database) -> None:
    """Pages that are not summarised are read by each look; vacuum summarises, by default after a fifth of the table."""
    tables = execute(
        database.dsn(OWNER),
        """SELECT DISTINCT t.relname, t.reloptions FROM pg_class i JOIN pg_am m ON m.oid = i.relam AND m.amname = 'brin'
             JOIN pg_index x ON x.indexrelid = i.oid JOIN pg_class t ON t.oid = x.indrelid""",
    )
    assert {row["relname"] for row in tables} == {"intents", "outcomes"}
    for row in tables:
        assert "autovacuum_vacuum_insert_scale_factor=0" in (row["reloptions"] or ()), row["relname"]
