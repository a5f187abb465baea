"""Messages in every dialect of ours and some of others: a read message is written again and read as the same.

The shown form of a message reveals nothing of its card number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from console.message_view import as_plain, message_from_json
from messages.codec import Codec
from messages.composites.tree import build, parse
from messages.dialect import load_dialect
from messages.errors import DecodeError, MessagesError
from messages.message import Message
from tests.fuzz.driver import Target
from tests.fuzz.outcome import decode_word
from tests.messages.importers import foreign

_ROOT = Path(__file__).parents[2]
_SAMPLES = _ROOT / "tests" / "messages" / "importers" / "samples"
OURS = sorted(path.stem for path in (_ROOT / "specs").glob("iso*.toml"))
CODECS = [
    *(Codec(load_dialect(name)) for name in OURS),
    *(Codec(load_dialect(str(path))) for path in sorted(_SAMPLES.iterdir())),
    *(Codec(foreign.dialect(random.Random(seed), f"random-{seed}")) for seed in range(12)),
]
_SEEDS_EACH = 6


def run(data: bytes) -> str:
    """The first byte says which dialect, the rest is a message."""
    codec = CODECS[data[0] % len(CODECS)] if data else CODECS[0]
    raw = data[1:]
    try:
        message = codec.decode(raw)
    except DecodeError as error:
        return f"{codec.dialect.name}: {decode_word(error, raw)}"
    again = codec.encode(message)
    assert codec.decode(again) == message, "the written message differs from the read one"
    insides = [_inside(codec, message, number) for number in message.elements]
    text = json.dumps(as_plain(message, True, codec.dialect))
    assert codec.encode(message_from_json(text, codec.dialect)) == again, "JSON gives other bytes"
    shown = json.dumps(as_plain(message, False, codec.dialect)) + repr(message)
    pan = message.elements.get(2, "")
    assert len(pan) < 13 or pan not in shown, "a card number is shown"
    return f"{codec.dialect.name}: read, {sorted(set(insides))}"[:80]


def _inside(codec: Codec, message: Message, number: int) -> str:
    element = codec.dialect.elements[number]
    if element.parts is None:
        return ""
    value = message.elements[number]
    try:
        tree = parse(element, value)
    except DecodeError as error:
        size = len(value) // 2 if element.kind == "b" else len(value)
        return decode_word(error, bytes(size))[:20]
    assert build(element, tree) == value, f"DE {number} is put together as something else"
    return element.parts.kind


def seeds() -> Iterable[bytes]:
    chance = random.Random(0)
    for number, codec in enumerate(CODECS):
        made = 0
        while made < _SEEDS_EACH:
            chosen = chance.sample(list(codec.dialect.elements), 6)
            try:
                values = {key: foreign.value(chance, codec.dialect.elements[key]) for key in chosen}
                yield bytes((number,)) + codec.encode(Message("0100", values))
            except MessagesError:
                continue
            made += 1


TARGET = Target("codec", run, seeds, words=(b"0100", b"\x80", b"F", b"=", b"D", b"\x9f\x26\x08"))
