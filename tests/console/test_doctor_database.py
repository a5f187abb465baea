"""Doctor says beforehand whether a server of your own would be accepted: a migration's refusals, nothing changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

import specs
from console.config import Config, load_config
from console.database_roles import GATEWAY, OWNER, ROLES
from console.doctor import MISSING, OK, Finding
from console.doctor_database import database_findings
from console.gateway_link import RemoteSwitch
from console.migration import migrate, obstacles
from console.postgresql import EmbeddedPostgres, PostgresqlConfig, role_passwords
from gateway.sealing import open_sealer
from tests.conftest import Database, _execute
from tests.console.test_database_roles import FIRST, two

__all__ = ["two"]
PREFIX = "pair_a"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), state=tmp_path / "state")


def on(config: Config, database: Database, prefix: str = PREFIX) -> list[Finding]:
    postgresql = PostgresqlConfig(dsn=database.dsn(OWNER), role_prefix=prefix)
    return database_findings(msgspec.structs.replace(config, postgresql=postgresql))


def test_a_server_that_is_away(config: Config) -> None:
    dsn = "postgresql://owner:very-secret@127.0.0.1:1/cards"
    (away,) = database_findings(msgspec.structs.replace(config, postgresql=PostgresqlConfig(dsn=dsn)))
    assert away.state == MISSING and away.detail.startswith("127.0.0.1/cards: ")
    assert "very-secret" not in away.detail + away.mend


def test_a_wrong_password_of_the_owner(config: Config, two: tuple[Database, Database]) -> None:
    database, _ = two
    dsn = database.dsn(OWNER).replace(quote(role_passwords(database.server._state)[OWNER], safe=""), "guess")
    (refused,) = database_findings(msgspec.structs.replace(config, postgresql=PostgresqlConfig(dsn=dsn)))
    assert refused.state == MISSING and "password authentication failed" in refused.detail


def test_an_empty_database_is_taken_and_stays_empty(config: Config, two: tuple[Database, Database]) -> None:
    database, _ = two
    (finding,) = on(config, database)
    assert finding.state == OK
    assert asyncio.run(_value(database, "SELECT to_regclass('migration.applied') IS NULL"))
    assert not config.state_path.exists()


def test_a_new_machine_without_the_passwords(config: Config, two: tuple[Database, Database]) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix=PREFIX))
    (refused,) = on(config, database)
    assert refused.state == MISSING and "copy postgresql/roles.json" in refused.detail
    roles = config.state_path / "postgresql" / "roles.json"
    roles.parent.mkdir(parents=True)
    roles.write_bytes(msgspec.json.encode(FIRST))
    assert [finding.state for finding in on(config, database)] == [OK]
    assert "pair_a_ledger and so on" in on(config, database, "pair_b")[0].detail
    roles.write_text("{")
    (broken,) = on(config, database)
    assert broken.state == MISSING and "roles.json" in broken.detail


def test_a_newer_database_and_a_changed_file(config: Config, two: tuple[Database, Database]) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix=PREFIX))
    asyncio.run(_value(database, "INSERT INTO migration.applied VALUES ('ledger', '9999_later.sql', '') RETURNING 1"))
    assert asyncio.run(obstacles(database.dsn(OWNER), FIRST, prefix=PREFIX)) == [
        "ledger/schema/9999_later.sql was applied to this database and is gone: newer database?"
    ]


def test_an_owner_who_may_not_make_roles(two: tuple[Database, Database]) -> None:
    database, _ = two
    server: EmbeddedPostgres = database.server
    _execute(server, "CREATE ROLE plain_owner LOGIN PASSWORD 'x'")
    try:
        dsn = database.dsn(OWNER)
        plain = dsn.replace(f"//{OWNER}:{quote(role_passwords(server._state)[OWNER], safe='')}@", "//plain_owner:x@")
        (problem,) = asyncio.run(obstacles(plain, dict.fromkeys(ROLES, "x"), prefix=PREFIX))
        assert "give that user CREATEROLE" in problem and "pair_a_auditor" in problem
    finally:
        _execute(server, "DROP ROLE plain_owner")


def test_a_machine_without_the_gateway_s_sealing_keys(
    config: Config, two: tuple[Database, Database], tmp_path: Path
) -> None:
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix=PREFIX))
    roles = config.state_path / "postgresql" / "roles.json"
    roles.parent.mkdir(parents=True)
    roles.write_bytes(msgspec.json.encode(FIRST))
    there = tmp_path / "there.keys"
    asyncio.run(_sealed(database, there))
    (missing,) = on(config, database)
    assert missing.state == MISSING and "gateway-sealing.keys is missing" in missing.detail
    own = config.state_path / "gateway-sealing.keys"
    own.write_text(f"1 {'ab' * 32}\n")
    own.chmod(0o600)
    assert "has another key of version 1" in on(config, database)[0].detail
    own.write_bytes(there.read_bytes())
    assert [finding.state for finding in on(config, database)] == [OK]


def test_a_machine_with_a_gateway_alone_has_one_role(
    config: Config, two: tuple[Database, Database], tmp_path: Path
) -> None:
    """As docs/operations.md has it: a DSN without a user, and the password of the gateway's role."""
    database, _ = two
    asyncio.run(migrate(database.dsn(OWNER), FIRST, prefix=PREFIX))
    there = tmp_path / "there.keys"
    asyncio.run(_sealed(database, there))
    replace = msgspec.structs.replace
    dsn = database.dsn(OWNER).replace(f"{OWNER}:{quote(role_passwords(database.server._state)[OWNER], safe='')}@", "")
    alone = replace(
        config,
        hsm=replace(config.hsm, vault=False),
        gateway=replace(config.gateway, switch=RemoteSwitch(address="10.0.0.1:5010")),
        postgresql=PostgresqlConfig(dsn=dsn, role_prefix=PREFIX),
    )
    roles = config.state_path / "postgresql" / "roles.json"
    roles.parent.mkdir(parents=True)
    roles.write_bytes(msgspec.json.encode({OWNER: ""}))
    (missing,) = database_findings(alone)
    assert missing.state == MISSING and "no password of cardswitch_gateway" in missing.detail
    roles.write_bytes(msgspec.json.encode({OWNER: "", GATEWAY: FIRST[GATEWAY]}))
    before = roles.read_bytes()
    (missing,) = database_findings(alone)
    assert "gateway-sealing.keys is missing" in missing.detail
    own = config.state_path / "gateway-sealing.keys"
    own.write_bytes(there.read_bytes())
    own.chmod(0o600)
    assert [finding.state for finding in database_findings(alone)] == [OK]
    assert roles.read_bytes() == before, "doctor makes no passwords"


async def _value(database: Database, sql: str) -> object:
    import asyncpg

    connection = await asyncpg.connect(database.dsn(OWNER))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def _sealed(database: Database, path: Path) -> None:
    import asyncpg

    connection = await asyncpg.connect(database.dsn(OWNER))
    try:
        await open_sealer(connection, path)
    finally:
        await connection.close()
