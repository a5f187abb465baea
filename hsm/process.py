"""Settings of the operating system for a process that holds card data: no core dumps, no reading by debuggers.

Called first thing by the HSM, the tokenizer and, through the console, each switch worker.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> None:
    """Switch core dumps off, and ptrace and /proc/<pid>/mem for other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
