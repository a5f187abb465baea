"""Keeps child processes alive: specifications in, running processes and events about them out.

One thread starts every child (a child dies with the thread that started it), learns over a pipe when it is ready,
restarts dead ones, with a growing pause, and stops all of them in the reverse order. `console.supervisor` calls it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from console.errors import StartError
from console.log_files import LogEnd, cut, end_of
from console.logging import tail
from console.private_files import open_private, private_directory
from console.readiness import PARENT_PID, READY_FD, SOCKETS

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
PRINTED, LOGGED = ".err", ".jsonl"  # suffixes of a child's files: its output, its log
CUT_EVERY_S = 5.0  # interval between looks at the children's output files
HEALTHY_AFTER_S = 5.0  # a child that has lived this long starts again without the pauses of before


class State(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"  # died; will be started again
    STOPPED = "stopped"


class ChildSpec(NamedTuple):
    """A process to keep alive: its command, the group it is counted in, the names that must be ready before it, the
    sockets that it shares with others of its kind."""

    name: str
    group: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    sockets: Mapping[str, int] = {}  # listening sockets that it inherits: address → descriptor


class Status(NamedTuple):
    """The state of a child at this moment; `pid` is None while none runs."""

    name: str
    group: str
    state: State
    pid: int | None
    restarts: int
    up_s: float


class Event(NamedTuple):
    """A notice for the user: `kind` is ready, died, restarting or stopped."""

    child: str
    kind: str
    text: str


class _Child:
    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.ready_fd = -1
        self.started_at = 0.0
        self.resume_at = 0.0
        self.failures = 0
        self.restarts = 0
        self.was_ready = False
        self.last_exit = ""
        self.ends: dict[str, LogEnd] = {}  # of its files, by suffix, when it was started last


class Children:
    """A set of supervised processes.

    Args:
        specs: in starting order; they stop in the reverse order.
        logs: directory for `<name>.err`, what a child prints; `<name>.jsonl` beside it is quoted on failure.
        environment: added to that of this process.
        on_event: called from the supervising thread.
    """

    def __init__(
        self,
        specs: list[ChildSpec],
        logs: Path,
        environment: dict[str, str] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._children = {spec.name: _Child(spec) for spec in specs}
        self._logs = logs
        self._environment = {**os.environ, **(environment or {})}
        self._on_event = on_event
        self._longest_pause_s = longest_pause_s
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, ("wake", None))
        self._changed = threading.Condition()
        self._stopping = False
        self._cut_at = 0.0
        self._grace_s = 10.0
        self._failure: StartError | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        private_directory(self._logs)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every child has been ready; raises StartError with the last lines of the log if one fails."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._failure is not None:
                    raise self._failure
                late = [child.spec.name for child in self._children.values() if not child.was_ready]
                if not late:
                    return
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._thread.is_alive():
                    raise StartError(
                        f"not ready after {timeout_s:g} s: {', '.join(late)}", f"look at the logs in {self._logs}"
                    )
                self._changed.wait(min(remaining, 0.5))

    def wait_child(self, name: str, timeout_s: float, other_than: int | None = None) -> int:
        """The pid of `name` once it is ready (and is not `other_than`, the one that was killed)."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                child = self._children[name]
                if child.state is State.READY and child.process is not None and child.process.pid != other_than:
                    return child.process.pid
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise StartError(f"{name} is {child.state} after {timeout_s:g} s", f"look at {self._logs}")
                self._changed.wait(min(remaining, 0.5))

    def statuses(self) -> list[Status]:
        now = time.monotonic()
        return [
            Status(
                name,
                child.spec.group,
                child.state,
                child.process.pid if child.process else None,
                child.restarts,
                now - child.started_at if child.process else 0.0,
            )
            for name, child in self._children.items()
        ]

    def pids(self) -> dict[str, int]:
        """The running children by name."""
        return {status.name: status.pid for status in self.statuses() if status.pid is not None}

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM to every child, last started first; SIGKILL to what is left after `grace_s`. Twice is once."""
        self._grace_s = grace_s
        self._stopping = True
        self._wake()
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(grace_s + 10.0)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"w")

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._start_due()
                self._cut_printed()
                for key, _ in self._selector.select(self._pause()):
                    self._handle(*key.data)
        finally:
            self._stop_all()
            with self._changed:
                self._changed.notify_all()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _pause(self) -> float:
        now = time.monotonic()
        due = [child.resume_at - now for child in self._children.values() if child.state is State.PAUSED]
        return max(0.0, min([1.0, *due]))

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            ready = all(self._children[need].was_ready for need in child.spec.needs)
            if (child.state is State.WAITING and ready) or (child.state is State.PAUSED and child.resume_at <= now):
                self._spawn(child)

    def _cut_printed(self) -> None:
        """Bound on disk the output that children print."""
        now = time.monotonic()
        if now - self._cut_at >= CUT_EVERY_S:
            self._cut_at = now
            for name in self._children:
                cut(self._logs / f"{name}{PRINTED}")

    def _spawn(self, child: _Child) -> None:
        ready_read, ready_write = os.pipe()
        sockets = child.spec.sockets
        environment = {
            **self._environment,
            READY_FD: str(ready_write),
            PARENT_PID: str(os.getpid()),
            SOCKETS: " ".join(f"{quote(address, safe='/:[].')}={number}" for address, number in sockets.items()),
        }
        child.ends = {suffix: end_of(self._file(child, suffix)) for suffix in (PRINTED, LOGGED)}
        try:
            with os.fdopen(open_private(self._file(child, PRINTED), os.O_APPEND), "ab") as output:
                child.process = subprocess.Popen(
                    child.spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    pass_fds=(ready_write, *sockets.values()),
                    start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
                )
        except OSError as error:
            os.close(ready_read)
            self._died(child, f"cannot be started: {error.strerror}")
            return
        finally:
            os.close(ready_write)
        child.started_at = time.monotonic()
        child.pidfd = os.pidfd_open(child.process.pid)
        child.ready_fd = ready_read
        self._selector.register(child.pidfd, selectors.EVENT_READ, ("exit", child))
        self._selector.register(ready_read, selectors.EVENT_READ, ("ready", child))
        self._set(child, State.STARTING)

    def _handle(self, what: str, child: _Child | None) -> None:
        if child is None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        elif what == "ready" and child.ready_fd >= 0:
            said = os.read(child.ready_fd, 64)
            self._close_ready(child)
            if said.startswith(b"ready"):
                child.was_ready = True
                self._set(child, State.READY)
                took = time.monotonic() - child.started_at
                pid = child.process.pid if child.process else 0
                self._on_event(Event(child.spec.name, "ready", f"pid {pid}, {took:.1f} s"))
        elif what == "exit" and child.process is not None and child.pidfd >= 0:
            code = child.process.wait()
            self._forget(child)
            self._died(child, _exit_text(code))

    def _died(self, child: _Child, how: str) -> None:
        child.last_exit = how
        if not child.was_ready:
            quoted = "".join(f"\n  {line}" for line in self._last_words(child))
            fix = f"its last words:{quoted}" if quoted else f"it wrote nothing; its logs are in {self._logs}"
            with self._changed:
                self._failure = self._failure or StartError(f"{child.spec.name} did not start ({how})", fix)
                child.state = State.STOPPED
                self._changed.notify_all()
            self._on_event(Event(child.spec.name, "died", how))
            return
        lived_s = time.monotonic() - child.started_at
        child.failures = 0 if lived_s >= HEALTHY_AFTER_S else child.failures + 1
        pause_s = min(self._longest_pause_s, FIRST_PAUSE_S * 2**child.failures)
        child.resume_at = time.monotonic() + pause_s
        child.restarts += 1
        self._set(child, State.PAUSED)
        self._on_event(Event(child.spec.name, "died", f"{how}; starting it again in {pause_s:.1f} s"))

    def _last_words(self, child: _Child) -> list[str]:
        """The last lines that this start of a child has printed, or else logged; the files have earlier starts, too."""
        for suffix in (PRINTED, LOGGED):
            if words := tail(self._file(child, suffix), 3, since=child.ends.get(suffix, LogEnd())):
                return words
        return []

    def _file(self, child: _Child, suffix: str) -> Path:
        return self._logs / f"{child.spec.name}{suffix}"

    def log_tail(self, name: str, lines: int = 8) -> list[str]:
        return tail(self._logs / f"{name}{LOGGED}", lines) + tail(self._logs / f"{name}{PRINTED}", lines)

    def _set(self, child: _Child, state: State) -> None:
        with self._changed:
            child.state = state
            self._changed.notify_all()

    def _close_ready(self, child: _Child) -> None:
        if child.ready_fd >= 0:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = -1

    def _forget(self, child: _Child) -> None:
        self._close_ready(child)
        if child.pidfd >= 0:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        child.process = None

    def _stop_all(self) -> None:
        deadline = time.monotonic() + self._grace_s
        for generation in self._generations():
            for child in generation:
                if child.process is not None:
                    child.process.send_signal(signal.SIGTERM)
            for child in generation:
                if child.process is None:
                    continue
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
                    self._on_event(Event(child.spec.name, "stopped", "had to be killed"))
                self._forget(child)
                self._set(child, State.STOPPED)

    def _generations(self) -> list[list[_Child]]:
        """Children in stopping order: groups last started first, those of one group together."""
        return [
            list(group)
            for _, group in itertools.groupby(reversed(self._children.values()), key=lambda child: child.spec.group)
        ]


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
