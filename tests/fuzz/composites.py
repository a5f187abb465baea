"""Elements with parts: every kind, in bytes and in text, and the JSON of their trees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import msgspec

from messages.composites.spec import Composite
from messages.composites.tree import build, from_plain, parse
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError, MessagesError
from messages.formats import problem
from tests.fuzz.driver import Target
from tests.fuzz.outcome import decode_word, word
from tests.messages.importers import foreign

_CHIP = Composite(kind="ber-tlv")
_RESERVED = Composite(
    kind="ber-tlv",
    parts={
        "FF20": Element(
            number=1, name="x", kind="b", encoding="binary", length_kind=3, max_length=255, length_encoding="ascii"
        )
    },
)  # fmt: skip
_TEXT_TAGS = Composite(kind="tag-text", tag_size=2, length_size=3)
_BINARY_TAGS = Composite(
    kind="tag-text", tag_size=1, tag_encoding="binary", length_size=2, length_encoding="binary"
)  # fmt: skip


def _element(parts: Composite, kind: str) -> Element:
    return Element(
        number=55, name="x", kind=kind, encoding="binary" if kind == "b" else "ascii", length_kind=5,
        max_length=99_999, length_encoding="ascii", parts=parts,
    )  # fmt: skip


def _elements() -> list[Element]:
    made = [_element(_CHIP, "b"), _element(_RESERVED, "b"), _element(_TEXT_TAGS, "ans"), _element(_BINARY_TAGS, "b")]
    for seed in range(28):
        one = foreign.composite(random.Random(seed), 55)
        made.append(msgspec.structs.replace(one, length_kind=5, max_length=99_999))
        if one.parts is not None and one.parts.kind == "positional":
            rows = Composite(kind="positional", parts=one.parts.parts, rows=True)
            made.append(msgspec.structs.replace(made[-1], parts=rows))
    return made


ELEMENTS = _elements()


def run(data: bytes) -> str:
    """The first byte says which element, the rest is its value, or the JSON of a tree."""
    element = ELEMENTS[data[0] % len(ELEMENTS)] if data else ELEMENTS[0]
    raw = data[1:]
    if raw.startswith((b"{", b"[")):
        return _from_json(element, raw)
    value = raw.hex().upper() if element.kind == "b" else raw.decode("latin-1")
    try:
        tree = parse(element, value)
    except DecodeError as error:
        return f"{_kind(element)}: {decode_word(error, raw)}"
    if problem(element, value) is not None:
        return f"{_kind(element)}: nothing that the codec lets through"
    assert build(element, tree) == value, "put together as something else"
    assert build(element, from_plain(json.loads(json.dumps(tree.to_plain())))) == value, "JSON gives other bytes"
    list(tree.leaves())
    tree.mapped(lambda path, text: text)
    return f"{_kind(element)}: {min(len(tree.nodes), 5)} parts"


def _from_json(element: Element, raw: bytes) -> str:
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no JSON"
    try:
        value = build(element, from_plain(plain, "55"))
    except EncodeError as error:
        return f"{_kind(element)}: {word(error)}"
    try:
        parse(element, value)
    except MessagesError as error:
        return f"{_kind(element)} from JSON: {word(error)}"
    return f"{_kind(element)} from JSON"


def _kind(element: Element) -> str:
    return f"{element.parts.kind if element.parts else ''} {element.kind}"


def seeds() -> Iterable[bytes]:
    chance = random.Random(0)
    for number, element in enumerate(ELEMENTS):
        assert element.parts is not None
        for _ in range(2):
            tree = foreign.tree(chance, element.parts)
            if element.parts.rows:
                plain: object = {"1": tree.to_plain(), "2": tree.to_plain()}
            else:
                plain = tree.to_plain()
            yield bytes((number,)) + json.dumps(plain).encode()
            try:
                value = build(element, from_plain(plain))
            except EncodeError:
                continue
            yield bytes((number,)) + (bytes.fromhex(value) if element.kind == "b" else value.encode())


TARGET = Target(
    "composites", run, seeds,
    words=(b"\x9f\x02\x06", b"\x81\x80", b"\x82\x00\x01", b"\xff\x20", b"\xe1", b'"raw"', b'"length": "8101"', b'{"'),
)  # fmt: skip
