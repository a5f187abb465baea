"""Errors between bytes and meaning; every caller of this package may see these.

A `DecodeError` is a peer's fault, an `EncodeError` ours or a translation's, a `SpecError` the operator's.
None of them ever carries the value that was refused: errors are logged, values may be card data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from messages.message import Message


class MessagesError(Exception):
    """Root of all errors of this package."""


class DecodeError(MessagesError):
    """Bytes that are no message of the dialect.

    Args:
        path: the thing that was being read, e.g. "MTI", "bitmap", "DE 4", "message".
        offset: where in the bytes it starts, counted from 0; None where there are no bytes.
        reason: the expected form; never the value.
    """

    def __init__(self, path: str, offset: int | None, reason: str) -> None:
        super().__init__(path, offset, reason)
        self.path = path
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        where = self.path if self.offset is None else f"{self.path} at byte {self.offset}"
        return f"{where}: {self.reason}"


class RuleViolation(DecodeError):
    """A message that can be read, and lacks what the dialect's rules ask of its type.

    Args:
        path: the element that is wrong, numbered as the dialect numbers it: "DE 49".
        reason: the expected form; never the value.
        message: all of it, canonical, so that it can be answered.
    """

    def __init__(self, path: str, reason: str, message: Message) -> None:
        super().__init__(path, None, reason)
        self.message = message


class EncodeError(MessagesError):
    """A message that the dialect cannot express; `path` and `reason` as in `DecodeError`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class SpecError(MessagesError):
    """A dialect file or a framing name that makes no sense; lists every problem found."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        return f"{self.source}: " + "; ".join(self.problems)


class FrameError(MessagesError):
    """The byte stream cannot be cut into frames any more; the connection has to be closed."""


class MoneyError(MessagesError):
    """A currency that ISO 4217 does not name, or an invalid amount."""
