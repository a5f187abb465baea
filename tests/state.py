"""Directories for the state of a server or of a whole system under test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_LEAST_FREE_BYTES = 2 << 30


def new_state(name: str) -> Path:
    """A new directory, which the caller removes: `cardswitch-NAME-…`.

    It is open to the database server's user, who is not root, unlike pytest's `tmp_path`, and its path is short enough
    for unix sockets. It is in memory where there is room: a copy of a database takes 0.05 s there, up to 1 s on a disk
    that others write to.
    """
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _LEAST_FREE_BYTES
    state = Path(tempfile.mkdtemp(prefix=f"cardswitch-{name}-", dir=_MEMORY if in_memory else None))
    state.chmod(0o755)
    return state
