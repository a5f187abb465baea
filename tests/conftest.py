"""Fixtures shared by all tests."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from console.database_roles import OWNER
from console.migration import migrate
from console.postgresql import EmbeddedPostgres, role_passwords
from tests.state import new_state

# The speed of examples depends on the machine, which other tests share, not on the code.
settings.register_profile("fresh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in every run: a test that fails has failed by a change. `make properties` looks for new ones.
settings.register_profile("fixed", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("fixed")

_numbers = itertools.count(1)


_UNCONFIGURED = structlog.get_config()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The logging configuration of a test, or a fixture of many tests, ends with it.

    Its streams are closed when the next one logs, and its level would hide the next one's events.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    structlog.configure(**_UNCONFIGURED)
    yield
    structlog.configure(**_UNCONFIGURED)
    root.handlers[:] = handlers
    root.setLevel(level)


@dataclass(frozen=True)
class Database:
    """A fresh, migrated database of one test."""

    server: EmbeddedPostgres
    name: str

    def dsn(self, role: str) -> str:
        return self.server.dsn(role, self.name)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[EmbeddedPostgres]:
    """A server for this pytest worker, with a migrated database `template` to copy from. No fsync: tests only."""
    state = new_state("test")
    server = EmbeddedPostgres(state, settings={"fsync": "off", "shared_buffers": "64MB"})
    try:
        server.start()
        _execute(server, "CREATE DATABASE template")
        asyncio.run(migrate(server.dsn(OWNER, "template"), role_passwords(state)))
        yield server
    finally:
        server.destroy()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def database(postgresql_server: EmbeddedPostgres) -> Iterator[Database]:
    """A copy of the template for one test; `database.dsn(role)`."""
    name = f"test_{next(_numbers)}"
    _execute(postgresql_server, f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    yield Database(postgresql_server, name)
    _execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: EmbeddedPostgres, sql: str) -> None:
    async def run() -> None:
        connection: Any = await asyncpg.connect(server.dsn(OWNER, "postgres"))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())
