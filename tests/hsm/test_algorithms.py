"""PIN blocks, MACs, triple DES and check values against published vectors, and against psec as an oracle."""

from __future__ import annotations

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.mac import generate_mac, verify_mac
from hsm.algorithms.pinblock import decode_pin_block, decrypt_pin_block, encode_pin_block, encrypt_pin_block
from hsm.errors import PinBlockError

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]

PINS = st.text("0123456789", min_size=4, max_size=12)
PANS = st.text("0123456789", min_size=13, max_size=19)
KEYS = st.binary(min_size=16, max_size=16) | st.binary(min_size=24, max_size=24)


def test_format_0_vector() -> None:
    # Source: EFTlab, "Complete list of PIN blocks", ISO-0, the worked example of ISO 9564-1 format 0.
    assert encode_pin_block("1234", "43219876543210987").hex().upper() == "0412AC89ABCDEF67"


def test_tdes_vector() -> None:
    # Source: NIST SP 800-67 rev. 1, appendix B.1.
    key = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")
    assert ClearTdesKey(key).encrypt(b"The qufck brown fox jump").hex().upper() == (
        "A826FD8CE53B855FCCE21C8112256FE668D5C05DD9B6B900"
    )


def test_check_values() -> None:
    # Source: the test key of the payShield and Atalla manuals; psec for the second opinion.
    key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    assert clear_check_value("T", key) == "08D7B4" == psec.des.generate_kcv(key, 3).hex().upper()
    # Source: RFC 4493, section 4: key and K1; the CMAC of one whole zero block is K1 under the key.
    aes, k1 = "2b7e151628aed2a6abf7158809cf4f3c", "fbeed618357133667c85e08f7236a8de"
    under_key = psec.aes.encrypt_aes_ecb(bytes.fromhex(aes), bytes.fromhex(k1))
    assert clear_check_value("A", bytes.fromhex(aes)) == under_key[:3].hex().upper()


@pytest.mark.parametrize(
    ("length", "mac"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_vectors(length: int, mac: str) -> None:
    # Source: RFC 4493, section 4, examples 1–4.
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    message = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )[:length]
    assert generate_mac(key, message, 16).hex() == mac
    assert generate_mac(key, message).hex() == mac[:16]


@given(key=st.binary(min_size=16, max_size=16), data=st.binary(max_size=300))
def test_mac_verifies_from_4_bytes_and_only_unchanged(key: bytes, data: bytes) -> None:
    mac = generate_mac(key, data)
    assert all(verify_mac(key, data, mac[:length]) for length in range(4, 9))
    assert not verify_mac(key, data, mac[:3])
    assert not verify_mac(key, data, b"")
    assert not verify_mac(key, data, mac + b"\0")
    assert not verify_mac(key, data, bytes([mac[0] ^ 1]) + mac[1:])
    assert not verify_mac(key, data + b"\0", mac)


@given(pin=PINS, pan=PANS)
def test_pin_block_is_that_of_psec(pin: str, pan: str) -> None:
    block = encode_pin_block(pin, pan)
    assert block == psec.pinblock.encode_pinblock_iso_0(pin, pan)
    assert decode_pin_block(block, pan) == pin == psec.pinblock.decode_pinblock_iso_0(block, pan)


@given(pin=PINS, pan=PANS, key=KEYS)
def test_encrypted_pin_block_round_trip(pin: str, pan: str, key: bytes) -> None:
    block = encrypt_pin_block(pin, pan, key)
    assert decrypt_pin_block(block, pan, key) == pin
    assert block == psec.des.encrypt_tdes_ecb(key, encode_pin_block(pin, pan))
    assert ClearTdesKey(key).decrypt(block) == encode_pin_block(pin, pan)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("141234FFFFFFFFFF", "format nibble"),
        ("341234FFFFFFFFFF", "format nibble"),
        ("031234FFFFFFFFFF", "length"),
        ("0D1234FFFFFFFFFF", "length"),
        ("041A34FFFFFFFFFF", "no digit"),
        ("041234FFFFFFFFF0", "padding"),
        ("0412340FFFFFFFFF", "padding"),
    ],
)
def test_broken_pin_blocks(field: str, reason: str) -> None:
    pan = "4242424242424242"
    account = int("0000" + pan[3:15], 16)
    block = (int(field, 16) ^ account).to_bytes(8, "big")
    with pytest.raises(PinBlockError, match=reason) as caught:
        decode_pin_block(block, pan)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("pin", ["123", "1234567890123", "12a4", "", "١٢٣٤"])
def test_pins_that_are_none(pin: str) -> None:
    with pytest.raises(PinBlockError):
        encode_pin_block(pin, "4242424242424242")


@pytest.mark.parametrize("pan", ["", "42424242424", "4" * 20, "42424242424242x2"])
def test_pans_that_are_none(pan: str) -> None:
    with pytest.raises(PinBlockError):
        encode_pin_block("1234", pan)


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(PinBlockError):
        decode_pin_block(bytes(7), "4242424242424242")
    with pytest.raises(PinBlockError):
        decrypt_pin_block(bytes(9), "4242424242424242", bytes(24))
    with pytest.raises(ValueError, match="16 or 24"):
        encrypt_pin_block("1234", "4242424242424242", bytes(8))
