"""Sources of messages: an argument, a file or standard input; one message a line, or one in all.

Called by `decode`, `encode` and `send`. A file may be of any size: it is read line by line, with a bar on standard
error while the output goes elsewhere. A line has a limit, and so has a message over several lines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from console.errors import UsageError

LONGEST = 1 << 20  # bytes of one line, or of one message over several lines
_NO_MESSAGE = ("no message given", "give it as an argument, a file, or on standard input")
_BAR_EVERY = 256  # messages
_BAR_FROM = 1 << 16  # bytes of a file: smaller ones are read at once


def is_hex(text: str) -> bool:
    """Whether an argument is a message in hex, not the name of a file."""
    letters = "".join(text.split())
    return bool(letters) and all(letter in "0123456789abcdefABCDEF" for letter in letters) and not _is_file(text)


def is_base64(text: str) -> bool:
    """The same for base64."""
    letters = "".join(text.split()).rstrip("=")
    return (
        bool(letters)
        and letters.isascii()
        and letters.replace("+", "a").replace("/", "a").isalnum()
        and (not _is_file(text))
    )


def is_raw(text: str) -> bool:
    """The same for the bytes themselves: any object that is no file."""
    return not _is_file(text)


def is_json(text: str) -> bool:
    """The same for JSON."""
    return text.lstrip().startswith("{")


def inputs(source: str | None, looks_like_value: Callable[[str], bool]) -> Iterator[str]:
    """The messages that the user gave: the argument itself, or the lines of a file or of standard input."""
    if source is not None and source != "-" and looks_like_value(source):
        yield source
        return
    for _, line in lines(source, None, by_line=True):
        yield line.decode("utf-8", "replace")


def lines(source: str | None, file: Path | None, *, by_line: bool) -> Iterator[tuple[int, bytes]]:
    """The messages of a file or of standard input, with the line where each starts, from 1.

    Args:
        source: name of a file, "-" or None for standard input.
        file: `--file`, instead of `source`.
        by_line: a message a line, blank ones left out; a JSON object may take several. Else all is one message.

    Raises: UsageError for a file that cannot be read, no messages, or one longer than `LONGEST`.
    """
    try:
        yield from _messages(source, file, by_line)
    except OSError as error:  # a disk or a device; errors of the code that prints are its own, and do not come here
        name = "standard input" if file is None and source in (None, "-") else str(file or source)
        raise UsageError(f"{name} cannot be read ({error.strerror or error})", "give another file") from None


def _messages(source: str | None, file: Path | None, by_line: bool) -> Iterator[tuple[int, bytes]]:
    with _opened(source, file) as stream:
        if not by_line:
            data = stream.read(LONGEST + 1)
            if not data:
                raise UsageError("the input is empty", "give the bytes of one message")
            if len(data) > LONGEST:
                raise UsageError(
                    f"the message is longer than {LONGEST >> 20} MiB", "with --raw a file holds one message"
                )
            yield 1, data
            return
        count = 0
        with _bar(stream) as advance:
            for number, line in _objects(stream):
                count += 1
                yield number, line
                if count % _BAR_EVERY == 0:
                    advance(stream)
        if not count:
            raise UsageError("the input is empty", "give one message a line")


def _objects(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines; an object that starts with a lone brace goes on to the end of the input."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        text = _limited(line, number).strip()
        if number == 1 or text:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text.startswith(b"{") and not text.endswith(b"}"):
            yield number, _limited(text + b"\n" + stream.read(LONGEST + 1), number)
            return
        if text:
            yield number, text


def _limited(data: bytes, number: int) -> bytes:
    if len(data) > LONGEST:
        raise UsageError(f"line {number} is longer than {LONGEST >> 20} MiB", "give one message a line")
    return data


@contextmanager
def _opened(source: str | None, file: Path | None) -> Iterator[IO[bytes]]:
    name = str(file) if file is not None else source
    if name is None or name == "-":
        if name is None and sys.stdin.isatty():
            raise UsageError(*_NO_MESSAGE)
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below, and not to be mixed with what the reader raises
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no name of a file"
        raise UsageError(
            f"{name[:80]!r} is neither a message nor a readable file ({reason})", "give hex, JSON or a file"
        ) from None
    with stream:
        yield stream


@contextmanager
def _bar(stream: IO[bytes]) -> Iterator[Callable[[IO[bytes]], None]]:
    """The position in the file, on standard error, unless the messages are printed there or nobody looks."""
    size = _size(stream)
    if not sys.stderr.isatty() or sys.stdout.isatty() or size < _BAR_FROM:
        yield lambda stream: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("messages", total=size)
        yield lambda stream: progress.update(task, completed=stream.tell())


def _size(stream: IO[bytes]) -> int:
    try:
        return os.fstat(stream.fileno()).st_size if stream.seekable() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
