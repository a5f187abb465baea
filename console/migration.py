"""Brings a database to the present schema: `<package>/schema/*.sql` go in, applied files come out.

`cardswitch ledger migrate`, the supervisor and the tests call `migrate`. Each package owns its files and its schema;
this module only runs them, in order, each in one transaction, and remembers their checksums.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from console.database_roles import PREFIX, RolesError, ensure_roles, renamed, roles_problem

PACKAGES = ("ledger", "hsm", "gateway")

# One key for all starts of all cardswitch processes on one database: the second waits until the first is done.
_LOCK = 0x6361_7264_7377

_TABLE = """
CREATE SCHEMA IF NOT EXISTS migration;
CREATE TABLE IF NOT EXISTS migration.applied (
    package    text NOT NULL,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (package, name)
);
-- The prefix of the names of the roles in this database; one row.
CREATE TABLE IF NOT EXISTS migration.role_prefix (
    prefix text NOT NULL,
    one    boolean PRIMARY KEY DEFAULT true CHECK (one)
);
"""


class MigrationError(Exception):
    """The database and the files do not fit together; the message names the file."""


class Migration(msgspec.Struct, frozen=True):
    """One file: `ledger`, `0001_journal.sql`, its SHA-256 in hex and its text."""

    package: str
    name: str
    checksum: str
    sql: str


def migrations(packages: Sequence[str] = PACKAGES) -> list[Migration]:
    """Every schema file of `packages`, in the order in which they are applied."""
    found = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise MigrationError(f"package {package} is not installed")
        folder = Path(next(iter(spec.submodule_search_locations))) / "schema"
        for path in sorted(folder.glob("*.sql")):
            text = path.read_bytes()
            found.append(Migration(package, path.name, hashlib.sha256(text).hexdigest(), text.decode()))
    return found


class Migrated(msgspec.Struct, frozen=True):
    """A migration's result: files applied now, and roles that were made or given a password now."""

    applied: list[Migration]
    roles: list[str]


async def migrate(
    dsn: str,
    passwords: Mapping[str, str],
    files: Sequence[Migration] | None = None,
    *,
    prefix: str = PREFIX,
    set_passwords: bool = False,
) -> Migrated:
    """Make the roles that are missing, then apply the files that are missing.

    Args:
        dsn: the owner's; the role must be allowed to create roles and schemas.
        passwords: role → password, `console.postgresql.role_passwords`; the owner's own is left alone.
        files: instead of `migrations()`.
        prefix: the prefix of the names of the roles, `console.postgresql.PostgresqlConfig.prefix`.
        set_passwords: give roles that exist these passwords, too.

    Raises:
        MigrationError: an applied file has changed or is gone, a file's SQL fails, or the roles of this database have
            another prefix.
        RolesError: roles exist with other passwords.
    """
    wanted = migrations() if files is None else list(files)
    connection: Any = await asyncpg.connect(dsn, timeout=30)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await _check_prefix(connection, prefix)
        roles = await ensure_roles(connection, dsn, passwords, prefix, reset=set_passwords)
        await connection.execute("SET client_min_messages = warning;" + _TABLE)
        await connection.execute("INSERT INTO migration.role_prefix VALUES ($1) ON CONFLICT DO NOTHING", prefix)
        rows = await connection.fetch("SELECT package, name, checksum FROM migration.applied")
        applied = {(row["package"], row["name"]): row["checksum"] for row in rows}
        _check(wanted, applied)
        missing = [file for file in wanted if (file.package, file.name) not in applied]
        for file in missing:
            await _apply(connection, file, prefix)
        return Migrated(missing, roles)
    finally:
        await connection.close()


async def obstacles(
    dsn: str, passwords: Mapping[str, str], *, prefix: str = PREFIX, timeout_s: float = 5.0
) -> list[str]:
    """Why `migrate` would refuse, a line each; [] where it would not. Nothing is changed.

    Args: as of `migrate`; `timeout_s` is for each connection and statement.
    Raises: OSError, TimeoutError or asyncpg's errors where the database cannot be reached.
    """
    connection: Any = await asyncpg.connect(dsn, timeout=timeout_s, command_timeout=timeout_s)
    try:
        found = []
        for check in (
            _check_prefix(connection, prefix),
            _check_roles(connection, dsn, passwords, prefix),
            _check_applied(connection),
        ):
            try:
                await check
            except (MigrationError, RolesError) as error:
                found.append(str(error))
        return found
    finally:
        await connection.close()


async def _check_roles(connection: Any, dsn: str, passwords: Mapping[str, str], prefix: str) -> None:
    if problem := await roles_problem(connection, dsn, passwords, prefix):
        raise RolesError(problem)


async def _check_applied(connection: Any) -> None:
    if await connection.fetchval("SELECT to_regclass('migration.applied') IS NOT NULL"):
        rows = await connection.fetch("SELECT package, name, checksum FROM migration.applied")
        _check(migrations(), {(row["package"], row["name"]): row["checksum"] for row in rows})


async def _check_prefix(connection: Any, prefix: str) -> None:
    """Refuse a prefix that is not the one whose roles have been granted this database's tables."""
    if await connection.fetchval("SELECT to_regclass('migration.applied') IS NULL"):
        return
    stored = PREFIX  # of a database from before prefixes were kept
    if await connection.fetchval("SELECT to_regclass('migration.role_prefix') IS NOT NULL"):
        stored = await connection.fetchval("SELECT prefix FROM migration.role_prefix")
    if stored != prefix:
        raise MigrationError(
            f"the roles of this database are called {stored}_ledger and so on, the configuration says {prefix}_ledger: "
            f'set [postgresql] role_prefix = "{stored}"'
        )


def _check(wanted: Sequence[Migration], applied: Mapping[tuple[str, str], str]) -> None:
    known = {(file.package, file.name): file for file in wanted}
    newest: dict[str, str] = {}
    for (package, name), checksum in applied.items():
        newest[package] = max(name, newest.get(package, ""))
        file = known.get((package, name))
        if file is None:
            raise MigrationError(f"{package}/schema/{name} was applied to this database and is gone: newer database?")
        if file.checksum != checksum:
            raise MigrationError(f"{package}/schema/{name} has changed since it was applied: add a new file instead")
    for package, name in known:
        if (package, name) not in applied and name < newest.get(package, ""):
            raise MigrationError(f"{package}/schema/{name} comes before {newest[package]}, which is applied: rename it")


async def _apply(connection: Any, file: Migration, prefix: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(renamed(file.sql, prefix))
            await connection.execute(
                "INSERT INTO migration.applied (package, name, checksum) VALUES ($1, $2, $3)",
                *(file.package, file.name, file.checksum),
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{file.package}/schema/{file.name}: {error}") from error
