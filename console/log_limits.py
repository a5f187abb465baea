"""Limits on the log of a process: lines a second by kind and in all, and how long a line may be.

`console.logging` puts `LineLimit` first among its processors, so that a line that is left out costs next to nothing.
A kind is the event, the link or party that it is about, and how it ended. For any traffic of strangers, a process
writes `TOTAL` lines a second at most; ordinary traffic has room for a line each.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from messages.log_rate import LogRate, Rate

SAMPLED = Rate(10, 50)  # lines a second of what strangers can cause, and after a silence
TRAFFIC_RATE = Rate(1_000, 2_000)  # of one line for each payment or request that was served
TOTAL = Rate(2_000, 4_000)  # of all lines of a process
REPORT = "log_lines_left_out"
REPORT_S = 10.0  # longest time without a notice of omitted lines, where no further line of their kind has it
MAX_TEXT = 4_096  # characters of one value
MAX_TRACEBACK = 16_384
MAX_NAME = 128
MAX_ITEMS = 200  # of one list or table
MAX_DEPTH = 6
_END_OF_NUMBER = re.compile(r"[0-9a-fA-F :.\-]{1,80}$")
# One for each payment or request of somebody who is known. Refused ones are sampled.
TRAFFIC = frozenset(
    {"answered", "ended", "fault", "hsm_command", "request", "sent", "stood_in", "tokenizer_request", "webhook"}
)
# Fields that say whom or what a line is about, and how it ended.
_PARTIES = ("link", "issuer", "caller", "logger", "command", "kind", "route")
_REFUSED = frozenset({400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 429, 431, 503})  # HTTP, before anybody is known

Line = dict[str, Any]
LineKind = tuple[Any, ...]


def kind_of(line: Line) -> LineKind:
    """The kind of a line: event, party and outcome."""
    outcome = line.get("status", line.get("outcome", ""))
    return (_short(line.get("event")), *(_short(line[name]) for name in _PARTIES if name in line), _short(outcome))


def rate_of(line: Line) -> Rate:
    """Number of lines like this one that are written a second."""
    if line.get("event") not in TRAFFIC:
        return SAMPLED
    return SAMPLED if line.get("status") in _REFUSED or line.get("outcome", "ok") != "ok" else TRAFFIC_RATE


class LineLimit:
    """The structlog processor; safe in several threads.

    Args:
        report: writes one event about lines that were left out.
        clock: seconds.
        report_s: time after which omitted lines are reported; 0: only by the next line of their kind.
    """

    def __init__(
        self,
        report: Callable[..., object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        report_s: float = REPORT_S,
    ) -> None:
        self._report = report or self._write
        self._clock = clock
        self._report_s = report_s
        self._lock = threading.Lock()
        self._rate: LogRate[LineKind] = LogRate(SAMPLED, TOTAL)
        self._reporting = False

    def __call__(self, _logger: Any, _method: str, line: Line) -> Line:
        if line.get("event") == REPORT:
            return line
        with self._lock:
            left_out = self._rate.admit(kind_of(line), self._clock(), rate_of(line))
            start = left_out is None and not self._reporting and self._report_s > 0
            self._reporting |= start
        if start:
            timer = threading.Timer(self._report_s, self.report)
            timer.daemon = True
            timer.start()
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            line["left_out"] = left_out
        return line

    def report(self) -> None:
        """Say what was left out and not said yet: one line, the most frequent kinds by name."""
        with self._lock:
            self._reporting = False
            counts = self._rate.left_out()
            forgotten, self._rate.forgotten = self._rate.forgotten, 0
        total = forgotten + sum(counts.values())
        if total:
            most = sorted(counts.items(), key=lambda entry: -entry[1])[:20]
            self._report(count=total, most={" ".join(filter(None, map(str, kind))): count for kind, count in most})

    def _write(self, **fields: object) -> None:
        if self in structlog.get_config()["processors"]:  # else the logs of the process go elsewhere by now
            structlog.get_logger("console").warning(REPORT, **fields)


def shorten(_logger: Any, _method: str, line: Line) -> Line:
    """The structlog processor that bounds a line: further lines are counted instead of written.

    It comes before the masking, which would take long for a long text.
    """
    return {
        name: _shortened(value, MAX_TRACEBACK if name == "exception" else MAX_TEXT, 0) for name, value in line.items()
    }


def _shortened(value: Any, limit: int, depth: int) -> Any:
    if isinstance(value, str):
        if len(value) <= limit:
            return value
        # No part of a number may stay, which the masking would not know for one.
        return f"{_END_OF_NUMBER.sub('', value[:limit])}… {len(value) - limit} more characters"
    if depth >= MAX_DEPTH:
        return value
    if isinstance(value, list | tuple):
        kept = [_shortened(item, limit, depth + 1) for item in value[:MAX_ITEMS]]
        return kept if len(value) <= MAX_ITEMS else [*kept, f"… {len(value) - MAX_ITEMS} more"]
    if isinstance(value, dict):
        return {
            _shortened(name, MAX_NAME, depth + 1): _shortened(item, limit, depth + 1)
            for name, item in list(value.items())[:MAX_ITEMS]
        }
    return value


def _short(value: object) -> object:
    """A part of a kind: a peer may choose the text, not how much memory it takes."""
    return value[:64] if isinstance(value, str) else value if isinstance(value, int) else ""
