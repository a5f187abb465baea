"""The dictionary: names, formats, codes in words."""

from __future__ import annotations

import pytest

from messages.dictionary.iso1987 import ELEMENT_NAMES, FORMATS, RESPONSE_CODES, describe


def test_the_dictionary_covers_2_to_128_but_the_bitmap() -> None:
    assert list(ELEMENT_NAMES) == list(FORMATS) == [number for number in range(2, 129) if number != 65]
    assert ELEMENT_NAMES[2] == "Primary account number (PAN)"
    assert (FORMATS[2], FORMATS[37], FORMATS[64], FORMATS[90]) == ("n..19", "an 12", "b 64", "n 42")


@pytest.mark.parametrize(
    ("number", "value", "words"),
    [
        (3, "000000", "Goods and services"),
        (3, "200030", "Refund, credit account"),
        (3, "770000", "unknown processing code"),
        (3, "00", ""),
        (22, "051", "chip, PIN entry possible"),
        (22, "812", "electronic commerce, no PIN entry"),
        (22, "XX9", "unknown entry mode, unknown PIN capability"),
        (39, "51", "Insufficient funds"),
        (39, "Z9", "unknown response code"),
        (70, "301", "echo test"),
        (4, "000000001000", ""),
    ],
)
def test_codes_in_words(number: int, value: str, words: str) -> None:
    assert describe(number, value) == words


def test_every_code_the_switch_uses_has_words() -> None:
    for code in ["00", "05", "12", "13", "14", "25", "30", "51", "55", "57", "59", "61", "63", "65", "91", "94", "96"]:
        assert RESPONSE_CODES[code]
