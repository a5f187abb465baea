"""Files and directories of the state directory that only their owner may read, under any umask.

Everything that is written there goes through these: the mode is that of the first moment, and a file or directory that
is there already with a wider one is narrowed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
OTHERS = 0o077  # permissions of group and all others
PRIVATE_UMASK = OTHERS  # of every process that writes into a state directory


def passed_mode() -> int:
    """The mode of the state directory itself, and of `postgresql` in it: 0700. Where root starts the system, the
    embedded server has another user, who must be able to pass through: 0711, which lets nobody list them."""
    return 0o711 if os.geteuid() == 0 else DIRECTORY_MODE


def private_directory(path: Path, mode: int = DIRECTORY_MODE) -> Path:
    """Make a directory, and those above it that are missing (see `passed_mode`). One that is there keeps its mode.

    Raises OSError.
    """
    missing = []
    at = path
    while not at.exists():
        missing.append(at)
        at = at.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            continue  # another process was quicker
        directory.chmod(mode if directory == path else passed_mode())
    return path


def open_private(path: Path, flags: int = 0) -> int:
    """Open a file for writing, made with mode 0600 where it is missing, narrowed where it is not; its descriptor.

    Args:
        flags: such as os.O_APPEND or os.O_TRUNC.

    Raises OSError.
    """
    access = 0 if flags & os.O_RDWR else os.O_WRONLY
    descriptor = os.open(path, access | os.O_CREAT | os.O_CLOEXEC | flags, FILE_MODE)
    try:
        made = os.fstat(descriptor)
        if stat.S_ISREG(made.st_mode) and stat.S_IMODE(made.st_mode) != FILE_MODE and made.st_uid == os.geteuid():
            os.fchmod(descriptor, FILE_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, data: bytes) -> None:
    """Write a whole file with mode 0600, so that a reader sees the old or the new one. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    with os.fdopen(open_private(temporary, os.O_TRUNC), "wb") as stream:
        stream.write(data)
    temporary.replace(path)
