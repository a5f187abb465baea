"""Tables of lengths: both ways the same, never more than a thousand entries."""

from __future__ import annotations

import pytest

from messages.dialect import Element
from messages.lengths import decode_table, encode_table, prefix, prefix_size, said, scale, shown_table

LENGTHS = ("ascii", "cp037", "cp500", "cp1047", "bcd", "binary")


def element(**changes: object) -> Element:
    settings: dict[str, object] = {"kind": "ans", "encoding": "ascii", "length_kind": 2, "length_encoding": "ascii"}
    return Element(**{"number": 2, "name": "", "max_length": 99, **settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", LENGTHS)
@pytest.mark.parametrize(("kind", "largest"), [(1, 9), (2, 99), (3, 999), (4, 9999), (5, 12_345), (6, 999_999)])
def test_every_length_is_read_as_it_is_written(encoding: str, kind: int, largest: int) -> None:
    lengths = scale(element(length_kind=kind, max_length=largest, length_encoding=encoding))
    read, written = decode_table(lengths), encode_table(lengths, 1)
    for units in {0, 1, 9, largest // 2, 999, 1000, 1001, largest - 1, largest}:
        if units > largest:
            continue
        raw = written[units]
        assert raw is not None and raw == prefix(lengths, units)
        assert len(raw) == lengths.size
        assert read[raw[0] if len(raw) == 1 else raw] == units
        assert said(lengths, raw) == units
    with pytest.raises(IndexError):
        written[largest + 1]
    assert len(read) <= 1000 and len(written) <= 1000
    if lengths.largest_said > largest:
        over = prefix(lengths, largest + 1)
        with pytest.raises(KeyError):
            read[over[0] if len(over) == 1 else over]
    assert len(read) <= 1000 and len(written) <= 1000  # nothing is remembered that a peer chose


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"length_kind": 0}, 0),
        ({"length_kind": 3}, 3),
        ({"length_kind": 1, "length_encoding": "bcd"}, 1),
        ({"length_kind": 2, "length_encoding": "bcd"}, 1),
        ({"length_kind": 5, "length_encoding": "bcd"}, 3),
        ({"length_kind": 2, "length_encoding": "binary"}, 1),
        ({"length_kind": 4, "length_encoding": "binary"}, 2),
        ({"length_kind": 6, "length_encoding": "binary"}, 3),
        ({"length_kind": 6, "length_encoding": "binary", "length_size": 4}, 4),
    ],
)
def test_how_many_bytes_a_length_takes(changes: dict[str, object], size: int) -> None:
    assert prefix_size(element(**changes)) == size


@pytest.mark.parametrize(
    ("changes", "characters", "raw"),
    [
        ({}, 5, b"05"),
        ({"length_count": "nibbles"}, 5, b"10"),
        ({"kind": "b", "encoding": "binary"}, 10, b"05"),
        ({"kind": "b", "encoding": "binary", "length_count": "digits"}, 10, b"10"),
        ({"kind": "b", "encoding": "hex"}, 10, b"10"),
        ({"kind": "b", "encoding": "hex", "length_count": "octets"}, 10, b"05"),
        ({"kind": "b", "encoding": "hex", "length_count": "nibbles"}, 10, b"20"),
        ({"kind": "n", "encoding": "bcd", "pad": "left 0"}, 5, b"05"),
        ({"kind": "n", "encoding": "bcd", "pad": "left 0", "length_count": "nibbles"}, 5, b"05"),
        ({"kind": "n", "encoding": "bcd", "pad": "left 0", "length_count": "bytes"}, 6, b"03"),
    ],
)
def test_what_a_length_counts(changes: dict[str, object], characters: int, raw: bytes) -> None:
    counted = element(max_length=40, **changes)
    assert encode_table(scale(counted), 2 if counted.encoding == "binary" else 1)[characters] == raw


def test_what_cannot_be_said_is_not_allowed() -> None:
    assert scale(element(max_length=60, length_count="nibbles")).largest == 49
    numbers = scale(element(kind="n"))
    assert encode_table(numbers, 1)[0] is None  # numbers are never empty
    with pytest.raises(KeyError):
        decode_table(numbers)[b"00"]
    pairs = scale(element(kind="b", encoding="hex", max_length=20))
    assert encode_table(pairs, 1)[3] is None


def test_lengths_are_shown_as_what_is_joined_with_them() -> None:
    packed = scale(element(kind="n", encoding="bcd", pad="left 0", length_encoding="cp037", max_length=19))
    assert shown_table(packed, 1, "hex", "0")[5] == "f0f5" + "0"
    assert shown_table(packed, 1, "hex", "0")[6] == "f0f6"
    assert shown_table(scale(element(length_encoding="bcd")), 1, "", "")[12] == "\x12"
    assert shown_table(scale(element(length_encoding="cp037")), 1, "cp037", "")[12] == "12"
