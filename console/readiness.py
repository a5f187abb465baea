"""The child's side of supervision: a pipe on which it says that it is ready, sockets to listen on, and its end when
its parent ends.

`console.children` hands them to a child in environment variables; a process started by hand has none, and these
functions then do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from urllib.parse import unquote

READY_FD = "CARDSWITCH_READY_FD"
PARENT_PID = "CARDSWITCH_PARENT_PID"
SOCKETS = "CARDSWITCH_SOCKETS"

_PR_SET_PDEATHSIG = 1


def is_supervised() -> bool:
    return PARENT_PID in os.environ


def follow_parent() -> None:
    """Get SIGTERM when the parent dies, however it dies; a child whose parent is dead already ends here."""
    parent = os.environ.get(PARENT_PID, "")
    if not parent.isdigit():
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the line above took effect
        sys.exit(0)


def inherited_sockets() -> dict[str, int]:
    """Listening sockets that the supervisor made for this process and its like: address → descriptor."""
    pairs = (entry.rpartition("=") for entry in os.environ.pop(SOCKETS, "").split())
    return {unquote(address): int(descriptor) for address, _, descriptor in pairs}


def announce() -> None:
    """Say once that this process is ready to work."""
    number = os.environ.pop(READY_FD, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.write(int(number), b"ready\n")
            os.close(int(number))


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")
