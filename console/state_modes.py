"""Which modes files of the state directory have: a path goes in, the modes that are right come out.

`cardswitch doctor` compares a state directory with it, and so does the test that starts a system under several umasks.
"""

from __future__ import annotations

import stat
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

SKIPPED = ("postgresql/server", "postgresql/socket")  # the server's own: it refuses to start where others may read them
PRIVATE, PASSED = {0o600, 0o400}, {0o700, 0o711}
# pattern of the path below the state directory → modes; the first that fits counts.
DIRECTORIES = {
    ".": {*PASSED, 0o755},  # 0755 of earlier versions: its content is private by itself
    "postgresql": {*PASSED, 0o755},
    "*": {0o700},
}
SOCKETS = {"hsm*.sock": {0o600, 0o660}, "*": {0o600, 0o660}}  # 0660: for the users that the configuration names
FILES = {"*": PRIVATE}


class Wrong(NamedTuple):
    """A path below the state directory whose mode is not right, and what it is."""

    path: str
    mode: int


def wrong_modes(state: Path, limit: int = 100) -> list[Wrong]:
    """Paths in a state directory with another mode than theirs, at most `limit` of them; [] where there are none."""
    found: list[Wrong] = []
    for path in [state, *sorted(state.rglob("*"))] if state.is_dir() else []:
        name = str(path.relative_to(state))
        if any(name == skipped or name.startswith(f"{skipped}/") for skipped in SKIPPED):
            continue
        try:
            about = path.lstat()
        except OSError:  # gone again already
            continue
        allowed = _allowed(about.st_mode, name)
        mode = stat.S_IMODE(about.st_mode)
        if allowed is not None and mode not in allowed:
            found.append(Wrong(name, mode))
            if len(found) >= limit:
                break
    return found


def _allowed(mode: int, name: str) -> set[int] | None:
    """The modes that are right; None for what has none of its own, such as a symbolic link."""
    if stat.S_ISDIR(mode):
        table = DIRECTORIES
    elif stat.S_ISSOCK(mode):
        table = SOCKETS
    elif stat.S_ISREG(mode):
        table = FILES
    else:
        return None
    return next(modes for pattern, modes in table.items() if fnmatch(name, pattern))
