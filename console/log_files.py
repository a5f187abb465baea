"""Log files that do not grow for ever: lines in, a file of bounded size and a few older ones beside it.

`console.logging` and the payment events of a switch worker write through a `LogFile`; the supervisor has `cut` look
after files that children write to by themselves. Files have mode 0600 and their directory 0700, under any umask.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from console.private_files import open_private, private_directory

MAX_BYTES = 256 * 1024 * 1024  # of one file, from which on another is begun
KEEP = 4  # older files: NAME.1 is the youngest
LOOK_S = 1.0  # interval at which a writer checks that its file is still the one of that name
MAX_PRINTED = 16 * 1024 * 1024  # of what a process prints, from which on
KEPT_PRINTED = 1024 * 1024  # only so much of it is kept

_turning = threading.Lock()  # two writers of one process may have the same file


class LogEnd(NamedTuple):
    """The end of a log file at one moment: which file it was, by inode, and how many bytes it had."""

    inode: int = 0
    size: int = 0


def end_of(path: Path) -> LogEnd:
    """Return the end of a log file as it is now; `LogEnd()` where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return LogEnd()
    return LogEnd(found.st_ino, found.st_size)


class LogFile(io.TextIOBase):
    """A file that is appended to, in whole lines.

    If another program has renamed or removed it, a new one is made within a second: programs that rotate logs may move
        it or copy and truncate it.

    Args:
        max_bytes: when it would be larger, it is renamed to NAME.1 and a new one begun; 0: it grows for ever.
        keep: older files; NAME.1 becomes NAME.2 and so on, the last one is removed.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        private_directory(path.parent)
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._descriptor = _opened(path)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, text: str) -> int:
        self.write_bytes(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def write_bytes(self, data: bytes) -> int:
        """Append whole lines. Raises OSError where the disk does not take them."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_S or (self._max_bytes and self._size + len(data) > self._max_bytes):
                self._looked_at = now
                self._look(len(data))
            written = os.write(self._descriptor, data)
            self._size += written
            return written

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _look(self, more: int) -> None:
        with _turning:
            if self._is_named():
                self._size = os.fstat(self._descriptor).st_size
                if not self._max_bytes or self._size + more <= self._max_bytes or not self._size:
                    return
                turn(self._path, self._keep)
            fresh = _opened(self._path)
            os.close(self._descriptor)
            self._descriptor = fresh
            self._size = os.fstat(fresh).st_size

    def _is_named(self) -> bool:
        """Whether the file that is open still has its name."""
        try:
            named = os.stat(self._path)
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)


def turn(path: Path, keep: int) -> None:
    """Rename a file to NAME.1, NAME.1 to NAME.2 and so on; the one beyond `keep` is gone. 0: the file itself is."""
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
    if keep <= 0:
        path.unlink(missing_ok=True)
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        with contextlib.suppress(FileNotFoundError):
            newer.replace(older)


def cut(path: Path, max_bytes: int = MAX_PRINTED, kept: int = KEPT_PRINTED) -> bool:
    """Have a file that others append to begin again once it is too large; its end is kept as NAME.1.

    Returns: whether it was cut. A line that is being written at this moment may be lost.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        with path.open("r+b") as stream:
            stream.seek(-kept, io.SEEK_END)
            end = stream.read()
            with os.fdopen(open_private(path.with_name(f"{path.name}.1"), os.O_TRUNC), "wb") as older:
                older.write(end)
            stream.truncate(0)
    except OSError:
        return False
    return True


def _opened(path: Path) -> int:
    return open_private(path, os.O_APPEND)
