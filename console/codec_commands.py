"""`cardswitch decode` and `cardswitch encode`: messages in hex or JSON in, JSON, hex or a table for people out.

Card data is masked in what decode prints unless it is asked for; what decode prints with `--json --unmasked`,
encode reads, and the bytes are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from console.errors import UsageError
from messages.errors import MessagesError

if TYPE_CHECKING:
    from rich.table import Table

    from messages.codec import Codec
    from messages.message import Message

_LONGEST_INPUT = 16 << 20


class MessageJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as JSON: the MTI and elements by number, binary elements in upper-case hex."""

    mti: str
    elements: dict[str, str]


def decode(source: str | None, spec: str, as_json: bool, unmasked: bool) -> None:
    """Print every message of `source`: hex, a file with a message in hex on each line, or standard input ("-").

    Raises: UsageError where the input is no hex or no message, naming the line, the element and the byte.
    """
    codec = load_codec(spec)
    for number, line in enumerate(inputs(source, looks_like_value=is_hex), 1):
        try:
            message = codec.decode(bytes.fromhex(line))
        except ValueError:
            raise UsageError(f"message {number} is not hex", "give pairs of hex digits") from None
        except MessagesError as error:
            raise UsageError(f"message {number}, dialect {spec}: {error}", "check the bytes and --spec") from None
        if as_json:
            print(msgspec.json.encode(as_plain(message, unmasked)).decode())
        else:
            _print(message_table(message, unmasked))


def encode(source: str | None, spec: str, as_json: bool) -> None:
    """Print the bytes in hex of every message of `source`: JSON, a file with JSON, or standard input ("-").

    Raises: UsageError where the input is no JSON of a message, or the dialect cannot hold an element.
    """
    codec = load_codec(spec)
    for number, text in enumerate(inputs(source, looks_like_value=is_json), 1):
        try:
            data = codec.encode(message_from_json(text))
        except MessagesError as error:
            raise UsageError(f"message {number}, dialect {spec}: {error}", "correct the element") from None
        print(msgspec.json.encode({"hex": data.hex().upper()}).decode() if as_json else data.hex().upper())


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


def message_from_json(text: str) -> Message:
    """`{"mti": "0100", "elements": {"2": "…"}}` as a message; raises UsageError with what is wrong and where."""
    from messages.message import Message

    try:
        plain = msgspec.json.decode(text, type=MessageJson)
    except msgspec.ValidationError as error:
        raise UsageError(f"message: {error}", 'give {"mti": "0100", "elements": {"2": "…"}}') from None
    except msgspec.DecodeError as error:
        raise UsageError(f"message is not JSON: {error}", 'give {"mti": "0100", "elements": {"2": "…"}}') from None
    elements: dict[int, str] = {}
    for name, value in plain.elements.items():
        if not (name.isascii() and name.isdigit() and 2 <= int(name) <= 128):
            raise UsageError(f"message: there is no element {name!r}", "elements are numbers from 2 to 128")
        elements[int(name)] = value
    return Message(plain.mti, elements)


def as_plain(message: Message, unmasked: bool) -> dict[str, Any]:
    """The message as JSON-able data with elements in order, card data masked unless `unmasked`."""
    values = elements_of(message, unmasked)
    return {"mti": message.mti, "elements": {str(number): values[number] for number in sorted(values)}}


def elements_of(message: Message, unmasked: bool = False) -> dict[int, str]:
    from messages.mask import masked

    return dict(message.elements) if unmasked else dict(masked(message))


def message_table(message: Message, unmasked: bool = False, title: str | None = None) -> Table:
    """A table for people: number, name, value and what a coded value means."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from messages.dictionary.iso1987 import ELEMENT_NAMES, PROCESSING_CODES, RESPONSE_CODES
    from messages.mti import describe_mti

    heading = f"{title + '  ' if title else ''}[bold]{escape(message.mti)}[/] {_described(describe_mti, message.mti)}"
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, title_style="")
    table.add_column("DE", justify="right", style="cyan", no_wrap=True)
    table.add_column("name", style="dim")
    table.add_column("value", overflow="fold")
    table.add_column("", style="green")
    values = elements_of(message, unmasked)
    for number in sorted(values):
        meaning = ""
        if number == 39:
            meaning = RESPONSE_CODES.get(values[39], "")
        elif number == 3:
            meaning = str(PROCESSING_CODES.get(values[3][:2], ""))
        elif number == 4:
            meaning = _amount(values[4], message.elements.get(49, ""))
        table.add_row(str(number), ELEMENT_NAMES.get(number, ""), escape(values[number]), escape(meaning))
    return table


def inputs(source: str | None, looks_like_value: Any) -> Iterator[str]:
    """The messages that the user gave: the argument itself, or the lines of a file or of standard input."""
    if source is not None and source != "-" and looks_like_value(source):
        yield source
        return
    if source is None or source == "-":
        if source is None and sys.stdin.isatty():
            raise UsageError("no message given", "give it as an argument, a file, or on standard input")
        text = sys.stdin.read(_LONGEST_INPUT)
    else:
        text = _file_text(source)
    if text.lstrip().startswith("{") and not _each_line_is_json(text):
        yield text
        return
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError("the input is empty", "give one message a line")
    yield from lines


def is_hex(text: str) -> bool:
    letters = text.replace(" ", "")
    return bool(letters) and all(letter in "0123456789abcdefABCDEF" for letter in letters) and not Path(text).is_file()


def is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _file_text(name: str) -> str:
    try:
        with open(name, encoding="ascii") as file:
            return file.read(_LONGEST_INPUT)
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not text", "give hex or JSON, one message a line") from None
    except OSError as error:
        raise UsageError(
            f"{name!r} is neither a message nor a readable file ({error.strerror})", "give hex, JSON or a file"
        ) from None


def _each_line_is_json(text: str) -> bool:
    """One object a line (JSON lines) against one object over several lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return all(line.startswith("{") and line.endswith("}") for line in lines)


def _described(describe: Any, value: str) -> str:
    try:
        return str(describe(value))
    except MessagesError:
        return ""


def _amount(minor: str, currency: str) -> str:
    from messages.money import Money, alpha_currency

    try:
        return Money(int(minor), alpha_currency(currency)).format()
    except (MessagesError, ValueError):
        return ""


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)
