"""PVV and IBM 3624: worked examples, psec as an oracle, and which tables are refused."""

from __future__ import annotations

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.pin_verification import (
    DECIMALIZATION_TABLE,
    check_decimalization_table,
    default_validation_data,
    generate_offset,
    generate_pvv,
    natural_pin,
    verify_offset,
    verify_pvv,
)

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]

PAN = "4242424242424242"
KEY = ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
KEYS = st.binary(min_size=16, max_size=16)
PANS = st.text("0123456789", min_size=12, max_size=19)
PINS = st.text("0123456789", min_size=4, max_size=12)
TABLES = st.permutations("0123456789012345").map("".join)


@pytest.mark.parametrize(
    ("key", "pan", "pin", "index", "pvv"),
    [
        # Source: EFT Calculator's discussion 265067: TSP 9999789012311234 gives 517EF00CDEEDE498, TSP
        # 9978901234111234 gives 07AFC9BF82CC172E (which has its fourth digit after a letter).
        ("4CA2161637D0133E5E151AEA45DA2A12", "999978901230", "1234", 1, "5170"),
        ("4CA2161637D0133E5E151AEA45DA2A12", "997890123410", "1234", 1, "0798"),
        # Source: jPOS, JCESecurityModuleTest.testCalculatePVVImpl1: PVK 12345678 four times.
        ("12345678" * 4, "1234567890123", "1234", 0, "1226"),
        # Source: psec, tests/test_pin.py, test_generate_visa_pvv; the last two need letters for digits.
        ("0123456789ABCDEFFEDCBA9876543210", "1122334455667788", "4524", 1, "8523"),
        ("0123456789ABCDEFFEDCBA9876543210", "1122334455667788", "1912", 2, "3244"),
        ("0123456789ABCDEFFEDCBA9876543210", "1122334455667718", "0570", 1, "3144"),
        ("0123456789ABCDEFFEDCBA9876543210", "1122334455667708", "8299", 1, "4422"),
    ],
)
def test_pvv_examples(key: str, pan: str, pin: str, index: int, pvv: str) -> None:
    pvk = ClearTdesKey(bytes.fromhex(key))
    assert generate_pvv(pvk, pan, pin, index) == pvv
    assert verify_pvv(pvk, pan, pin, index, pvv)
    assert not verify_pvv(pvk, pan, pin, index, f"{(int(pvv) + 1) % 10000:04}")


class _Fixed(ClearTdesKey):
    """A key whose every block is the same."""

    def __init__(self, block: str) -> None:
        super().__init__(bytes(16))
        self._block = bytes.fromhex(block)

    def encrypt(self, data: bytes) -> bytes:
        return self._block


@pytest.mark.parametrize(
    ("block", "pvv"),
    [
        ("A1B2C3D4E5F60789", "1234"),
        ("ABCDEFABCDEF1234", "1234"),
        ("FEDCBA9FFFFFFFF8", "9854"),
        ("FFFFFFFFFFFFFFF0", "0555"),
        ("ABCDEFABCDEFABCD", "0123"),
    ],
)
def test_digits_come_first_then_letters_minus_ten(block: str, pvv: str) -> None:
    # Source: IBM CCA, "PVV generation algorithm", steps 2 and 3.
    assert generate_pvv(_Fixed(block), PAN, "1234", 1) == pvv


@given(key=KEYS, pan=PANS, pin=PINS, index=st.integers(0, 9))
def test_pvv_is_that_of_psec(key: bytes, pan: str, pin: str, index: int) -> None:
    pvk = ClearTdesKey(key)
    assert generate_pvv(pvk, pan, pin, index) == psec.pin.generate_visa_pvv(key, str(index), pin[:4], pan)


@pytest.mark.parametrize(
    ("key", "data", "natural"),
    [
        # Source: the worked examples of "IBM 3624 customer PIN, natural PIN, PIN offset" and of
        # gae.ucm.es/~padilla/extrawork/magexam1.html: 64DA85B3795AE4E4 and 9A466AD30DFE0381 under single DES keys.
        ("1313131313131313", "1234567890123456", "643085"),
        ("0123456789ABCDEF", "1234567890123445", "9046"),
    ],
)
def test_natural_pin_examples(key: str, data: str, natural: str) -> None:
    assert natural_pin(ClearTdesKey(bytes.fromhex(key)), data, len(natural)) == natural


def test_decimalization_example() -> None:
    # Source: IBM 4758 CCA Basic Services, release 2.54, appendix E, "IBM 3624 PIN-calculation method".
    assert natural_pin(_Fixed("E5C1BD67B66AE7C6"), "0" * 16, 6, "8351296477461538") == "391365"


def test_offset_examples() -> None:
    # Source: as in test_natural_pin_examples: offsets 2298 and 456789, PINs 1234 and 099764.
    first, second = ClearTdesKey(bytes.fromhex("0123456789ABCDEF")), ClearTdesKey(bytes.fromhex("13" * 8))
    assert generate_offset(first, "1234567890123445", "1234") == "2298"
    assert generate_offset(second, "1234567890123456", "099764") == "456789"
    assert verify_offset(second, "1234567890123456", "099764", "456789")
    assert not verify_offset(second, "1234567890123456", "099764", "456788")


