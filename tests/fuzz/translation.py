"""Translation between versions: bytes of any dialect of ours become a canonical message and bytes again.

A read message is written again for every dialect, or refused with a documented error; a dialect's own message,
translated and written in the same dialect, can be read by it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from messages.canonical import canonical_codec
from messages.codec import Codec
from messages.dialect import Dialect, Element, load_dialect
from messages.errors import DecodeError, EncodeError, MessagesError, RuleViolation
from messages.message import Message
from tests.fuzz.driver import Target
from tests.fuzz.outcome import decode_word, word
from tests.messages.importers import foreign

_SPECS = Path(__file__).parents[2] / "specs"
_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
_DIALECTS: list[Dialect] = [load_dialect(path.stem) for path in sorted(_SPECS.glob("iso*.toml"))]
CODECS: list[Codec] = [canonical_codec(dialect, lambda: _NOW) for dialect in _DIALECTS]
_SEEDS_EACH = 8
# Values that have a meaning, so that more than shapes is translated.
_VALUES: dict[int, tuple[str, ...]] = {
    3: ("000000", "200000", "310000"),
    22: ("051", "510101511344", "012"),
    24: ("100", "101", "200", "400", "831"),
    25: ("00", "4021", "1004"),
    39: ("00", "51", "000", "116", "0000", "1016", "904"),
    49: ("978", "840"),
    70: ("001", "301"),
    43: ("Shop                     Berlin       DE", "Shop\\Street 1\\Berlin\\10115     DE DEU"),
    54: ("0002978C000000000100", "0040978D0000000001000002978C000000000100"),
    56: ("1100000001261125120000" + "06" * 6,),
    90: ("0100000001112512000000000000000000000000000"[:42],),
}


def run(data: bytes) -> str:
    """The first byte says whose message it is, the second for whom it is translated; # makes it elements in lines."""
    source = data[0] % len(CODECS) if data else 0
    target = data[1] % len(CODECS) if len(data) > 1 else 0
    try:
        raw = _from_lines(source, data[2:]) if data[2:3] == b"#" else data[2:]
    except EncodeError as error:
        return word(error)
    where = f"{_DIALECTS[source].version} to {_DIALECTS[target].version}"
    try:
        message, fault = CODECS[source].decode(raw), ""
    except RuleViolation as error:
        message, fault = error.message, f"against the rules, {word(error)}"
    except DecodeError as error:
        return f"{_DIALECTS[source].version}: {decode_word(error, raw)}"
    if _DIALECTS[source].version != "1987":
        assert message.mti[:1] == "0", "a canonical type is one of 1987"
    assert "4242424242424242" not in repr(message), "a card number is shown"
    outcomes = [_written(CODECS[codec], message) for codec in (target, source)]
    return f"{where}: {outcomes[0]}{fault}"


def _from_lines(source: int, text: bytes) -> bytes:
    """ "#1100", then lines of a number and a value: mutations of these go deeper than those of bytes."""
    mti, *lines = text[1:].decode("latin-1").split("\n")
    elements = {}
    for line in lines:
        number, _, value = line.partition(" ")
        if number.isascii() and number.isdigit() and len(number) < 4:
            elements[int(number)] = value
    return Codec.encode(CODECS[source], Message(mti, elements))


def _written(codec: Codec, message: Message) -> str:
    try:
        data = codec.encode(message)
    except (EncodeError, DecodeError) as error:
        return word(error)
    try:
        codec.decode(data)
    except RuleViolation as error:
        return f"written, {word(error)}"
    except DecodeError as error:
        assert error.path == "MTI", error  # of another version: in with a dialect of 1987, and out again
        return "written, no type"
    return "written"


def seeds() -> Iterable[bytes]:
    chance = random.Random(0)
    for number, dialect in enumerate(_DIALECTS):
        codec, made = Codec(dialect), 0
        first = {"1987": "0", "1993": "1", "2003": "2"}[dialect.version]
        while made < _SEEDS_EACH:
            chosen = {2, 3, 4, 11, *chance.sample(list(dialect.elements), 10), *chance.sample(sorted(_VALUES), 4)}
            values = {key: _value(chance, dialect.elements[key]) for key in chosen if key in dialect.elements}
            mti = first + chance.choice(("100", "110", "120", "200", "210", "220", "400", "420", "430", "520", "800"))
            try:
                raw = codec.encode(Message(mti, values))
            except MessagesError:
                continue
            made += 1
            head = bytes((number, chance.randrange(len(CODECS))))
            yield head + raw
            lines = "".join(f"\n{key} {value}" for key, value in values.items() if len(value) < 100)
            yield head + f"#{mti}{lines}".encode()


def _value(chance: random.Random, element: Element) -> str:
    fitting = [
        value
        for value in _VALUES.get(element.number, ())
        if len(value) == element.characters or (element.length_kind and len(value) <= element.characters)
    ]
    return chance.choice(fitting) if fitting else foreign.value(chance, element)


TARGET = Target("translation", run, seeds, words=(b"1100", b"0100", b"2100", b"978", b"116", b"100"))
