"""Messages from a file, for an acquirer to send again: lines in, messages out.

A line is a message as JSON (`{"mti": "0200", "elements": {"2": "…"}}`, as `cardswitch decode --json --unmasked` prints
it), or as hexadecimal digits in the link's dialect; empty lines and those that start with # are left out. JSON whose
type is one of 1987 has the numbers of 1987, on a link of any version. JSON may carry `"pin"`, which becomes DE 52 under
the link's key, and `"wait_s"` before it is sent. Numbers (DE 7, 11, 12, 13, 37) are given anew unless the line says
`"as_is": true`; DE 90 then names its original by the new ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from messages.card import pan_of
from messages.codec import Codec
from messages.composites.tree import build, from_plain
from messages.dialect import Dialect
from messages.errors import MessagesError
from messages.exchange import original_data, parse_original_data
from messages.message import Message
from messages.mti import canonical_mti, is_response
from simulators.acquirer.book import Request
from simulators.acquirer.core import Acquirer
from simulators.errors import ReplayError

MAX_LINES = 1_000_000
MAX_WAIT_S = 3_600.0
NUMBERED = frozenset({12, 13, 37})  # given anew where the message has them; 7 and 11 always
MACS = (64, 128)


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file. In JSON elements are named by numbers; those with parts are objects or lists, until read."""

    mti: str
    elements: dict[str, Any] = {}
    pin: str = ""
    wait_s: float = 0.0
    as_is: bool = False

    def __repr__(self) -> str:
        return f"Line({self.mti!r}, {len(self.elements)} elements)"

    @property
    def message(self) -> Message:
        return Message(self.mti, {int(number): value for number, value in self.elements.items()})


def read_lines(text: str, codec: Codec, source: str) -> list[Line]:
    """All messages of a file.

    Raises:
        ReplayError: the first line that is no message, an answer, or longer a file than 1,000,000 lines; by its
            number, never its content. A file without a message.
    """
    lines: list[Line] = []
    text = text.removeprefix("\ufeff")
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if len(lines) >= MAX_LINES:
            raise ReplayError(f"{source}: more than {MAX_LINES} messages")
        try:
            lines.append(_read(stripped, codec))
        except (msgspec.MsgspecError, MessagesError, ValueError) as error:
            raise ReplayError(f"{source}: line {number}: {error}") from None
    if not lines:
        raise ReplayError(f"{source}: there is no message in it")
    return lines


class Replay:
    """Makes requests of an acquirer from lines, one after the other.

    Args:
        acquirer: whose book they join.
    """

    def __init__(self, acquirer: Acquirer) -> None:
        self._acquirer = acquirer
        self._by_old: dict[tuple[str, str, str], Request] = {}

    def request(self, line: Line, now: datetime) -> Request:
        """The next request.

        Raises:
            ReplayError: it cannot be sent; the text says why.
        """
        message = line.message
        old = (message.elements.get(7, ""), message.elements.get(11, ""))
        original = self._original(message)
        if not line.as_is:
            self._renumber(message, now, original)
        if line.pin:
            self._put_pin(message, line.pin)
        try:
            request = self._acquirer.adopt(message, kind_of(message, known=original is not None), now, original)
        except (MessagesError, KeyError, ValueError) as error:
            raise ReplayError(f"{message.mti}: {error}") from None
        self._by_old[(canonical_mti(message.mti), *old)] = request
        return request

    def _original(self, message: Message) -> Request | None:
        if 90 not in message.elements:
            return None
        try:
            data = parse_original_data(message.elements[90])
            return self._by_old.get((canonical_mti(data.mti), data.transmitted, data.stan))
        except MessagesError:
            return None  # sent as it is

    def _renumber(self, message: Message, now: datetime, original: Request | None) -> None:
        elements = message.elements
        numbers = self._acquirer.numbers(now)
        elements.update({number: value for number, value in numbers.items() if number in elements or number in (7, 11)})
        for mac in MACS:
            elements.pop(mac, None)  # it would be wrong; the link's key makes another
        if original is not None:
            given = original.message
            elements[90] = original_data(given.mti, given.elements[11], given.elements[7], given.elements.get(32, ""))
            if 37 in elements and 37 in given.elements:
                elements[37] = given.elements[37]

    def _put_pin(self, message: Message, pin: str) -> None:
        block, ksn = self._acquirer.keys.pin_block(pin, pan_of(message))
        message.elements[52] = block.hex().upper()
        if ksn:
            message.elements[self._acquirer.profile.ksn_element] = ksn.hex().upper()


# MTI without its repeat digit → what it is, where nothing else decides.
BY_MTI = {
    "0120": "authorization advice",
    "0400": "reversal",
    "0420": "reversal",
    "0500": "reconciliation",
    "0520": "reconciliation",
    "0600": "administrative",
    "0620": "administrative",
}
INQUIRIES = ("30", "31")


def kind_of(message: Message, *, known: bool) -> str:
    """Which of `simulators.acquirer.book.KINDS` a message is; `known`: whether its original is in the book."""
    mti, elements = canonical_mti(message.mti), message.elements
    code = elements.get(3, "")
    changes = 90 in elements
    if mti in ("0100", "0200") and code.startswith(INQUIRIES):
        return "inquiry"
    if mti == "0100":
        kind = "increment" if changes else "verification" if int(elements.get(4, "0")) == 0 else "authorization"
    elif mti == "0200":
        kind = "refund" if code.startswith("20") else "purchase"
    elif mti == "0220":
        kind = "capture" if changes else "purchase advice"
    elif mti in ("0400", "0420"):
        kind = "reduction" if int(elements.get(95, "0")[:12]) else "reversal"
    else:
        kind = BY_MTI.get(mti, "other")
    return "other" if kind in ("increment", "capture", "reversal", "reduction") and not known else kind


def _read(text: str, codec: Codec) -> Line:
    if text.startswith("{"):
        line = _flat(msgspec.json.decode(text, type=Line), codec)
        if not 0 <= line.wait_s <= MAX_WAIT_S:
            raise ValueError(f"wait_s must be 0–{MAX_WAIT_S:.0f}")
    else:
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise ValueError("neither JSON nor hexadecimal digits") from None
        line = _of_wire(codec.decode(data))
    if is_response(line.mti):
        raise ValueError(f"{line.mti} is an answer")
    return line


def _flat(line: Line, codec: Codec) -> Line:
    """A line of JSON with its elements as text, in the numbers of 1987."""
    if not all(number.isascii() and number.isdigit() for number in line.elements):
        raise ValueError("elements are named by their numbers")
    on_wire = line.mti[:1] in ("1", "2")  # as `decode` shows the messages of a later version
    # Those of 1987 are other elements than the same numbers of a later version: its parts are not theirs.
    parts_of = codec.dialect if on_wire or codec.dialect.version == "1987" else None
    elements = {number: _text(number, value, parts_of) for number, value in line.elements.items()}
    flat = msgspec.structs.replace(line, elements=elements)
    if not on_wire:
        return flat
    read = _of_wire(codec.decode(Codec(codec.dialect).encode(flat.message)))
    return msgspec.structs.replace(flat, mti=read.mti, elements=read.elements)


def _text(number: str, value: object, dialect: Dialect | None) -> str:
    if isinstance(value, str):
        return value
    element = dialect.elements.get(int(number)) if dialect is not None else None
    if element is None or element.parts is None or not isinstance(value, dict | list):
        raise ValueError(f"DE {number} must be text")
    return build(element, from_plain(value, number))


def _of_wire(message: Message) -> Line:
    return Line(message.mti, {str(number): value for number, value in message.elements.items()})
