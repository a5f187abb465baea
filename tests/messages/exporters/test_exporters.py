"""Dialects in the words of pyiso8583 and moov-io/iso8583: imported again they put the same bytes on the wire."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.composites.spec import Composite
from messages.composites.tree import parse
from messages.dialect import Dialect, Element, load_dialect
from messages.element_codec import ElementCodec
from messages.errors import SpecError
from messages.exporters import FORMATS, export
from messages.importers import read_bytes
from tests.messages.importers.foreign import dialect, value, wire


def expressible(of: Dialect, to: str) -> Dialect:
    """The dialect without the elements that the other product lacks; bitmaps that it has."""
    made = msgspec.structs.replace(of, bitmap_encoding="hex") if to == "moov" else of
    kept = {}
    for number, element in of.elements.items():
        try:
            export(msgspec.structs.replace(made, elements={number: element}), to)
        except SpecError as lacking:
            assert lacking.problems[0].startswith(f"elements.{number}: {to} has no ")
        else:
            kept[number] = element
    return msgspec.structs.replace(made, elements=kept)


@pytest.mark.parametrize("to", FORMATS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_exported_and_imported_again_speaks_the_same_bytes(to: str, seed: int) -> None:
    chance = random.Random(seed)
    ours = expressible(dialect(chance), to)
    if not ours.elements:
        return
    exported = export(ours, to)
    imported = read_bytes(json.dumps(exported.spec).encode(), "again", "again.json")
    assert imported.origin == to
    theirs = imported.dialect
    assert list(theirs.elements) == list(ours.elements)
    for number, element in ours.elements.items():
        raw = wire(element, value(chance, element))
        codec = ElementCodec(theirs.elements[number])
        text, end = codec.decode(raw, 0)
        assert (end, codec.encode(text)) == (len(raw), raw)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", ["iso87-ascii", "iso87-bcd"])
def test_our_own_dialects_keep_type_bitmap_and_elements(name: str, to: str) -> None:
    ours = expressible(load_dialect(name), to)
    theirs = read_bytes(json.dumps(export(ours, to).spec).encode(), "again", "again.json").dialect
    assert (theirs.mti_encoding, theirs.bitmap_encoding) == (ours.mti_encoding, ours.bitmap_encoding)
    assert list(theirs.elements) == list(ours.elements)
    assert {2, 3, 4, 7, 11, 32, 37, 39, 41, 42, 48, 49, 52, 55, 64, 128} <= set(theirs.elements)


def of_one(element: Element) -> Dialect:
    return Dialect(name="one", mti_encoding="ascii", bitmap_encoding="hex", elements={element.number: element})


def text(number: int, size: int, length_kind: int = 0, **changes: object) -> Element:
    made = Element(
        number=number, name="part", kind="ans", encoding="ascii", length_kind=length_kind, max_length=size,
        length_encoding="ascii",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


INSIDES = {
    "positional": (Composite(kind="positional", parts={"1": text(1, 2), "2": text(2, 3)}), "ABCDE"),
    "tags": (
        Composite(kind="tag-text", parts={"01": text(1, 9, 2)}, tag_size=2, length_size=0),
        "0102AB",
    ),
    "counted tags": (
        Composite(kind="tag-text", parts={"01": text(1, 9, 2)}, tag_size=2, length_size=2),
        "0102ABZZ01x",
    ),
    "bitmap": (
        Composite(
            kind="bitmapped", parts={"1": text(1, 2), "3": text(3, 1)}, bitmap_size=1, bitmap_encoding="hex"
        ),
        "A0ABC",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDES)
def test_moov_takes_apart_what_we_take_apart(name: str) -> None:
    inside, content = INSIDES[name]
    element = text(48, 99, 2, parts=inside)
    exported = export(of_one(element), "moov")
    assert exported.warnings == ()
    assert exported.spec["fields"]["48"]["type"] == "Composite"
    theirs = read_bytes(json.dumps(exported.spec).encode(), "again", "again.json").dialect.elements[48]
    assert parse(theirs, content) == parse(element, content)


def test_what_moov_takes_apart_in_another_way_travels_whole_with_a_warning() -> None:
    chip = text(55, 255, 3, kind="b", encoding="binary", parts=Composite(kind="ber-tlv"))
    exported = export(of_one(chip), "moov")
    assert exported.spec["fields"]["55"] == {
        "type": "Binary",
        "length": 255,
        "description": "part",
        "enc": "Binary",
        "prefix": "ASCII.LLL",
    }
    assert exported.warnings[0].startswith("elements.55.parts: left out, moov has no ")


LACKING = {
    "another pad": (text(2, 19, 2, kind="n", encoding="bcd", pad="right F"), "pad F in BCD"),
    "signs in BCD": (text(28, 9, kind="x+n", encoding="bcd"), "signs or separators in BCD"),
    "code page 037": (text(43, 40, encoding="cp037"), "text in code page 037"),
    "long lengths": (text(48, 9999, 5), "length of 5 digits"),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_moov_has_no_words_for_is_named(name: str) -> None:
    element, reason = LACKING[name]
    with pytest.raises(SpecError, match=f"elements.{element.number}: moov has no {reason}"):
        export(of_one(element), "moov")


def test_everything_lacking_is_listed() -> None:
    elements = {element.number: element for element, _ in LACKING.values()}
    with pytest.raises(SpecError) as caught:
        export(msgspec.structs.replace(of_one(text(3, 6)), elements=elements, bitmap_encoding="cp037"), "moov")
    assert len(caught.value.problems) == len(LACKING) + 1


def test_unknown_products_are_refused() -> None:
    with pytest.raises(SpecError, match="known are pyiso8583, moov"):
        export(of_one(text(3, 6)), "jpos")
