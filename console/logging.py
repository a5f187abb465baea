"""Structured logs: events of every process in, JSON lines out, with no card data in them.

`configure()` is called once at the start of each process. Both structlog and the standard library's logging
end in the same pipeline, whose last step but one masks every value: card numbers in any writing and all rows of 12
digits or more (`messages.card_numbers`), fields with a sensitive name, bytes. A value that cannot be masked is not
written. Trace ids need no exception: `messages.trace` makes none that looks like a number.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from console.log_files import KEEP, MAX_BYTES, LogEnd, LogFile, end_of
from console.log_limits import LineLimit, shorten
from messages.card_numbers import masked_strictly

_SECRET_NAMES = re.compile(
    r"(^|_)(pan|pin|pin_block|track\w*|cvc|cvv\w*|icc_data|secret|password|api_key|private_key|zpk|zmk|zak|dsn)($|_)"
)
_LARGEST_INT = 10**11
_BEGINNING = LogEnd()
_MAX_DEPTH = 6
HIDDEN = "***"


def masked_text(text: str) -> str:
    """`text` without card numbers however they are written, and without rows of 12 or more digits."""
    return masked_strictly(text, HIDDEN)


def masked_value(value: Any, name: str = "", depth: int = 0) -> Any:
    """A JSON-able copy of `value` without card data; `name` is the field it stands in."""
    if value is None or isinstance(value, bool):
        return value
    if name != "masked_pan" and _SECRET_NAMES.search(name.lower()):
        return HIDDEN
    if depth > _MAX_DEPTH:
        return HIDDEN
    if isinstance(value, int | float):
        return value if abs(value) < _LARGEST_INT else HIDDEN
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {masked_text(str(key)): masked_value(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked_value(item, name, depth + 1) for item in value]
    return masked_text(str(value))


def mask_event(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """The structlog processor that masks; an event that it cannot read is replaced, not passed on."""
    try:
        return {str(name): masked_value(value, str(name)) for name, value in event.items()}
    except Exception:
        return {"event": "log event withheld: it could not be masked", "level": "error"}


def configure(
    process: str,
    file: Path | None = None,
    level: str = "info",
    stream: TextIO | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    keep: int = KEEP,
) -> TextIO:
    """Send the logs of this process to `file` (appended to, made with mode 0600), else to `stream` (stderr).

    Args:
        max_bytes, keep: of the file, see `console.log_files.LogFile`.

    Returns: where they go.
    """
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        raise ValueError(f"log level {level!r}")
    sink = cast(TextIO, LogFile(file, max_bytes, keep)) if file is not None else stream or sys.stderr

    def name_process(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = process
        return event

    processors: list[Callable[..., Any]] = [
        LineLimit(),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
        structlog.processors.format_exc_info,
        shorten,
        mask_event,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(_Undisturbed(sink)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(number)
    return sink


class _Undisturbed(io.TextIOBase):
    """Writes to a log where that is possible: a full disk loses lines, and is no reason for work to end."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._sink.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._sink.flush()


class _Forward(logging.Handler):
    """Hands what libraries log through `logging` to structlog, so that it is masked too."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            exception = record.exc_info if record.exc_info and record.exc_info[0] else None
            log = structlog.get_logger()
            method = {"warning": "warning", "error": "error", "critical": "critical"}.get(
                record.levelname.lower(), "info"
            )
            getattr(log, method)(message, logger=record.name, **({"exc_info": exception} if exception else {}))
        except Exception:
            self.handleError(record)


def tail(file: Path, lines: int = 12, limit: int = 65536, *, since: LogEnd = _BEGINNING) -> list[str]:
    """The last lines of a log file, for the user who has to find out why a process failed; [] if there is none.

    Args:
        limit: bytes that are read at most, from the end.
        since: the end of the file at a moment (`console.log_files.end_of`): only later lines are returned. A file that
            was renamed or cut since then has later lines only.
    """
    try:
        with file.open("rb") as stream:
            now = end_of(file)
            first = since.size if now.inode == since.inode and now.size >= since.size else 0
            stream.seek(max(first, now.size - limit))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [masked_text(line) for line in text.splitlines()[-lines:]]
