"""Privileges of the vault's role in the database, and the values that the database gives away: none."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from hsm.key_commands import Rewrap
from hsm.vault_commands import (
    ChangeNetworkToken,
    DeleteCard,
    Detokenize,
    GenerateTokenCryptogram,
    ProvisionNetworkToken,
)
from tests.conftest import Database
from tests.e2e.leaks import Secrets, rows_of
from tests.hsm.conftest import execute
from tests.hsm.vault.counter import DOMAIN, MASTERCARD, VISA, Counter, at_counter
from tests.hsm.vault.test_network_tokens import paid

ROLE = "cardswitch_vault"
SILVER = "4000000000009995"
# table → what the role may do, columns named where it is not the whole table.
ALLOWED = {
    "cards": {"SELECT", "INSERT"},
    "tokens": {"SELECT", "INSERT", "UPDATE used_at", "UPDATE used_by"},
    "network_tokens": {"SELECT", "INSERT"}
    | {f"UPDATE {column}" for column in ("state", "changed_at", "issued", "counter", "used_by")},
    "deletions": {"SELECT"},
}
FUNCTIONS = {"begin_erasure", "erase_card", "rewrap_cards", "rewrap_network_tokens"}


def test_the_role_holds_exactly_these_privileges(database: Database) -> None:
    held: dict[str, set[str]] = {}
    for row in execute(
        database.dsn("owner"),
        """SELECT table_name, privilege_type, '' AS column_name FROM information_schema.table_privileges
            WHERE table_schema = 'vault' AND grantee = $1
           UNION ALL
           SELECT table_name, privilege_type, column_name FROM information_schema.column_privileges
            WHERE table_schema = 'vault' AND grantee = $1""",
        ROLE,
    ):
        if row["column_name"] and row["privilege_type"] in held.get(row["table_name"], ()):
            continue  # the whole table's, said again of each column
        held.setdefault(row["table_name"], set()).add(f"{row['privilege_type']} {row['column_name']}".strip())
    assert held == ALLOWED
    functions = execute(
        database.dsn("owner"),
        """SELECT proname, prosecdef, proconfig FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
            WHERE nspname = 'vault' AND has_function_privilege($1, p.oid, 'EXECUTE')""",
        ROLE,
    )
    assert {row["proname"] for row in functions} == FUNCTIONS
    # They run as the owner: nobody may slip them another schema's names.
    assert all(row["prosecdef"] and row["proconfig"] == ["search_path=pg_catalog, pg_temp"] for row in functions)


def test_nobody_else_may_call_the_functions_or_see_the_tables(database: Database) -> None:
    for role in ("cardswitch_gateway", "cardswitch_ledger", "cardswitch_auditor"):
        for sql in (
            "SELECT vault.begin_erasure('card_1')",
            "SELECT vault.erase_card('{}', '{}', '')",
            *(f"SELECT 1 FROM vault.{table}" for table in ALLOWED),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                execute(database.dsn(role), sql)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM vault.cards",
        "UPDATE vault.cards SET ciphertext = ''",
        "UPDATE vault.cards SET key_version = 'pan-9'",
        "DELETE FROM vault.tokens",
        "UPDATE vault.tokens SET domain = 'acct_thief'",
        "UPDATE vault.tokens SET card = ''",
        "DELETE FROM vault.network_tokens",
        "UPDATE vault.network_tokens SET domain = 'acct_thief'",
        "UPDATE vault.network_tokens SET merchant = ''",
        "UPDATE vault.network_tokens SET card = NULL",
        "UPDATE vault.network_tokens SET ciphertext = ''",
        "INSERT INTO vault.deletions SELECT * FROM vault.deletions",
        "UPDATE vault.deletions SET record = ''",
        "DELETE FROM vault.deletions",
        "TRUNCATE vault.deletions",
        "TRUNCATE vault.cards CASCADE",
        "CREATE TABLE vault.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "ALTER TABLE vault.network_tokens DISABLE TRIGGER guard",
        "DROP FUNCTION vault.erase_card",
        "SELECT 1 FROM ledger.intents",
        "SELECT 1 FROM gateway.api_keys",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_what_the_role_may_not_do(database: Database, sql: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(database.dsn(ROLE), sql)


def test_no_table_holds_a_number_in_any_encoding(database: Database) -> None:
    secrets = Secrets()
    for name, pan in (("visa", VISA), ("mastercard", MASTERCARD), ("silver", SILVER)):
        secrets.add_number(name, pan)

    async def test(counter: Counter) -> None:
        for pan in (VISA, MASTERCARD, SILVER):
            await counter.token(pan)
        dpans = []
        for pan, change in ((VISA, ""), (MASTERCARD, "suspend"), (SILVER, "delete")):
            token = await counter.ask(ProvisionNetworkToken(pan=pan, domain=DOMAIN, expiry="3012"))
            made = await counter.ask(GenerateTokenCryptogram(id=token.id, domain=DOMAIN))
            assert await paid(counter, token.dpan, made.cryptogram, used_by="1") == token.card
            secrets.add_number(f"network token of {pan[-4:]}", token.dpan)
            dpans.append(token.dpan)
            if change:
                await counter.ask(ChangeNetworkToken(id=token.id, domain=DOMAIN, change=change))
        await counter.ask(DeleteCard(id=await counter.card(MASTERCARD), reason="account_closed", by="ada"))
        counter.keyring.rotate()
        await counter.ask(Rewrap())
        await counter.token(VISA, kind="tok")
        await search(dpans)

    async def search(dpans: list[str]) -> None:
        connection: Any = await asyncpg.connect(database.dsn("owner"))
        try:
            tables = await rows_of(connection)
        finally:
            await connection.close()
        assert {f"vault.{name}" for name in ALLOWED} <= set(tables)
        assert all(tables[f"vault.{name}"] for name in ALLOWED), "nothing to search"
        found = {name: secrets.found_in(row) for name, rows in tables.items() for row in rows}
        assert not {name: what for name, what in found.items() if what}
        assert len(set(dpans)) == 3 and secrets.found_in(dpans[0].encode())  # the search finds what is there

    at_counter(database, test)


def test_the_log_of_a_detokenization_has_no_number(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token()
        await counter.ask(Detokenize(id=token.id, domain=DOMAIN, purpose="dispute", trace_id="t1"))

    at_counter(database, test)
    logged = capsys.readouterr().out
    assert "warning" in logged  # nothing else has the purpose: no usual level may filter it
    assert "detokenized" in logged and "dispute" in logged and "t1" in logged
    assert VISA not in logged
