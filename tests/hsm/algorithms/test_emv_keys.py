"""EMV key derivation against published keys, and against pyemv as an independent oracle."""

from __future__ import annotations

import hashlib

import pyemv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.emv_keys import card_key, card_key_data, card_key_tail, masked_card_key, session_key
from hsm.algorithms.primitives import TdesKey

# pyemv calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

IMK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
DOUBLE = st.binary(min_size=16, max_size=16)
PANS = st.text("0123456789", min_size=12, max_size=19)
PSNS = st.text("0123456789", min_size=2, max_size=2)
BLOCKS = bytes(range(16))


def is_key(key: TdesKey, value: bytes) -> bool:
    """Whether both encrypt alike, whole and in halves: parity bits, which DES ignores, may differ."""
    known = ClearTdesKey(value)
    return (key.encrypt(BLOCKS), key.single.encrypt(BLOCKS)) == (known.encrypt(BLOCKS), known.single.encrypt(BLOCKS))


@pytest.mark.parametrize(
    ("imk", "pan", "psn", "option", "key"),
    [
        # Source: the public unit tests of an EMV card personalisation tool (key_management_test.py).
        ("01234567899876543210012345678998", "5413123456784808", "00", "A", "462EC416E0E83C042CD1B10731AB4736"),
        ("01017391010101101320010101010101", "4012340000000016", "00", "A", "9991C31043BFD9858016396CF24F0D6F"),
        # Source: pyemv's documentation (keys checked there against an HSM).
        ("0123456789ABCDEFFEDCBA9876543210", "99012345678901234", "45", "A", "67F8292358083E5EA7AB7FDA58D53B6B"),
        ("0123456789ABCDEFFEDCBA9876543210", "99012345678901234", "45", "B", "985EC4FD3EDF6162E31AF1C7D0543416"),
        ("0123456789ABCDEFFEDCBA9876543210", "12345678901234567", "01", "A", "73AD54688CEF2934B0979857E3C719F1"),
        ("0123456789ABCDEFFEDCBA9876543210", "12345678901234567", "01", "B", "AD406D7F6D7570916D75E5DCAB8CF737"),
    ],
)
def test_card_key_vectors(imk: str, pan: str, psn: str, option: str, key: str) -> None:
    with card_key(ClearTdesKey(bytes.fromhex(imk)), pan, psn, option) as derived:
        assert is_key(derived, bytes.fromhex(key))


def test_session_key_vectors() -> None:
    # Source: pyemv's documentation.
    for master, diversifier, key in (
        (IMK.hex(), "001C000000000000", "E9FB384AF807B940FEDCEA613461B0C4"),
        ("67F8292358083E5EA7AB7FDA58D53B6B", "1234567890123456", "29B33180E567CE38EA4CBC9D753B0E61"),
    ):
        with session_key(ClearTdesKey(bytes.fromhex(master)), bytes.fromhex(diversifier)) as derived:
            assert is_key(derived, bytes.fromhex(key))


@given(imk=DOUBLE, pan=PANS, psn=PSNS)
@example(imk=IMK, pan="4242424242424242", psn="00")
@example(imk=IMK, pan="1234567890123456789", psn="99")
def test_card_keys_are_those_of_pyemv(imk: bytes, pan: str, psn: str) -> None:
    for option, oracle in (("A", pyemv.kd.derive_icc_mk_a), ("B", pyemv.kd.derive_icc_mk_b)):
        expected = oracle(imk, pan, psn)
        with card_key(ClearTdesKey(imk), pan, psn, option) as derived:
            assert is_key(derived, expected)
        assert card_key_tail(ClearTdesKey(imk), pan, psn, option) == expected[4:8]


@given(key=DOUBLE, diversifier=st.binary(min_size=8, max_size=8))
def test_session_keys_are_those_of_pyemv(key: bytes, diversifier: bytes) -> None:
    with session_key(ClearTdesKey(key), diversifier) as derived:
        assert is_key(derived, pyemv.kd.derive_common_sk(key, diversifier))


@given(imk=DOUBLE, pan=PANS, psn=PSNS, atc=st.binary(min_size=2, max_size=2))
def test_masked_keys_are_those_of_pyemv(imk: bytes, pan: str, psn: str, atc: bytes) -> None:
    with masked_card_key(ClearTdesKey(imk), pan, psn, "A", atc) as derived:
        assert is_key(derived, pyemv.kd.derive_visa_sm_sk(pyemv.kd.derive_icc_mk_a(imk, pan, psn), atc))


def test_option_b_takes_letters_where_digits_run_out() -> None:
    # About one number in a thousand has a SHA-1 with fewer than 16 decimal digits among its 40.
    pans = [str(number) for number in range(10**16, 10**16 + 3000)]
    short = [pan for pan in pans if sum(nibble.isdigit() for nibble in sha1(f"0{pan}00")) < 16]
    assert short
    for pan in short:
        with card_key(ClearTdesKey(IMK), pan, "00", "B") as derived:
            assert is_key(derived, pyemv.kd.derive_icc_mk_b(IMK, pan, "00"))


def sha1(digits: str) -> str:
    return hashlib.sha1(bytes.fromhex(digits)).hexdigest()


def test_option_b_is_option_a_up_to_16_digits() -> None:
    for length in range(12, 17):
        assert card_key_data("4" * length, "01", "B") == card_key_data("4" * length, "01", "A")
    assert card_key_data("4" * 17, "01", "B") != card_key_data("4" * 17, "01", "A")


def test_the_halves_complement_each_other() -> None:
    data = card_key_data("424242424242", "07")
    assert data.hex() == "0042424242424207" + "ffbdbdbdbdbdbdf8"


@pytest.mark.parametrize(
    ("pan", "psn", "option", "reason"),
    [
        ("4" * 11, "00", "A", "12 to 19"),
        ("4" * 20, "00", "A", "12 to 19"),
        ("42424242424242a2", "00", "B", "12 to 19"),
        ("4242424242424242", "0", "A", "2 digits"),
        ("4242424242424242", "000", "A", "2 digits"),
        ("4242424242424242", "0x", "A", "2 digits"),
        ("4242424242424242", "00", "C", "A and B"),
        ("4242424242424242", "00", "", "A and B"),
    ],
)
def test_fields_of_another_shape(pan: str, psn: str, option: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught, card_key(ClearTdesKey(IMK), pan, psn, option):
        pass
    assert pan not in str(caught.value)


def test_diversifiers_and_counters_of_another_length() -> None:
    for length in (0, 2, 7, 9):
        with pytest.raises(ValueError, match="8 bytes"), session_key(ClearTdesKey(IMK), bytes(length)):
            pass
    for length in (0, 1, 3):
        masked = masked_card_key(ClearTdesKey(IMK), "4242424242424242", "00", "A", bytes(length))
        with pytest.raises(ValueError, match="2 bytes"), masked:
            pass
