"""Facts about running processes from /proc: descendants and CPU seconds; for the bench and the live status."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Pids of all children, children's children, … of `pid` that run now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of those of its children that have ended; 0.0 where it is gone."""
    fields = _stat(pid)
    # Source: proc(5): utime, stime, cutime, cstime are fields 14 to 17 of /proc/PID/stat
    return sum(int(fields[number]) for number in range(11, 15)) / _TICKS_PER_S if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command's name, which may hold spaces: state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def working_in(directory: Path) -> list[int]:
    """Pids of the processes whose working directory is `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(directory):
                    found.append(int(entry.name))
            except OSError:
                continue  # gone meanwhile, or somebody else's
    return found
