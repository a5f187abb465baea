"""Facts about the embedded PostgreSQL of a state directory that its own module keeps to itself: where, and which pid.

Called by the process that watches the server and by the supervisor.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from console.errors import StartError
from console.process_table import working_in


def await_former_server(state: Path, timeout_s: float = 20.0) -> None:
    """Wait until no backend of a server that was killed works on the data any more: two at once would ruin them.

    Raises: StartError where they stay.
    """
    data = server_data(state)
    if data is None:
        return
    deadline = time.monotonic() + timeout_s
    while working := [pid for pid in working_in(data) if pid != running_server(data)]:
        if running_server(data) is not None:
            return  # a whole server, which will be taken over
        if time.monotonic() > deadline:
            raise StartError(f"a former PostgreSQL still works in {data}", f"stop its processes: {working}")
        time.sleep(0.02)


def server_pid(state: Path) -> int | None:
    """The pid of the embedded server, None where none runs."""
    data = server_data(state)
    return None if data is None else running_server(data)


def server_data(state: Path) -> Path | None:
    """The data directory of the embedded server, None before its first start."""
    try:
        return Path(json.loads((state / "postgresql" / "place.json").read_bytes())["root"]) / "data"
    except (OSError, ValueError, KeyError):
        return None


def running_server(data: Path) -> int | None:
    """The pid that the lock file names, if that process lives and works in `data`."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if state != "Z" and str(data).encode() in arguments else None
