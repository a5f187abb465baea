"""PIN blocks of formats 0, 1, 3 and 4: published examples, psec as an oracle, and what is refused."""

from __future__ import annotations

import os
from collections import Counter

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pinblock import (
    FORMATS,
    PinKey,
    decipher_block,
    decode_block,
    encipher_block,
    encode_block,
    encode_pan_field,
    open_pin,
    seal_pin,
)
from hsm.errors import PinBlockError

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]

PAN = "4242424242424242"
OTHER_PAN = "4000000000000002"
PINS = st.text("0123456789", min_size=4, max_size=12)
PANS = st.text("0123456789", min_size=13, max_size=19)
NUMBERS = st.sampled_from(sorted(FORMATS))
KEYS: dict[str, PinKey] = {
    "T": ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")),
    "A": ClearAesKey(bytes.fromhex("00112233445566778899AABBCCDDEEFF")),
}
OTHER_KEYS: dict[str, PinKey] = {"T": ClearTdesKey(bytes(range(24))), "A": ClearAesKey(bytes(range(32)))}


def key_of(number: int) -> PinKey:
    return KEYS[FORMATS[number].algorithm]


def no_random(count: int) -> bytes:
    raise AssertionError("no randomness was to be taken")


@pytest.mark.parametrize(
    ("number", "pan", "block"),
    [
        # Source: EFTlab, "Complete list of PIN blocks" and BP-Tools: the worked examples of ISO-0 and ISO-3.
        (0, "43219876543210987", "0412AC89ABCDEF67"),
        (3, "43219876543210987", "3412ACC9B98CDF43"),
        # Source: psec's documentation, the example of encode_pinblock_iso_0.
        (0, "5544332211009966", "041277CDDEEFF669"),
        # Source: ANSI X9.24-1:2009, A.4: the PIN block under all its test keys.
        (0, "4012345678909", "041274EDCBA9876F"),
        # Source: ISO 9564-1:2017, 9.3.3, the layout, with a transaction field of our own.
        (1, "4012345678909", "1412340123456789"),
    ],
)
def test_clear_blocks_decode(number: int, pan: str, block: str) -> None:
    assert decode_block(number, bytes.fromhex(block), pan) == "1234"
    if number == 0:
        assert encode_block(0, "1234", pan, no_random).hex().upper() == block


def test_format_1_is_pin_and_random_digits() -> None:
    # Source: ISO 9564-1:2017, 9.3.3.
    assert encode_block(1, "1234", "", lambda count: bytes(range(0xF0, 0xF0 + count))).hex() == "141234f0f1f2f3f4"
    assert encode_block(1, "123456789012", "", lambda count: b"\xab" * count).hex() == "1c123456789012ab"


def test_format_3_fills_with_letters_evenly() -> None:
    # Source: ISO 9564-1:2017, 9.3.5: fill digits are ten to fifteen, chosen at random.
    account = int(PAN[-13:-1], 16)
    found = Counter()
    for _ in range(600):
        field = f"{int.from_bytes(encode_block(3, '1234', PAN, os.urandom), 'big') ^ account:016x}"
        assert field.startswith("341234")
        found.update(field[6:])
    assert set(found) == set("abcdef")
    assert min(found.values()) > 800, "each of six letters comes 1000 times in 6000"


def test_format_4_vector() -> None:
    # Source: X9.24-3-2017 supplement, "Test vectors", p. 31: calculation of AES PIN block format 4, transactions 1, 2.
    pan = "4111111111111111"
    field = encode_block(4, "1234", pan, lambda count: bytes.fromhex("2F69ADDE2E9E7ACE")[:count])
    assert field.hex().upper() == "441234AAAAAAAAAA2F69ADDE2E9E7ACE"
    assert encode_pan_field(pan).hex() == "44111111111111111000000000000000"
    for key, block in (
        ("AF8CB133A78F8DC2D1359F18527593FB", "A912150391AB65A67E52883D81CE2D15"),
        ("D30BDC73EC9714B000BEC66BDB7B6D09", "52A00503BD34BA1383F6A7EE9FE2547F"),
    ):
        aes = ClearAesKey(bytes.fromhex(key))
        assert encipher_block(4, field, pan, aes).hex().upper() == block
        assert decipher_block(4, bytes.fromhex(block), pan, aes) == field
        assert open_pin(4, bytes.fromhex(block), pan, aes) == "1234"


