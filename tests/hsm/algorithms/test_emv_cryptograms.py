"""Application cryptograms and ARPCs against published ones, and against pyemv as an independent oracle."""

from __future__ import annotations

import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.emv_cryptograms import application_cryptogram, arpc_method_1, arpc_method_2
from hsm.algorithms.emv_keys import card_key, session_key
from hsm.algorithms.emv_schemes import SCHEMES, ChipData, cryptogram_keys, scheme_named, script_key

# pyemv calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

IMK = ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
KEY = ClearTdesKey(bytes.fromhex("AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBB"))
DOUBLE = st.binary(min_size=16, max_size=16)
EIGHT = st.binary(min_size=8, max_size=8)


@pytest.mark.parametrize(
    ("scheme", "data", "cryptogram"),
    [
        # Source: AWS Payment Cryptography User Guide, "Verify auth request (ARQC) cryptogram": Visa CVN10, and Visa
        # CVN18 and CVN22 (key with check value 08D7B4, PAN sequence number 01, ATC 000B), without the padding.
        (
            "visa-cvn10",
            "00000000170000000000000008400080008000084016051700000000093800000B03011203",
            "D791093C8A921769",
        ),
        (
            "visa-cvn18",
            "00000000170000000000000008400080008000084016051700000000093800000B1F220103" + "00" * 27,
            "61EDCC708B4C97B4",
        ),
        (
            "visa-cvn22",
            "00000000170000000000000008400080008000084016051700000000093800000B1F220103" + "00" * 27,
            "61EDCC708B4C97B4",
        ),
    ],
)
def test_cryptograms_of_a_payment_hsm(scheme: str, data: str, cryptogram: str) -> None:
    chip = ChipData("9137631040001422", "01", bytes.fromhex("000B"))
    with cryptogram_keys(SCHEMES[scheme], IMK, chip) as keys:
        made = application_cryptogram(keys.cryptogram, bytes.fromhex(data), SCHEMES[scheme].padding)
    assert made.hex().upper() == cryptogram


@pytest.mark.parametrize(
    ("data", "padding", "cryptogram", "arpc"),
    [
        # Source: pyemv's tests of values checked against an HSM (test_ac: option A, common session key).
        ("0123456789ABCDEF0123456789ABCDEF", 2, "4B46013359B7A58B", "F8C9CECAABD55AD1"),
        ("0123456789ABCDEF0123456789ABCDEF", 1, "922F3E83125EB46B", "8AE6E836084B0E80"),
        ("0123456789ABCDEF0123456789ABCDEF01", 1, "2E141C6BC4A20DA8", "16A49AAB314B9262"),
    ],
)
def test_cryptogram_and_arpc_1_vectors(data: str, padding: int, cryptogram: str, arpc: str) -> None:
    with card_key(IMK, "9901234567890123", "45") as card, session_key(card, bytes.fromhex("1234567890123456")) as key:
        assert application_cryptogram(key, bytes.fromhex(data), padding).hex().upper() == cryptogram
        assert arpc_method_1(card, bytes.fromhex(cryptogram), bytes(2)).hex().upper() == arpc


def test_arpc_2_vectors() -> None:
    # Source: as above.
    cryptogram = bytes.fromhex("4B46013359B7A58B")
    with card_key(IMK, "9901234567890123", "45") as card, session_key(card, bytes.fromhex("1234567890123456")) as key:
        assert arpc_method_2(key, cryptogram, bytes(4)).hex().upper() == "7DFB1188"
        proprietary = bytes.fromhex("1234567890ABCDEF")
        assert arpc_method_2(key, cryptogram, bytes(4), proprietary).hex().upper() == "4962B76C"


@given(key=DOUBLE, data=st.binary(min_size=1, max_size=300), padding=st.sampled_from([1, 2]))
def test_cryptograms_are_those_of_pyemv(key: bytes, data: bytes, padding: int) -> None:
    expected = pyemv.ac.generate_ac(key, data, pyemv.ac.PaddingType(padding), 8)
    assert application_cryptogram(ClearTdesKey(key), data, padding) == expected


@given(
    key=DOUBLE,
    cryptogram=EIGHT,
    arc=st.binary(min_size=2, max_size=2),
    csu=st.binary(min_size=4, max_size=4),
    proprietary=st.binary(max_size=8),
)
def test_arpcs_are_those_of_pyemv(key: bytes, cryptogram: bytes, arc: bytes, csu: bytes, proprietary: bytes) -> None:
    ours = ClearTdesKey(key)
    assert arpc_method_1(ours, cryptogram, arc) == pyemv.ac.generate_arpc_1(key, cryptogram, arc)
    expected = pyemv.ac.generate_arpc_2(key, cryptogram, csu, proprietary)
    assert arpc_method_2(ours, cryptogram, csu, proprietary) == expected


def test_fields_of_another_length() -> None:
    for length in (0, 7, 9, 16):
        with pytest.raises(ValueError, match="8 bytes"):
            arpc_method_1(KEY, bytes(length), bytes(2))
        with pytest.raises(ValueError, match="8 bytes"):
            arpc_method_2(KEY, bytes(length), bytes(4))
    for length in (0, 1, 3):
        with pytest.raises(ValueError, match="2 bytes"):
            arpc_method_1(KEY, bytes(8), bytes(length))
    for length in (0, 3, 5):
        with pytest.raises(ValueError, match="4 bytes"):
            arpc_method_2(KEY, bytes(8), bytes(length))
    with pytest.raises(ValueError, match="0 to 8"):
        arpc_method_2(KEY, bytes(8), bytes(4), bytes(9))
    for length in (0, 1025):
        with pytest.raises(ValueError, match="1 to 1024"):
            application_cryptogram(KEY, bytes(length), 2)
    for padding in (0, 3):
        with pytest.raises(ValueError, match="1 and 2"):
            application_cryptogram(KEY, b"x", padding)


def test_schemes_say_only_what_there_is() -> None:
    for scheme in SCHEMES.values():
        assert scheme.option in ("A", "B") and scheme.padding in (1, 2)
        assert scheme.session in ("none", "csk", "mchip") and scheme.script_session in ("csk", "masked")
        assert set(scheme.arpc_methods) <= {1, 2} and scheme.arpc_methods
        assert scheme.arpc_key in ("session", "card")
        assert scheme.encryption in ("visa", "mchip", "emv")
        assert scheme.pin_block in ("visa", "iso2") and scheme.pin_block_with_current in ("", "visa")
    assert {"visa-cvn10", "visa-cvn18", "visa-cvn22", "mchip", "emv-csk"} <= set(SCHEMES)
    with pytest.raises(ValueError, match="the schemes are"):
        scheme_named("visa-cvn99")


@pytest.mark.parametrize(
    ("atc", "unpredictable", "reason"),
    [(b"", b"", "2 bytes"), (b"123", b"", "2 bytes"), (b"12", b"123", "4 bytes"), (b"12", b"12345", "4 bytes")],
)
def test_chip_data_of_another_shape(atc: bytes, unpredictable: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ChipData("4242424242424242", "00", atc, unpredictable)


def test_mchip_wants_the_unpredictable_number() -> None:
    chip = ChipData("4242424242424242", "00", b"12")
    with pytest.raises(ValueError, match="unpredictable"), cryptogram_keys(SCHEMES["mchip"], IMK, chip):
        pass
    assert "4242" not in repr(chip)


def test_script_keys_want_a_cryptogram() -> None:
    chip = ChipData("4242424242424242", "00", b"12")
    with pytest.raises(ValueError, match="8 bytes"), script_key(SCHEMES["mchip"], IMK, chip, b"1234567"):
        pass
