"""Code pages, against Python's own where it has them."""

from __future__ import annotations

import pytest

from messages.charsets import FROM_LATIN, TEXT, TO_LATIN, latin, page_of, wire

EVERYTHING = bytes(range(256))


@pytest.mark.parametrize("page", ["cp037", "cp500"])
def test_the_tables_are_those_of_python(page: str) -> None:
    assert latin(page, EVERYTHING).decode("latin-1") == EVERYTHING.decode(page)
    assert wire(page, EVERYTHING) == EVERYTHING.decode("latin-1").encode(page)


@pytest.mark.parametrize("page", TO_LATIN)
def test_nothing_is_lost_there_and_back(page: str) -> None:
    assert sorted(TO_LATIN[page]) == sorted(FROM_LATIN[page]) == list(EVERYTHING)
    assert latin(page, wire(page, EVERYTHING)) == EVERYTHING


def test_1047_is_037_but_for_six_places() -> None:
    differs = {code for code in EVERYTHING if TO_LATIN["cp1047"][code] != TO_LATIN["cp037"][code]}
    assert differs == {0x5F, 0xAD, 0xB0, 0xBA, 0xBB, 0xBD}
    # Source: IBM's chart of code page 1047.
    assert latin("cp1047", bytes([0x5F, 0xAD, 0xBD, 0xB0, 0xBA, 0xBB])).decode("latin-1") == "^[]¬Ý¨"


def test_digits_and_hexadecimal_letters_are_the_same_in_all() -> None:
    digits = b"0123456789ABCDEFabcdef"
    assert len({wire(page, digits) for page in TO_LATIN}) == 1


def test_which_page_is_behind_an_encoding() -> None:
    assert {name: page_of(name) for name in (*TEXT, "hex", "binary", "bcd", "ebcdic-hex")} == {
        **dict.fromkeys(("ascii", "hex", "binary", "bcd"), ""),
        **{page: page for page in TO_LATIN},
        "ebcdic-hex": "cp037",
    }
    assert latin("", b"\x80") == wire("", b"\x80") == b"\x80"