def test_format_4_examples_of_psec() -> None:
    # Source: psec's documentation, the examples of encode_pan_field_iso_4 and decipher_pinblock_iso_4.
    assert encode_pan_field("112233445566778899").hex() == "61122334455667788990000000000000"
    block = bytes.fromhex("E4BE5B623AF7E006AC319E5B93544564")
    assert open_pin(4, block, "1234567890123456", KEYS["A"]) == "1234"


@pytest.mark.parametrize(
    ("pan", "field"),
    [
        ("123456789012", "01234567890120000000000000000000"),
        ("4242424242424242", "44242424242424242000000000000000"),
        ("1234567890123456789", "71234567890123456789000000000000"),
    ],
)
def test_pan_field_counts_what_is_beyond_twelve_digits(pan: str, field: str) -> None:
    # Source: ISO 9564-1:2017, 9.4.2.
    assert encode_pan_field(pan).hex() == field


@given(number=NUMBERS, pin=PINS, pan=PANS)
def test_blocks_open_as_they_were_sealed(number: int, pin: str, pan: str) -> None:
    block = seal_pin(number, pin, pan, key_of(number), os.urandom)
    assert len(block) == FORMATS[number].block_bytes
    assert open_pin(number, block, pan, key_of(number)) == pin


@given(pin=PINS, pan=PANS, key=st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32))
def test_psec_opens_our_blocks_and_we_open_those_of_psec(pin: str, pan: str, key: bytes) -> None:
    assert psec.pinblock.decode_pinblock_iso_3(encode_block(3, pin, pan, os.urandom), pan) == pin
    assert decode_block(3, psec.pinblock.encode_pinblock_iso_3(pin, pan), pan) == pin
    aes = ClearAesKey(key)
    assert psec.pinblock.decipher_pinblock_iso_4(key, seal_pin(4, pin, pan, aes, os.urandom), pan) == pin
    assert open_pin(4, psec.pinblock.encipher_pinblock_iso_4(key, pin, pan), pan, aes) == pin
    assert encode_pan_field(pan) == psec.pinblock.encode_pan_field_iso_4(pan)


@given(number=NUMBERS, clear=st.binary(min_size=8, max_size=8) | st.binary(min_size=16, max_size=16), pan=PANS)
def test_any_block_is_a_whole_pin_or_an_error(number: int, clear: bytes, pan: str) -> None:
    try:
        pin = decode_block(number, clear, pan)
    except PinBlockError:
        return
    assert pin.isdigit() and 4 <= len(pin) <= 12 and len(clear) == FORMATS[number].block_bytes


@pytest.mark.parametrize("number", [1, 3, 4])
def test_the_same_pin_gives_another_block_each_time(number: int) -> None:
    blocks = {seal_pin(number, "1234", PAN, key_of(number), os.urandom) for _ in range(20)}
    assert len(blocks) == 20


@pytest.mark.parametrize("number", [0, 3, 4])
def test_the_pan_is_bound(number: int) -> None:
    # Zero bytes fill format 3 with A, which becomes a digit under the other PAN.
    block = seal_pin(number, "1234", PAN, key_of(number), bytes)
    with pytest.raises(PinBlockError):
        open_pin(number, block, OTHER_PAN, key_of(number))


@pytest.mark.parametrize("number", [0, 3, 4])
def test_another_key_does_not_open(number: int) -> None:
    block = seal_pin(number, "1234", PAN, key_of(number), lambda count: bytes(range(count)))
    with pytest.raises(PinBlockError):
        open_pin(number, block, PAN, OTHER_KEYS[FORMATS[number].algorithm])


