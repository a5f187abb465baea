"""Types and bitmaps in every encoding, one, two or three of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.dialect import Dialect, Element
from messages.errors import DecodeError
from messages.header import (
    announces_another,
    bitmap_bytes,
    bitmap_of,
    bitmap_size,
    head_bitmaps,
    mti_bytes,
    mti_size,
    read_bitmap,
    read_header,
)

BITMAPS = ("binary", "hex", "ebcdic-hex", "cp037", "cp500", "cp1047")
MTIS = ("ascii", "bcd", "cp037", "cp500", "cp1047")
every_bitmap = pytest.mark.parametrize("bitmap", BITMAPS)
any_numbers = st.sets(st.integers(2, 192).filter(lambda number: number != 65))


def dialect(bitmap: str = "binary", mti: str = "ascii", tertiary: str = "contiguous") -> Dialect:
    last = 192 if tertiary else 128
    numbers = [number for number in range(2, last + 1) if number != 65 or not tertiary]
    return Dialect(
        name="heads",
        mti_encoding=mti,
        bitmap_encoding=bitmap,
        tertiary=tertiary,
        elements={
            number: Element(
                number=number, name="", kind="n", encoding="ascii", length_kind=0, max_length=1, length_encoding="ascii"
            )
            for number in numbers
        },
    )


HEADS = {bitmap: dialect(bitmap) for bitmap in BITMAPS}
INSIDE = {bitmap: dialect(bitmap, tertiary="element") for bitmap in BITMAPS}


@every_bitmap
@given(numbers=any_numbers)
def test_numbers_become_bitmaps_and_come_back(bitmap: str, numbers: set[int]) -> None:
    head = HEADS[bitmap]
    digits, inside = head_bitmaps(head, numbers)
    assert inside == "" and digits == bitmap_of(numbers)
    raw = mti_bytes(head, "0100") + bitmap_bytes(head, digits)
    header = read_header(head, raw + b"rest")
    assert (header.mti, header.numbers, header.end) == ("0100", tuple(sorted(numbers)), len(raw))
    count = 3 if max(numbers, default=0) > 128 else 2 if max(numbers, default=0) > 64 else 1
    assert header.end == mti_size(head) + count * bitmap_size(head)


@every_bitmap
@given(numbers=any_numbers)
def test_a_third_bitmap_among_the_elements_is_one_of_the_numbers(bitmap: str, numbers: set[int]) -> None:
    head = INSIDE[bitmap]
    digits, inside = head_bitmaps(head, numbers)
    header = read_header(head, b"0100" + bitmap_bytes(head, digits))
    low = {number for number in numbers if number <= 128}
    assert set(header.numbers) == low | ({65} if inside else set())
    third = read_bitmap(head, bitmap_bytes(head, inside), 0, 2) if inside else []
    assert set(third) == numbers - low


@every_bitmap
def test_the_first_byte_says_whether_another_bitmap_follows(bitmap: str) -> None:
    another = announces_another(HEADS[bitmap])
    for numbers in ({2}, {3, 9}, {2, 70}, {66}):
        raw = bitmap_bytes(HEADS[bitmap], bitmap_of(numbers))
        assert another[raw[0]] is (max(numbers) > 64)


@pytest.mark.parametrize("mti", MTIS)
def test_types_in_every_encoding(mti: str) -> None:
    head = dialect(mti=mti)
    raw = mti_bytes(head, "1804")
    assert len(raw) == mti_size(head)
    assert read_header(head, raw + bytes(8)).mti == "1804"
    for broken in (b"", raw[:1], raw[:-1] + b"\xab"):
        with pytest.raises(DecodeError, match=r"MTI at byte 0: expected 4 digits"):
            read_header(head, broken + (bytes(8) if len(broken) == len(raw) else b""))


def test_lower_case_digits_are_read() -> None:
    for bitmap in ("hex", "ebcdic-hex"):
        head = HEADS[bitmap]
        raw = bitmap_bytes(head, "40000000000000AF".lower())
        assert read_bitmap(head, raw, 0, 0) == [2, 57, 59, 61, 62, 63, 64]


@every_bitmap
def test_what_is_no_bitmap_is_refused_with_its_place(bitmap: str) -> None:
    head = HEADS[bitmap]
    size = bitmap_size(head)
    short = b"0100" + bitmap_bytes(head, "40" + "0" * 14)[:-1]
    with pytest.raises(DecodeError, match=rf"bitmap at byte 4: expected {size} bytes, got {size - 1}"):
        read_header(head, short)
    second = b"0100" + bitmap_bytes(head, "80" + "0" * 14)
    with pytest.raises(DecodeError, match=rf"bitmap at byte {4 + size}: expected {size} bytes, got 0"):
        read_header(head, second)
    if bitmap != "binary":
        with pytest.raises(DecodeError, match=r"bitmap at byte 4: expected 16 hexadecimal digits"):
            read_header(head, b"0100" + bitmap_bytes(head, "40" + "0" * 13) + b"\x00")


def test_elements_that_the_dialect_lacks_are_named() -> None:
    two = dialect(tertiary="")
    del two.elements[70]
    with pytest.raises(DecodeError, match=r"bitmap at byte 4: announces DE 70, which heads does not have"):
        read_header(two, b"0100" + bitmap_bytes(two, bitmap_of({3, 70})))
    assert read_header(two, b"0100" + bitmap_bytes(two, bitmap_of({3, 65}))).numbers == (3, 65)
