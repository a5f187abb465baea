"""Every pair of PIN block formats against PCI PIN requirement 3-3."""

from __future__ import annotations

import itertools
import os

import pytest

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pin_translation import TRANSLATIONS, check_reference, check_translation, translate_pin_block
from hsm.algorithms.pinblock import FORMATS, PinKey, open_pin, seal_pin
from hsm.errors import PinBlockError, PinTranslationError

PAN = "4242424242424242"
PAIRS = list(itertools.product(sorted(FORMATS), repeat=2))
# Source: PCI PIN Security Requirements v3.1, 3-3: formats 0, 3 and 4 become 0, 3 or 4, never 1; format 1 may become 0,
# 1, 3 or 4. (Format 2 goes to and comes from chip cards only; the HSM has none.)
FORBIDDEN = {(0, 1), (3, 1), (4, 1)}
KEYS_IN: dict[str, PinKey] = {"T": ClearTdesKey(bytes(range(16))), "A": ClearAesKey(bytes(range(16)))}
KEYS_OUT: dict[str, PinKey] = {"T": ClearTdesKey(bytes(range(1, 25))), "A": ClearAesKey(bytes(range(32)))}


def keys(format_in: int, format_out: int) -> tuple[PinKey, PinKey]:
    return KEYS_IN[FORMATS[format_in].algorithm], KEYS_OUT[FORMATS[format_out].algorithm]


def test_the_table_has_every_pair() -> None:
    assert {(first, second) for first, row in TRANSLATIONS.items() for second in row} == set(PAIRS)


@pytest.mark.parametrize(("format_in", "format_out"), PAIRS)
def test_pairs(format_in: int, format_out: int) -> None:
    key_in, key_out = keys(format_in, format_out)
    for pin in ("1234", "98765", "123456789012"):
        block = seal_pin(format_in, pin, PAN, key_in, os.urandom)
        if (format_in, format_out) in FORBIDDEN:
            with pytest.raises(PinTranslationError, match=f"format {format_in} to {format_out}"):
                translate_pin_block(block, format_in, key_in, format_out, key_out, PAN, os.urandom)
        else:
            translated = translate_pin_block(block, format_in, key_in, format_out, key_out, PAN, os.urandom)
            assert open_pin(format_out, translated, PAN, key_out) == pin
            assert translated != block


@pytest.mark.parametrize("pair", sorted(FORBIDDEN))
def test_what_is_forbidden_is_not_even_deciphered(pair: tuple[int, int]) -> None:
    class NoKey(ClearTdesKey):
        def decrypt(self, data: bytes) -> bytes:
            raise AssertionError("the key was asked")

    with pytest.raises(PinTranslationError):
        translate_pin_block(bytes(8), pair[0], NoKey(bytes(16)), pair[1], NoKey(bytes(16)), PAN, os.urandom)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] != 1 and pair not in FORBIDDEN])
def test_the_pan_cannot_be_changed(pair: tuple[int, int]) -> None:
    key_in, key_out = keys(*pair)
    # Zero bytes fill format 3 with A, which becomes a digit under the other PAN.
    block = seal_pin(pair[0], "1234", PAN, key_in, bytes)
    with pytest.raises(PinBlockError):
        translate_pin_block(block, pair[0], key_in, pair[1], key_out, "4000000000000002", os.urandom)


@pytest.mark.parametrize(("format_in", "format_out"), [(2, 0), (0, 2), (1, 2), (7, 7)])
def test_no_other_formats(format_in: int, format_out: int) -> None:
    with pytest.raises(ValueError, match="none of 0, 1, 3 and 4"):
        check_translation(format_in, format_out)


def test_references_are_made_of_blocks_that_bind_the_pan() -> None:
    # Source: IBM CCA, "ANSI X9.8 PIN - enforce PIN block restrictions".
    for number in (0, 3, 4):
        check_reference(number)
    with pytest.raises(PinTranslationError, match="does not bind the PAN"):
        check_reference(1)
    with pytest.raises(ValueError, match="none of"):
        check_reference(2)
