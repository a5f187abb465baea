"""console.postgresql: the embedded server starts, restarts after a crash and keeps out of root's way."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from console.database_roles import AUDITOR, OWNER, ROLES, TOKENIZER
from console.postgresql import (
    EmbeddedPostgres,
    PostgresqlConfig,
    PostgresqlError,
    _may,
    _postmaster,
    resolve_dsn,
    role_passwords,
)


def query(dsn: str, sql: str) -> Any:
    async def run() -> Any:
        connection: Any = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture
def state() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cardswitch-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_killed_server_starts_again_with_its_data_and_settings(state: Path) -> None:
    server = EmbeddedPostgres(state)
    try:
        server.start()
        dsn = server.dsn(OWNER)
        assert query(dsn, "SHOW fsync") == "on"
        assert query(dsn, "SHOW data_checksums") == "on"
        assert query(dsn, "SHOW synchronous_commit") == "on"
        query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = _postmaster(server._place().data)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while _postmaster(server._place().data) is not None:
            time.sleep(0.01)
        assert not server.running()
        again = EmbeddedPostgres(state)
        again.start()
        assert query(again.dsn(OWNER), "SELECT n FROM kept") == 42
        again.stop()
        assert not again.running()
    finally:
        server.destroy()


def test_a_foreign_pid_in_a_stale_lock_file_does_not_hinder_the_start(state: Path) -> None:
    server = EmbeddedPostgres(state)
    try:
        server.start()
        server.stop()
        lock = server._place().data / "postmaster.pid"
        lock.write_text(f"{os.getpid()}\n{server._place().data}\n")
        assert not server.running()
        server.start()
        assert server.running()
    finally:
        server.destroy()


def test_a_server_that_does_not_start_is_quoted_with_the_lines_of_this_start(state: Path) -> None:
    server = EmbeddedPostgres(state)
    try:
        server.start()
        server.stop()
        log = state / "postgresql" / "postgresql.log"
        log.write_text("".join(f"FATAL: of an earlier start, {number}\n" for number in range(9)))
        with pytest.raises(PostgresqlError, match="shared_buffers") as raised:
            EmbeddedPostgres(state, {"shared_buffers": "no size"}).start()
        assert "earlier start" not in str(raised.value)
    finally:
        server.destroy()


def test_only_who_started_the_server_stops_it(state: Path) -> None:
    server, other = EmbeddedPostgres(state), EmbeddedPostgres(state)
    try:
        server.start()
        supervisor = state / "postgresql" / "supervisor.json"
        # Another living process started it: pid 1 is in its place.
        started = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
        own = supervisor.read_text()
        supervisor.write_text(f'{{"pid": 1, "started": {started}}}')
        other.start()
        other.stop()
        assert server.running()
        supervisor.write_text('{"pid": 1, "started": 1}' if started != "1" else '{"pid": 1, "started": 2}')
        other.start()
        other.stop()
        assert not server.running()
        assert own
    finally:
        server.destroy()


def test_passwords_are_made_once_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    first = role_passwords(tmp_path)
    assert set(first) == set(ROLES)
    assert len(set(first.values())) == len(ROLES)
    assert role_passwords(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "postgresql" / "roles.json").stat().st_mode) == 0o600


def test_a_role_that_has_come_since_gets_a_password(tmp_path: Path) -> None:
    first = role_passwords(tmp_path)
    file = tmp_path / "postgresql" / "roles.json"
    file.write_text(json.dumps({role: first[role] for role in ROLES if role != TOKENIZER}))
    later = role_passwords(tmp_path)
    assert set(later) == set(ROLES) and later == role_passwords(tmp_path)
    assert {role: later[role] for role in ROLES if role != TOKENIZER} == {
        role: first[role] for role in ROLES if role != TOKENIZER
    }
    file.write_text(json.dumps({TOKENIZER: "x"}))
    with pytest.raises(PostgresqlError, match="no password for owner"):
        role_passwords(tmp_path)


def test_broken_password_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "roles.json").write_text("{")
    with pytest.raises(PostgresqlError, match=r"roles\.json"):
        role_passwords(tmp_path)


def test_own_server_dsn_gets_the_roles_name_and_password(tmp_path: Path) -> None:
    config = PostgresqlConfig(dsn="postgresql://boss:secret@db.example:6000/cards?ssl=require")
    password = role_passwords(tmp_path)[AUDITOR]
    assert resolve_dsn(config, tmp_path, OWNER) == config.dsn
    assert resolve_dsn(config, tmp_path, AUDITOR) == (
        f"postgresql://cards_auditor:{password}@db.example:6000/cards?ssl=require"
    )
    named = PostgresqlConfig(dsn=config.dsn, role_prefix="cardswitch")
    assert resolve_dsn(named, tmp_path, AUDITOR) == (
        f"postgresql://{AUDITOR}:{password}@db.example:6000/cards?ssl=require"
    )
    with pytest.raises(PostgresqlError, match="unknown role"):
        resolve_dsn(config, tmp_path, "root")


def test_a_wrong_password_is_refused(postgresql_server: EmbeddedPostgres) -> None:
    dsn = postgresql_server.dsn(OWNER, "postgres")
    password = role_passwords(postgresql_server._state)[OWNER]
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(dsn.replace(password, "guess"), "SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to somebody else")
def test_root_with_a_closed_state_directory_puts_the_data_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    fallback = Path(tempfile.mkdtemp(prefix="cardswitch-test-"))
    fallback.chmod(0o755)
    monkeypatch.setattr("console.postgresql._FALLBACKS", (fallback / "cardswitch",))
    # The binaries too lie where the server's user cannot go.
    may = _may_but_not("pginstall18")
    monkeypatch.setattr("console.postgresql._may", may)
    before = {path: path.stat().st_mode for path in closed.parents}
    server = EmbeddedPostgres(closed / "state")
    umask = os.umask(0o077)
    try:
        server.start()
        assert query(server.dsn(OWNER), "SELECT 1") == 1
        assert server._place().data.is_relative_to(fallback)
        assert list(fallback.glob("cardswitch/postgresql-*"))
        pid = _postmaster(server._place().data)
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert {path: path.stat().st_mode for path in closed.parents} == before
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        os.umask(umask)
        server.destroy()
        shutil.rmtree(fallback, ignore_errors=True)


def _may_but_not(forbidden: str) -> Any:
    def may(account: Any, test: str, path: Path) -> bool:
        return forbidden not in str(path) and _may(account, test, path)

    return may
