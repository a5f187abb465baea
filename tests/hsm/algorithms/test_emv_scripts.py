"""Secure messaging against published values, and against pyemv as an independent oracle."""

from __future__ import annotations

import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.emv_scripts import encrypt_script_data, iso2_pin_block, script_mac, visa_pin_block

# pyemv calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

VALUE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
KEY = ClearTdesKey(VALUE)
PINS = st.text("0123456789", min_size=4, max_size=12)
METHODS = {
    "visa": pyemv.sm.EncryptionType.VISA,
    "mchip": pyemv.sm.EncryptionType.MASTERCARD,
    "emv": pyemv.sm.EncryptionType.EMV,
}


def test_mac_vectors() -> None:
    # Source: pyemv's documentation of sm.generate_command_mac.
    assert script_mac(KEY, bytes.fromhex("8424000008")).hex().upper() == "0BFFF5DF3FAA24E1"
    message = bytes.fromhex("8424000008" + "FFFF" + "1234567890123456")
    assert script_mac(KEY, message).hex().upper() == "E07B8DF1B4184282"
    assert script_mac(KEY, message, 4).hex().upper() == "E07B8DF1"


def test_encryption_vectors() -> None:
    # Source: pyemv's documentation of sm.encrypt_command_data and of the module.
    assert encrypt_script_data(KEY, bytes.fromhex("241234FFFFFFFFFF"), "mchip").hex().upper() == "9859240AE52820C3"
    emv = encrypt_script_data(KEY, iso2_pin_block("9999"), "emv")
    assert emv.hex().upper() == "5A862D1381CCB94822CFDD706A376178"


def test_pin_block_vectors() -> None:
    # Source: ISO 9564-1:2017, 9.4.2 (layout); pyemv's documentation of its two PIN blocks.
    assert iso2_pin_block("1234").hex().upper() == "241234FFFFFFFFFF"
    assert iso2_pin_block("123456789012").hex().upper() == "2C123456789012FF"
    assert visa_pin_block(VALUE[4:8], "1234").hex().upper() == "041234FF76543210"


@given(message=st.binary(min_size=5, max_size=200), length=st.integers(4, 8))
def test_macs_are_those_of_pyemv(message: bytes, length: int) -> None:
    assert script_mac(KEY, message, length) == pyemv.sm.generate_command_mac(VALUE, message, length)


@given(data=st.binary(min_size=1, max_size=240), method=st.sampled_from(sorted(METHODS)))
def test_encryption_is_that_of_pyemv(data: bytes, method: str) -> None:
    assert encrypt_script_data(KEY, data, method) == pyemv.sm.encrypt_command_data(VALUE, data, METHODS[method])


@given(pin=PINS, current=PINS)
def test_pin_blocks_are_those_of_pyemv(pin: str, current: str) -> None:
    assert iso2_pin_block(pin) == pyemv.sm.format_iso9564_2_pin_block(pin)
    assert visa_pin_block(VALUE[4:8], pin) == pyemv.sm.format_vis_pin_block(VALUE, pin)
    assert visa_pin_block(VALUE[4:8], pin, current) == pyemv.sm.format_vis_pin_block(VALUE, pin, current)


@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12x4", "١٢٣٤"])
def test_pins_that_are_none(pin: str) -> None:
    with pytest.raises(ValueError, match="4 to 12 digits"):
        iso2_pin_block(pin)
    with pytest.raises(ValueError, match="4 to 12 digits"):
        visa_pin_block(bytes(4), pin)
    if pin:
        with pytest.raises(ValueError, match="4 to 12 digits"):
            visa_pin_block(bytes(4), "1234", pin)


def test_lengths_and_methods_that_are_none() -> None:
    for length in (0, 3, 9):
        with pytest.raises(ValueError, match="4 to 8"):
            script_mac(KEY, bytes(5), length)
    for length in (0, 241):
        for method in METHODS:
            with pytest.raises(ValueError, match="1 to 240"):
                encrypt_script_data(KEY, bytes(length), method)
    with pytest.raises(ValueError, match="visa, mchip and emv"):
        encrypt_script_data(KEY, b"x", "none")
    for length in (0, 3, 8):
        with pytest.raises(ValueError, match="four bytes"):
            visa_pin_block(bytes(length), "1234")