@given(key=KEYS, pan=PANS, pin=PINS, table=TABLES)
def test_offset_is_that_of_psec(key: bytes, pan: str, pin: str, table: str) -> None:
    pvk, data, digits = ClearTdesKey(key), default_validation_data(pan), pan[-16:]
    arguments = (digits, 0, len(digits), "0")
    offset = generate_offset(pvk, data, pin, table)
    assert offset == psec.pin.generate_ibm3624_offset(key, table, pin, *arguments)
    assert psec.pin.generate_ibm3624_pin(key, table, offset, *arguments) == pin
    natural = natural_pin(pvk, data, len(pin), table)
    assert natural == psec.pin.generate_ibm3624_pin(key, table, "0" * len(pin), *arguments)
    assert verify_offset(pvk, data, pin, offset, table)


def test_references_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr("hmac.compare_digest", lambda left, right: compared.append((left, right)) or left == right)
    data = default_validation_data(PAN)
    pvv, offset = generate_pvv(KEY, PAN, "1234", 1), generate_offset(KEY, data, "1234")
    assert verify_pvv(KEY, PAN, "1234", 1, pvv) and verify_offset(KEY, data, "1234", offset)
    assert compared == [(pvv, pvv), (offset, offset)]


@given(pin=PINS, place=st.integers(0, 11), step=st.integers(1, 9))
def test_one_wrong_digit_does_not_verify(pin: str, place: int, step: int) -> None:
    data = default_validation_data(PAN)
    offset = generate_offset(KEY, data, pin)
    place %= len(pin)
    wrong = pin[:place] + str((int(pin[place]) + step) % 10) + pin[place + 1 :]
    assert not verify_offset(KEY, data, wrong, offset)


def test_a_pin_of_another_length_than_the_offset_does_not_verify() -> None:
    data = default_validation_data(PAN)
    offset = generate_offset(KEY, data, "123456")
    assert not verify_offset(KEY, data, "1234", offset)
    assert not verify_offset(KEY, data, "123456", offset[:4])


@pytest.mark.parametrize(
    ("pan", "data"),
    [
        ("4242424242424242", "4242424242424242"),
        ("400000000002", "4000000000020000"),
        ("1234567890123456789", "4567890123456789"),
    ],
)
def test_validation_data(pan: str, data: str) -> None:
    assert default_validation_data(pan) == data


def test_hexadecimal_validation_data_is_taken_in_either_case() -> None:
    assert natural_pin(KEY, "0123456789ABCDEF", 8) == natural_pin(KEY, "0123456789abcdef", 8)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("0000000000000000", "8 different"),
        ("0123456012345601", "8 different"),
        ("0123456700000123", "more than 4 times"),
        ("012345678901234", "16 digits"),
        ("01234567890123456", "16 digits"),
        ("012345678901234A", "16 digits"),
        ("٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥", "16 digits"),
        ("", "16 digits"),
    ],
)
def test_weak_and_broken_tables(table: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_decimalization_table(table)
    with pytest.raises(ValueError, match=reason):
        generate_offset(KEY, "0" * 16, "1234", table)
    with pytest.raises(ValueError, match=reason):
        verify_offset(KEY, "0" * 16, "1234", "0000", table)


@pytest.mark.parametrize("table", [DECIMALIZATION_TABLE, "0123456701234567", "0000111123456789"])
def test_tables_that_will_do(table: str) -> None:
    check_decimalization_table(table)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pan": "42424242424"}, "a PAN"),
        ({"pan": "4" * 20}, "a PAN"),
        ({"pan": "42424242424242x2"}, "a PAN"),
        ({"pin": "123"}, "a PIN"),
        ({"pin": "12a4"}, "a PIN"),
        ({"pin": "1234567890123"}, "a PIN"),
        ({"key_index": 10}, "index"),
        ({"key_index": -1}, "index"),
        ({"pvv": ""}, "a PVV"),
        ({"pvv": "123"}, "a PVV"),
        ({"pvv": "12345"}, "a PVV"),
        ({"pvv": "12a4"}, "a PVV"),
    ],
)
def test_broken_pvv_arguments(arguments: dict[str, object], reason: str) -> None:
    right: dict[str, object] = {"pan": PAN, "pin": "1234", "key_index": 1, "pvv": "0000"}
    with pytest.raises(ValueError, match=reason):
        verify_pvv(KEY, **(right | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize("data", ["", "0" * 15, "0" * 17, "0" * 15 + "g", " " * 16, "٠" * 16])
def test_broken_validation_data(data: str) -> None:
    with pytest.raises(ValueError, match="validation data"):
        natural_pin(KEY, data, 4)


@pytest.mark.parametrize("offset", ["", "123", "12x4", "1" * 13])
def test_broken_offsets(offset: str) -> None:
    with pytest.raises(ValueError, match="an offset has 4 to 12 digits"):
        verify_offset(KEY, "0" * 16, "1234", offset)


@pytest.mark.parametrize("length", [3, 13])
def test_broken_lengths(length: int) -> None:
    with pytest.raises(ValueError, match="4 to 12"):
        natural_pin(KEY, "0" * 16, length)
