"""console.migration: files are applied once, in order, and may not change afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import asyncpg
import pytest

from console.database_roles import GATEWAY, OWNER, ROLES, TOKENIZER
from console.migration import Migration, MigrationError, migrate, migrations
from tests.conftest import Database


def file(name: str, sql: str) -> Migration:
    return Migration("demo", name, hashlib.sha256(sql.encode()).hexdigest(), sql)


FIRST = file("0001_a.sql", "CREATE TABLE public.a (n int)")
SECOND = file("0002_b.sql", "ALTER TABLE public.a ADD COLUMN m int; INSERT INTO public.a VALUES (1, 2)")


def with_present(*files: Migration) -> list[Migration]:
    return [*migrations(), *files]


async def fetch(dsn: str, sql: str) -> Any:
    connection: Any = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_each_file_is_applied_once(database: Database) -> None:
    async def run() -> None:
        dsn = database.dsn(OWNER)
        assert (await migrate(dsn, {}, with_present(FIRST))).applied == [FIRST]
        assert (await migrate(dsn, {}, with_present(FIRST, SECOND))).applied == [SECOND]
        assert (await migrate(dsn, {}, with_present(FIRST, SECOND))).applied == []

    asyncio.run(run())


def test_concurrent_starts_wait_for_each_other(database: Database) -> None:
    async def run() -> None:
        dsn = database.dsn(OWNER)
        results = await asyncio.gather(*(migrate(dsn, {}, with_present(FIRST, SECOND)) for _ in range(5)))
        assert sorted(len(result.applied) for result in results) == [0, 0, 0, 0, 2]
        assert await fetch(dsn, "SELECT count(*) FROM public.a") == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([file("0001_a.sql", "SELECT 1")], r"demo/schema/0001_a\.sql has changed"),
        ([], r"demo/schema/0001_a\.sql was applied .* gone"),
        ([FIRST, file("0000_z.sql", "SELECT 1")], r"0000_z\.sql comes before 0001_a\.sql"),
    ],
)
def test_a_history_that_does_not_fit_is_refused(database: Database, files: list[Migration], message: str) -> None:
    async def run() -> None:
        dsn = database.dsn(OWNER)
        await migrate(dsn, {}, with_present(FIRST))
        with pytest.raises(MigrationError, match=message):
            await migrate(dsn, {}, with_present(*files))

    asyncio.run(run())


def test_a_failing_file_leaves_nothing_behind(database: Database) -> None:
    broken = file("0002_b.sql", "CREATE TABLE public.half (n int); SELECT 1/0")

    async def run() -> None:
        dsn = database.dsn(OWNER)
        with pytest.raises(MigrationError, match=r"demo/schema/0002_b\.sql: division by zero"):
            await migrate(dsn, {}, with_present(FIRST, broken))
        assert await fetch(dsn, "SELECT to_regclass('public.a')::text") == "a"
        assert await fetch(dsn, "SELECT to_regclass('public.half')") is None

    asyncio.run(run())


def test_roles_log_in_with_their_password_and_nothing_else(database: Database) -> None:
    for role in set(ROLES) - {OWNER}:
        assert asyncio.run(fetch(database.dsn(role), "SELECT current_user")) == role
        assert asyncio.run(fetch(database.dsn(role), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")) is (
            False
        )


def test_the_tokenizer_reads_the_digests_of_keys_and_nothing_else(database: Database) -> None:
    dsn = database.dsn(TOKENIZER)
    assert asyncio.run(fetch(dsn, "SELECT count(*) FROM gateway.key_digests")) == 0
    for statement in (
        "SELECT hint FROM gateway.api_keys",
        "SELECT count(*) FROM gateway.accounts",
        "SELECT count(*) FROM gateway.payment_methods",
        "SELECT count(*) FROM vault.cards",
        "SELECT count(*) FROM ledger.intents",
        "UPDATE gateway.key_digests SET ends_at = NULL",
        "DELETE FROM gateway.key_digests",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            asyncio.run(fetch(dsn, statement))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(fetch(database.dsn(GATEWAY), "SELECT count(*) FROM gateway.key_digests"))
