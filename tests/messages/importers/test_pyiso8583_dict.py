"""pyiso8583's specifications as JSON: pyiso8583 itself and the imported dialect read and write the same bytes."""

from __future__ import annotations

import json
import random
from typing import Any

import iso8583
import iso8583.specs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.dialect import Dialect
from messages.element_codec import ElementCodec
from messages.errors import SpecError
from messages.importers import read_bytes
from tests.messages.importers.foreign import value

HEAD: dict[str, dict[str, Any]] = {
    "h": {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 0},
    "t": {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 4},
    "p": {"data_enc": "b", "len_enc": "ascii", "len_type": 0, "max_len": 8},
    "1": {"data_enc": "b", "len_enc": "ascii", "len_type": 0, "max_len": 8},
}
TEXT = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 6}


def imported(spec: dict[str, Any]) -> Dialect:
    return read_bytes(json.dumps(spec).encode(), "theirs", "theirs.json").dialect


def as_theirs(spec: dict[str, Any], number: int, raw: bytes) -> str:
    """Values that pyiso8583 reads in an element; bytes that are not used up are an error."""
    bits = 1 << (128 - number) | (1 << 127 if number > 64 else 0)
    bitmaps = bits.to_bytes(16, "big") if number > 64 else (bits >> 64).to_bytes(8, "big")
    texts, _ = iso8583.decode(b"0100" + bitmaps + raw, spec)
    return texts[str(number)]


@pytest.mark.parametrize("name", ["default", "default_ascii"])
def test_the_specs_that_it_comes_with_become_dialects(name: str) -> None:
    dialect = imported(getattr(iso8583.specs, name))
    assert list(dialect.elements) == [*range(2, 65), *range(66, 129)]
    assert (dialect.name, dialect.mti_encoding) == ("theirs", "ascii")
    assert dialect.bitmap_encoding == ("binary" if name == "default" else "hex")
    assert dialect.elements[4].format == "n 12"
    assert dialect.elements[35].kind == "z"


def entry(chance: random.Random) -> dict[str, Any]:
    """Any entry that makes sense."""
    packed = chance.random() < 0.5
    made: dict[str, Any] = {
        "data_enc": "b" if packed else chance.choice(("ascii", "latin-1", "cp037", "cp500", "utf-8")),
        "len_enc": chance.choice(("ascii", "b", "bcd", "cp500", "cp1140")),
        "desc": "any",
    }
    made["len_type"] = chance.choice((0, 1, 2, 3) if made["len_enc"] in ("ascii", "cp500", "cp1140") else (0, 1, 2))
    made["max_len"] = chance.randint(2, 9 if made["len_type"] == 1 else 40)
    if chance.random() < 0.5:
        made["len_count"] = chance.choice(("bytes", "nibbles"))
    if packed and made.get("len_count") == "nibbles" and (chance.random() < 0.5 or made["max_len"] % 2):
        made[chance.choice(("left_pad", "right_pad"))] = chance.choice("0F")
    elif made.get("len_count") == "nibbles" and made["max_len"] % 2:
        made["max_len"] += 1
    return made


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_pyiso8583_reads_what_the_imported_dialect_writes(seed: int) -> None:
    chance = random.Random(seed)
    number = chance.choice((2, 4, 35, 41, 48, 52, 55, 60, 102, 128))
    spec = {**HEAD, "11": TEXT, str(number): entry(chance)}
    element = imported(spec).elements[number]
    if not element.length_kind and element.kind == "b" and element.max_length == 0:
        return
    padded = {"left_pad", "right_pad"} & set(spec[str(number)])
    text = value(chance, element if padded else msgspec.structs.replace(element, pad=""))  # odd digits need a pad
    raw = ElementCodec(element).encode(text)
    theirs = as_theirs(spec, number, raw)
    assert theirs == (text.replace("=", "D") if element.encoding == "bcd" else text)
    parts = iso8583.encode({"t": "0100", str(number): theirs}, spec)[1][str(number)]
    assert parts["len"] + parts["data"] == raw


def test_a_header_belongs_to_the_framing() -> None:
    spec = {**HEAD, "h": {**HEAD["h"], "max_len": 5}, "11": TEXT}
    warnings = read_bytes(json.dumps(spec).encode(), "x", "x").warnings
    assert warnings == ("h: the bytes before the type belong to the link's framing, not to the dialect",)


def test_elements_above_128_come_with_a_third_bitmap() -> None:
    assert imported({**HEAD, "11": TEXT, "130": TEXT}).tertiary == "contiguous"
    assert imported({**HEAD, "11": TEXT, "65": HEAD["p"]}).tertiary == ""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown encoding": ({"2": {**TEXT, "data_enc": "utf-16"}}, "2.data_enc: 'utf-16' is no encoding"),
    "unknown encoding of a length": ({"2": {**TEXT, "len_type": 2, "len_enc": "x"}}, "2.len_enc: 'x' is no encoding"),
    "an encoding that is code": ({"2": {**TEXT, "data_enc": "rot13"}}, "2.data_enc: 'rot13'"),
    "unknown count": ({"2": {**TEXT, "len_count": "bits"}}, "2.len_count: 'bits'"),
    "no length": ({"2": {"data_enc": "b", "len_enc": "b", "len_type": 0}}, "2.max_len: is missing"),
    "a length of zero": ({"2": {**TEXT, "max_len": 0}}, "2.max_len: must be a number from 1"),
    "true is no length": ({"2": {**TEXT, "max_len": True}}, "2.max_len: must be a number"),
    "half a byte": (
        {"52": {**TEXT, "data_enc": "b", "len_count": "nibbles", "max_len": 7}},
        "52.max_len: 7 nibbles need a left_pad or a right_pad",
    ),
    "a pad that is none": (
        {"2": {**TEXT, "data_enc": "b", "len_count": "nibbles", "left_pad": "x"}},
        "2.left_pad: must be a hexadecimal digit",
    ),
    "a long length": ({"2": {**TEXT, "len_type": 5, "len_enc": "b"}}, "2.len_type: a length of 5 bytes"),
    "a key that is none": ({"two": TEXT}, "two: the key must be h, t, p, 1 or a number from 2 to 192"),
    "an element that is no object": ({"2": "n 6"}, "2: must be an object"),
    "no second bitmap": ({"1": None, "70": TEXT}, "1: the bitmap is missing"),
    "two encodings of bitmaps": ({"1": {**HEAD["1"], "data_enc": "ascii"}}, "1: the bitmaps must have one encoding"),
    "no elements": ({"11": None}, "the spec has no elements"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_path(name: str) -> None:
    changes, expected = WRONG[name]
    spec = {key: field for key, field in {**HEAD, "11": TEXT, **changes}.items() if field is not None}
    with pytest.raises(SpecError) as caught:
        imported(spec)
    assert any(problem.startswith(expected) for problem in caught.value.problems), caught.value.problems
