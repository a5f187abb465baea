"""Messages in JSON, as `cardswitch encode` reads them: bytes that are read again, or a documented error."""

from __future__ import annotations

import json
from collections.abc import Iterable

from console.errors import UsageError
from console.message_view import as_plain, message_from_json
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import EncodeError, MessagesError
from tests.fuzz.driver import Target
from tests.fuzz.outcome import plain, word

_CODEC = Codec(load_dialect("iso87-bcd"))
_SAMPLES: tuple[dict[str, object], ...] = (
    {"2": "4242424242424242", "3": {"1": "00", "2": "20", "3": "00"}, "4": "000000012300", "11": "000001"},
    {"11": "000001", "55": {"9F26": "0102030405060708", "E1": {"9F02": "00"}}, "64": "0123456789ABCDEF"},
    {"11": "000001", "55": [{"tag": "9F26", "length": "8101", "value": "01"}, {"padding": "00"}], "70": "301"},
    {"11": "000001", "54": {"1": {"1": "00", "2": "01", "3": "978", "4": "C000000000100"}}},
    {"11": "000001", "90": "010000000100001125120000000000000000000000"},
)


def run(data: bytes) -> str:
    """JSON of a message."""
    try:
        message = message_from_json(data, _CODEC.dialect)
        raw = _CODEC.encode(message)
    except UsageError as error:
        return plain(str(error))
    except EncodeError as error:
        return word(error)
    except MessagesError as error:
        return f"{type(error).__name__}: {word(error)}"
    text = json.dumps(as_plain(_CODEC.decode(raw), True, _CODEC.dialect))
    assert _CODEC.encode(message_from_json(text, _CODEC.dialect)) == raw
    return f"encoded, {len(message.elements)} elements"


def seeds() -> Iterable[bytes]:
    for elements in _SAMPLES:
        yield json.dumps({"mti": "0100", "elements": elements}).encode()


TARGET = Target(
    "message_json", run, seeds,
    words=(b'"2": ', b'{"1": "', b"[]", b"{}", b"null", b"1", b'"\\ud800"', b'"\xc3"', b'"raw": "00"', b'"padding"'),
)  # fmt: skip
