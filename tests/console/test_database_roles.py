"""Database roles: made once on a server, never changed in passing, apart for each installation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from console.database_roles import (
    AUDITOR,
    LEDGER,
    OWNER,
    ROLES,
    RolesError,
    dsn_of,
    is_prefix,
    prefix_for,
    renamed,
    role_name,
)
from console.migration import MigrationError, migrate, migrations
from console.postgresql import EmbeddedPostgres, PostgresqlConfig
from tests.conftest import Database, _execute

FIRST = {role: f"first-{role}" for role in ROLES}
SECOND = {role: f"second-{role}" for role in ROLES}


@pytest.fixture
def two(postgresql_server: EmbeddedPostgres) -> Iterator[tuple[Database, Database]]:
    """Two empty databases on one server, and no roles but the owner's and those of other tests."""
    names = ("pair_a", "pair_b")
    for name in names:
        _execute(postgresql_server, f"CREATE DATABASE {name}")
    yield Database(postgresql_server, names[0]), Database(postgresql_server, names[1])
    for name in names:
        _execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")
    for prefix in names:
        for role in ROLES[1:]:
            _execute(postgresql_server, f"DROP ROLE IF EXISTS {role_name(role, prefix)}")


def as_role(database: Database, role: str, passwords: dict[str, str], prefix: str, sql: str = "SELECT 1") -> Any:
    async def run() -> Any:
        dsn = dsn_of(database.dsn(OWNER), role_name(role, prefix), passwords[role])
        connection: Any = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_a_second_machine_without_the_passwords_is_refused_and_changes_nothing(two: tuple[Database, Database]) -> None:
    database, _ = two
    made = asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_a")).roles
    assert set(made) == {role_name(role, "pair_a") for role in ROLES[1:]}
    with pytest.raises(RolesError) as refused:
        asyncio.run(migrate(database.dsn(OWNER), SECOND, prefix="pair_a"))
    for part in ("pair_a_ledger", "copy postgresql/roles.json", "role_prefix", "--set-passwords"):
        assert part in str(refused.value)
    assert not any(password in str(refused.value) for password in SECOND.values())
    for role in ROLES[1:]:
        assert as_role(database, role, FIRST, "pair_a") == 1


def test_a_second_machine_with_the_passwords_joins(two: tuple[Database, Database]) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_a"))
    again = asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_a"))
    assert (again.applied, again.roles) == ([], [])


def test_another_database_of_the_server_has_roles_of_its_own(two: tuple[Database, Database]) -> None:
    a, b = two
    asyncio.run(migrate(a.dsn(OWNER), FIRST, prefix="pair_a"))
    asyncio.run(migrate(b.dsn(OWNER), SECOND, prefix="pair_b"))
    for role in ROLES[1:]:
        assert as_role(a, role, FIRST, "pair_a") == 1
        assert as_role(b, role, SECOND, "pair_b") == 1
    assert as_role(a, AUDITOR, FIRST, "pair_a", "SELECT count(*) FROM ledger.intents") == 0
    for role, sql in ((AUDITOR, "SELECT count(*) FROM ledger.intents"), (LEDGER, "SELECT count(*) FROM ledger.seals")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            as_role(b, role, FIRST, "pair_a", sql)


def test_machines_that_start_at_once_make_the_roles_once(two: tuple[Database, Database]) -> None:
    a, b = two

    async def start() -> list[Any]:
        return list(
            await asyncio.gather(
                *(migrate(database.dsn(OWNER), FIRST, prefix="pair_a") for database in (a, b, a, b)),
                return_exceptions=True,
            )
        )

    results = asyncio.run(start())
    assert not [result for result in results if isinstance(result, BaseException)]
    assert as_role(a, LEDGER, FIRST, "pair_a") == 1


def test_passwords_are_set_anew_only_when_asked(two: tuple[Database, Database]) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_a"))
    changed = asyncio.run(migrate(database.dsn(OWNER), SECOND, prefix="pair_a", set_passwords=True)).roles
    assert set(changed) == {role_name(role, "pair_a") for role in ROLES[1:]}
    assert as_role(database, LEDGER, SECOND, "pair_a") == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        as_role(database, LEDGER, FIRST, "pair_a")


def test_a_prefix_that_is_not_the_databases_own_is_refused(two: tuple[Database, Database]) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_a"))
    with pytest.raises(MigrationError, match=r"set \[postgresql\] role_prefix = .pair_a."):
        asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix="pair_b"))


def test_a_refused_machine_leaves_the_prefix_of_an_empty_database_open(two: tuple[Database, Database]) -> None:
    a, b = two
    asyncio.run(migrate(a.dsn(OWNER), FIRST, prefix="pair_a"))
    with pytest.raises(RolesError):
        asyncio.run(migrate(b.dsn(OWNER), SECOND, prefix="pair_a"))
    assert asyncio.run(migrate(b.dsn(OWNER), SECOND, prefix="pair_b")).applied == migrations()


def test_no_schema_file_keeps_a_role_name_that_another_installation_has() -> None:
    for file in migrations():
        assert not re.search(r"cardswitch_\w+", renamed(file.sql, "mine")), file.name


@pytest.mark.parametrize(
    ("dsn", "prefix"),
    [
        ("postgresql://o@db/cards", "cards"),
        ("postgresql://o@db/Cards-EU", "cards_eu"),
        ("postgresql://o@db/2026", "cardswitch_2026"),
        ("postgresql://o@db/", "cardswitch"),
        ("postgresql://o@db/" + "x" * 63, "x" * 50),
        ("postgresql://o@db/k%C3%A4se", "k_se"),
    ],
)
def test_a_databases_name_becomes_a_prefix(dsn: str, prefix: str) -> None:
    assert prefix_for(dsn) == prefix and is_prefix(prefix)
    assert PostgresqlConfig(dsn=dsn).prefix == prefix


@pytest.mark.parametrize("prefix", ["2x", "a-b", "Ä", "x" * 51, "a b", 'a"b'])
def test_a_prefix_that_needs_quoting_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="role_prefix"):
        PostgresqlConfig(dsn="postgresql://o@db/x", role_prefix=prefix)
    with pytest.raises(ValueError, match="only with a dsn"):
        PostgresqlConfig(role_prefix="mine")