@pytest.mark.parametrize("number", [0, 3, 4])
def test_no_flipped_bit_opens(number: int) -> None:
    block = seal_pin(number, "123456", PAN, key_of(number), lambda count: bytes(range(count)))
    for bit in range(8 * len(block)):
        flipped = (int.from_bytes(block, "big") ^ (1 << bit)).to_bytes(len(block), "big")
        with pytest.raises(PinBlockError):
            open_pin(number, flipped, PAN, key_of(number))


@pytest.mark.parametrize("number", sorted(FORMATS))
def test_truncated_blocks_are_refused_before_the_key_is_asked(number: int) -> None:
    class NoKey(ClearTdesKey):
        def decrypt(self, data: bytes) -> bytes:
            raise AssertionError("the key was asked")

        encrypt = decrypt

    length = FORMATS[number].block_bytes
    for wrong in (b"", bytes(length - 1), bytes(length + 1), bytes(24 - length)):
        for work in (decipher_block, encipher_block):
            with pytest.raises(PinBlockError, match=f"has {length} bytes"):
                work(number, wrong, PAN, NoKey(bytes(16)))
        with pytest.raises(PinBlockError, match=f"has {length} bytes"):
            decode_block(number, wrong, PAN)


@pytest.mark.parametrize(
    ("number", "field", "reason"),
    [
        (0, "341234FFFFFFFFFF", "format nibble is not 0"),
        (0, "041234FFFFFFFFFA", "padding is not F"),
        (1, "041234FFFFFFFFFF", "format nibble is not 1"),
        (1, "131234FFFFFFFFFF", "length"),
        (1, "1D12345678901234", "length"),
        (1, "14123AFFFFFFFFFF", "no digit"),
        (3, "041234FFFFFFFFFF", "format nibble is not 3"),
        (3, "331234FFFFFFFFFF", "length"),
        (3, "3D1234FFFFFFFFFF", "length"),
        (3, "34A234FFFFFFFFFF", "no digit"),
        (3, "3412349FFFFFFFFF", "padding"),
        (3, "341234FFFFFFFFF0", "padding"),
        (4, "341234AAAAAAAAAA", "format nibble is not 4"),
        (4, "431234AAAAAAAAAA", "length"),
        (4, "4D12345678901234", "length"),
        (4, "44F234AAAAAAAAAA", "no digit"),
        (4, "441234AAAAAAAAAF", "padding is not A"),
        (4, "441234BAAAAAAAAA", "padding is not A"),
    ],
)
def test_broken_fields(number: int, field: str, reason: str) -> None:
    if number == 4:
        clear = bytes.fromhex(field) + bytes(8)
    else:
        account = int(PAN[-13:-1], 16) if FORMATS[number].binds_pan else 0
        clear = (int(field, 16) ^ account).to_bytes(8, "big")
    with pytest.raises(PinBlockError, match=reason) as caught:
        decode_block(number, clear, PAN)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("number", sorted(FORMATS))
@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "١٢٣٤", "12 4"])
def test_pins_that_are_none(number: int, pin: str) -> None:
    with pytest.raises(PinBlockError, match="a PIN has 4 to 12 digits"):
        encode_block(number, pin, PAN, os.urandom)


@pytest.mark.parametrize("number", [0, 3, 4])
@pytest.mark.parametrize("pan", ["", "42424242424", "4" * 20, "42424242424242x2", "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢"])
def test_pans_that_are_none(number: int, pan: str) -> None:
    with pytest.raises(PinBlockError, match="a PAN has 12 to 19 digits"):
        seal_pin(number, "1234", pan, key_of(number), os.urandom)
    with pytest.raises(PinBlockError, match="a PAN has 12 to 19 digits"):
        open_pin(number, bytes(FORMATS[number].block_bytes), pan, key_of(number))


@pytest.mark.parametrize("number", [-1, 2, 5, 34])
def test_there_are_no_other_formats(number: int) -> None:
    with pytest.raises(ValueError, match="none of 0, 1, 3 and 4"):
        encode_block(number, "1234", PAN, os.urandom)
    with pytest.raises(ValueError, match="none of 0, 1, 3 and 4"):
        open_pin(number, bytes(8), PAN, KEYS["T"])
