"""State of a measurement: a directory on a disk, an embedded server with its schema, gone when the block ends.

Every bench that writes uses `bench_state`; those that need a database alone use `migrated_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from console.database_roles import OWNER
from console.migration import migrate
from console.postgresql import EmbeddedPostgres, role_passwords

_ON_DISK = "/var/tmp"


@contextlib.contextmanager
def bench_state() -> Iterator[Path]:
    """A state directory below TMPDIR, or below /var/tmp where that is not set."""
    # /tmp is memory on many machines, and fsync of memory is no fsync.
    parent = os.environ.get("TMPDIR") or (_ON_DISK if os.path.isdir(_ON_DISK) else None)
    state = Path(tempfile.mkdtemp(prefix="cardswitch-bench-", dir=parent))
    state.chmod(0o755)
    try:
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextlib.contextmanager
def migrated_server(state: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded server in `state`, fsync on, with its roles and schema; its data are deleted afterwards."""
    server = EmbeddedPostgres(state)
    try:
        server.start()
        asyncio.run(migrate(server.dsn(OWNER), role_passwords(state)))
        yield server
    finally:
        server.destroy()
