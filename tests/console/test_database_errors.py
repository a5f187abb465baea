"""A database that cannot be reached is one line with the place and the remedy, and without a password."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import msgspec
import pytest

import specs
from console.config import load_config
from console.database_errors import CONNECTING, unreachable
from console.database_roles import AUDITOR
from console.errors import ConfigError, ConsoleError
from console.ledger_access import in_ledger
from console.ledger_commands import run_migrate
from console.postgresql import PostgresqlConfig

EMBEDDED, OWN = PostgresqlConfig(), PostgresqlConfig(dsn="postgresql://owner:secret@db.example:5432/payments")
EMBEDDED_AWAY = "the embedded PostgreSQL cannot be reached: gone"
PLACE, START = "the database db.example/payments", "correct [postgresql] dsn, or start that server"
LOGIN = (
    "the owner's password is in [postgresql] dsn; of another role, its password is in postgresql/roles.json of the "
    "state directory: docs/operations.md, Add a machine"
)


@pytest.mark.parametrize(
    ("config", "error", "what", "fix"),
    [
        (EMBEDDED, FileNotFoundError("gone"), EMBEDDED_AWAY, "start it with cardswitch up"),
        (OWN, ConnectionRefusedError("refused"), f"{PLACE} cannot be reached: refused", START),
        (OWN, TimeoutError(), f"{PLACE} cannot be reached: TimeoutError", START),
        (OWN, asyncpg.InvalidCatalogNameError("no such one"), f"{PLACE} cannot be reached: no such one", START),
        (OWN, asyncpg.InvalidPasswordError("failed"), f"{PLACE} lets nobody in: failed", LOGIN),
    ],
)  # fmt: skip
def test_the_error_names_the_place_and_the_remedy(
    config: PostgresqlConfig, error: Exception, what: str, fix: str
) -> None:
    assert isinstance(error, CONNECTING)
    found = unreachable(config, error)
    assert str(found) == f"{what}; {fix}"
    assert "secret" not in str(found)


def test_commands_name_the_setting_of_a_server_that_is_away(tmp_path: Path) -> None:
    sample = load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), state=tmp_path / "state")
    away = PostgresqlConfig(dsn="postgresql://owner:secret@127.0.0.1:1/payments")
    config = msgspec.structs.replace(sample, postgresql=away)

    async def nothing(_: object) -> None:
        raise AssertionError

    message = r"^the database 127\.0\.0\.1/payments cannot be reached: .*correct \[postgresql\] dsn"
    with pytest.raises(ConsoleError, match=message):
        in_ledger(config, AUDITOR, nothing)
    with pytest.raises(ConsoleError, match=message):
        run_migrate(config, as_json=False)


def test_text_that_is_no_dsn_is_an_error_of_the_file_that_does_not_repeat_it(tmp_path: Path) -> None:
    file = tmp_path / "cardswitch.toml"
    file.write_text('[postgresql]\ndsn = "owner:secret@db.example"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.problems == ("postgresql: dsn: expected postgresql://owner:password@host/database",)
    with pytest.raises(ValueError, match="dsn"):
        msgspec.convert({"dsn": "db.example"}, PostgresqlConfig)
