"""A real HSM process for the tests: SoftHSM token, unix socket, vault in PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from console.database_roles import OWNER
from console.postgresql import EmbeddedPostgres
from hsm.callers import COMMANDS, CallerConfig
from hsm.config import HsmConfig, KeyConfig
from tests.hsm.hsm_process import Settings

KEYS = (
    KeyConfig("zpk-pos", "pin", "pos"),
    KeyConfig("zpk-alpha", "pin", "alpha"),
    KeyConfig("zak-pos", "mac", "pos"),
)
# A caller that may send everything, so that a test of commands needs one connection; callers have tests of their own.
EVERYTHING = CallerConfig(name="test", socket="hsm-test.sock", commands=tuple(COMMANDS))
_numbers = itertools.count(1)


class HsmProcess:
    """A running process; `log` is what it wrote to standard error, `socket` that of the caller who may send all."""

    def __init__(self, state: Path, dsn: str, config: HsmConfig) -> None:
        config = msgspec.structs.replace(config, callers=(*config.callers, EVERYTHING))
        self.state = state
        self.dsn = dsn
        self.socket = state / EVERYTHING.socket
        self._log = state / "hsm.log"
        state.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hsm.hsm_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.pid = self._process.pid
        self._process.stdin.write(msgspec.json.encode(Settings(config, str(state), dsn)))
        self._process.stdin.close()
        assert self._process.stdout.readline() == b"ready\n", self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        status = self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


def new_database(server: EmbeddedPostgres) -> str:
    """Make a migrated database and return the vault's DSN."""
    name = f"hsm_{next(_numbers)}"
    execute(server.dsn(OWNER, "postgres"), f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    return server.dsn("cardswitch_vault", name)


def execute(dsn: str, sql: str, *arguments: Any) -> list[Any]:
    """Run one statement on a connection of its own."""

    async def run() -> list[Any]:
        connection: Any = await asyncpg.connect(dsn)
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(run())


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait, under asyncio, until something that nobody announces is so; ten seconds at most."""
    async with asyncio.timeout(10):
        while True:
            now = condition()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def hsm_process(postgresql_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HsmProcess]:
    """One process for all tests of this worker that do not break it."""
    process = HsmProcess(
        tmp_path_factory.mktemp("hsm"),
        new_database(postgresql_server),
        HsmConfig(dual_control=False, keys=KEYS, cached_cards=1000),
    )
    yield process
    assert process.stop() == 0, process.log
