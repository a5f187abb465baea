"""`cardswitch decode` and `cardswitch encode`: bytes in, JSON or a table for people out, and the way back.

Card data is masked in what decode prints unless it is asked for; encode reads the output of decode with `--json
--unmasked`, and the bytes are the same. Both work on messages as they are on the wire: nothing is translated.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from console.errors import ConsoleError, UsageError
from console.message_input import inputs, is_base64, is_hex, is_json, is_raw, lines
from console.message_view import as_plain, elements_of, message_from_json, message_table
from messages.errors import MessagesError

if TYPE_CHECKING:
    from messages.codec import Codec
    from messages.message import Message

__all__ = [
    "Form", "as_plain", "decode", "elements_of", "encode", "inputs", "is_json", "load_codec", "message_from_json",
    "message_table",
]  # fmt: skip

_OTHER_BYTES = "hexadecimal has small letters there, or a bitmap is there for nothing"
_MOST_ERRORS = 200  # of one file: with the wrong dialect each line is one


class Form(NamedTuple):
    """The input and output form of bytes.

    Args:
        name: "hex", "base64" or "raw".
        read: the user's input → bytes; ValueError for another form.
        show: bytes → text of one line.
        looks: whether an argument is a message, not the name of a file.
        by_line: many messages in a file, one a line.
    """

    name: str
    read: Callable[[bytes], bytes]
    show: Callable[[bytes], str]
    looks: Callable[[str], bool]
    by_line: bool = True


_FORMS = {
    "hex": Form("hex", lambda given: bytes.fromhex(given.decode("ascii")), lambda data: data.hex().upper(), is_hex),
    "base64": Form(
        "base64", lambda given: base64.b64decode(b"".join(given.split()), validate=True),
        lambda data: base64.b64encode(data).decode(), is_base64,
    ),
    "raw": Form("raw", bytes, lambda data: data.decode("latin-1"), is_raw, by_line=False),
}  # fmt: skip
_ONE_LINE = {  # tools that print hex or base64 break it in lines
    "hex": "; each line is one message",
    "base64": "; each line is one message, as base64 -w 0 prints it",
    "raw": "",
}
_FIX = {
    "hex": "give pairs of hex digits, or say --base64 or --raw",
    "base64": "give base64 with its padding",
    "raw": "a file of raw bytes is one message, a newline at its end included",
}


def form_of(raw: bool, in_base64: bool) -> Form:
    """The form that the options name."""
    if raw and in_base64:
        raise UsageError("--raw and --base64 exclude each other", "give one of them")
    return _FORMS["raw" if raw else "base64" if in_base64 else "hex"]


def decode(
    source: str | None,
    spec: str,
    as_json: bool,
    unmasked: bool,
    *,
    raw: bool = False,
    in_base64: bool = False,
    file: Path | None = None,
) -> int:
    """Print every message of `source`: the message, a file with one a line, or standard input ("-").

    Returns:
        Exit status: 1 where a message of a file could not be read.

    Raises: UsageError where the argument is no message, naming the element and the byte.
    """
    form, codec = form_of(raw, in_base64), load_codec(spec)

    def show(given: bytes) -> None:
        try:
            data = form.read(given)
        except (ValueError, binascii.Error):
            raise UsageError(f" is not {form.name}", _FIX[form.name]) from None
        try:
            message = codec.decode(data)
        except MessagesError as error:
            fix = _FIX["raw"] if form.name == "raw" and given.endswith(b"\n") else "check the bytes and --spec"
            raise UsageError(f", dialect {spec}: {error}", fix) from None
        _print(codec, message, as_json, unmasked)
        if as_json and unmasked and codec.encode(message) != data:
            raise UsageError(" is read, but encode makes other bytes of it", _OTHER_BYTES)

    return _each(_given(source, file, form.looks, form.by_line), show, _ONE_LINE[form.name])


def encode(
    source: str | None,
    spec: str,
    as_json: bool,
    *,
    raw: bool = False,
    in_base64: bool = False,
    file: Path | None = None,
) -> int:
    """Print the bytes of every message of `source`: JSON, a file with JSON, or standard input ("-").

    Returns:
        Exit status: 1 where a message of a file could not be encoded.

    Raises: UsageError where the argument is no JSON of a message, or the dialect cannot hold an element.
    """
    form, codec = form_of(raw, in_base64), load_codec(spec)
    if raw and as_json:
        raise UsageError("--raw and --json exclude each other", "give one of them")
    written = 0

    def show(given: bytes) -> None:
        nonlocal written
        try:
            data = codec.encode(message_from_json(given, codec.dialect))
        except MessagesError as error:
            raise UsageError(f", dialect {spec}: {error}", "correct the element") from None
        except UsageError as error:
            raise UsageError(error.what.removeprefix("message"), error.fix) from None
        if raw:
            if written:
                raise UsageError(": raw bytes of several messages cannot be told apart", "leave out --raw")
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            print(msgspec.json.encode({form.name: form.show(data)}).decode() if as_json else form.show(data))
        written += 1

    return _each(_given(source, file, is_json, by_line=True), show)


def load_codec(spec: str) -> Codec:
    """The codec of a dialect by its name in specs/ or by its file."""
    from messages.codec import Codec
    from messages.dialect import load_dialect

    try:
        return Codec(load_dialect(spec))
    except MessagesError as error:
        raise UsageError(str(error), "name a dialect in specs/ or a dialect file with --spec") from None
    except OSError as error:
        raise UsageError(f"dialect {spec}: {error.strerror or error}", "name a dialect in specs/ or a file") from None


class _Given(NamedTuple):
    """The user's input, and its name in errors: "message 1" for an argument, "line 3" in a file."""

    where: str
    data: bytes
    alone: bool


def _given(source: str | None, file: Path | None, looks: Callable[[str], bool], by_line: bool) -> Iterator[_Given]:
    if source is not None and file is not None:
        raise UsageError("a message and --file", "give one of them")
    if source is not None and source != "-" and looks(source):
        yield _Given("message 1", os.fsencode(source), True)
        return
    for number, data in lines(source, file, by_line=by_line):
        yield _Given(f"line {number}" if by_line else "message 1", data, False)


def _each(given: Iterator[_Given], show: Callable[[bytes], None], of_lines: str = "") -> int:
    """Shows all of them; a fault in a file is reported and skipped.

    Args:
        given: the messages.
        show: raises UsageError with what comes behind "line 3" or "message 1".
        of_lines: further action for one in a file.
    """
    count = failed = 0
    for where, data, alone in given:
        count += 1
        try:
            show(data)
        except UsageError as error:
            told = UsageError(where + error.what, error.fix if alone else error.fix + of_lines)
            if alone:
                raise told from None
            failed += 1
            if failed <= _MOST_ERRORS:
                _complain(told)
            elif failed == _MOST_ERRORS + 1:
                print("cardswitch: there are more, which are only counted", file=sys.stderr)
    if failed and count > 1:
        print(f"cardswitch: {failed} of {count} messages failed", file=sys.stderr)
    return 1 if failed else 0


def _complain(error: ConsoleError) -> None:
    from console.logging import masked_text

    sys.stdout.flush()  # so that on one screen it comes behind what was before it
    print(f"cardswitch: {masked_text(str(error))}", file=sys.stderr)


def _print(codec: Codec, message: Message, as_json: bool, unmasked: bool) -> None:
    if as_json:
        print(msgspec.json.encode(as_plain(message, unmasked, codec.dialect)).decode())
        return
    from rich.console import Console

    Console(highlight=False).print(message_table(message, unmasked, dialect=codec.dialect))
