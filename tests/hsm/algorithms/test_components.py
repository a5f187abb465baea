"""Components, parity, weak keys and check values: published values, properties, refusals."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

import psec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hsm.algorithms.check_value import check_value, check_value_matches, clear_check_value, clear_key
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.components import WEAK_DES_KEYS, check_key, combine_components, odd_parity, split_key
from hsm.errors import KeyValueError

KEYS = st.one_of(*(st.binary(min_size=length, max_size=length) for length in (16, 24, 32)))
# Source: the double-length test key of the payShield manuals; the check values of openemv/tr31's tests, which state
# TR-31:2018 A.7.2.1 and A.7.4 for their keys.
PAYSHIELD_KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
GOOD = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")


@pytest.mark.parametrize(
    ("algorithm", "key", "expected"),
    [
        ("T", "0123456789ABCDEFFEDCBA9876543210", "08D7B4"),
        ("T", "F039121BEC83D26B169BDCD5B22AAF8F", "CB9DEA"),
        ("T", "3F419E1CB7079442AA37474C2EFBF8B8", "57C409"),
        ("A", "3F419E1CB7079442AA37474C2EFBF8B8", "08793E"),
    ],
)
def test_published_check_values(algorithm: str, key: str, expected: str) -> None:
    assert clear_check_value(algorithm, bytes.fromhex(key)) == expected


def test_the_check_value_of_an_hmac_key_is_its_hmac_of_a_zero_block() -> None:
    key = bytes(range(32))
    assert clear_check_value("H", key) == hmac.digest(key, bytes(16), sha256)[:3].hex().upper()


@pytest.mark.parametrize(("algorithm", "length"), [("D", 8), ("", 16), ("A", 15), ("T", 7), ("H", 65)])
def test_keys_without_check_value(algorithm: str, length: int) -> None:
    with pytest.raises(ValueError):
        clear_check_value(algorithm, bytes(length))
    with pytest.raises(ValueError):
        check_value("D", ClearTdesKey(GOOD))


@given(KEYS)
def test_check_values_by_both_methods_of_x9_24(key: bytes) -> None:
    tdes, aes = ClearTdesKey(key[:16]), ClearAesKey(key)
    legacy, cmac = tdes.encrypt(bytes(8)).hex(), aes.cmac(bytes(16)).hex()
    assert check_value_matches("00", "T", tdes, legacy[:6]) and check_value_matches("00", "T", tdes, legacy[:4])
    assert check_value_matches("01", "A", aes, cmac[:10])
    wrong = f"{int(cmac[:6], 16) ^ 1:06x}"
    assert not check_value_matches("01", "A", aes, wrong)
    for method, algorithm, text in (("02", "T", legacy[:6]), ("00", "H", "0000"), ("00", "T", legacy[:8])):
        with pytest.raises(ValueError):
            check_value_matches(method, algorithm, tdes, text)


@given(KEYS, st.sampled_from([2, 3]))
def test_components_make_up_the_key_and_one_less_does_not(key: bytes, count: int) -> None:
    assume(any(key))
    components = split_key(key, count, secrets.token_bytes)
    assert len(components) == count and {len(component) for component in components} == {len(key)}
    assert combine_components(components) == key
    assert combine_components(components[::-1]) == key
    if count == 3:
        assert combine_components(components[:2]) != key


@given(KEYS)
def test_each_set_of_components_is_another(key: bytes) -> None:
    first, second = (split_key(key, 2, secrets.token_bytes) for _ in range(2))
    assert set(first).isdisjoint(second)


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=3, unique=True))
def test_psec_combines_alike(components: list[bytes]) -> None:
    assume(all(any(component) for component in components))
    expected = components[0]
    for component in components[1:]:
        expected = psec.tools.xor(expected, component)
    assert combine_components(components) == expected


A, B = bytes(range(16)), bytes(range(16, 32))


@pytest.mark.parametrize(
    ("components", "reason"),
    [
        ((), "2 or 3"),
        ((A,), "2 or 3"),
        ((A, B, A[::-1], B[::-1]), "2 or 3"),
        ((A, B[:8]), "differ in length"),
        ((A, bytes(16)), "all zeros"),
        ((A, A), "two components are equal"),
        ((A, B, A), "two components are equal"),
    ],
)
def test_components_that_make_no_key(components: tuple[bytes, ...], reason: str) -> None:
    with pytest.raises(KeyValueError, match=reason):
        combine_components(components)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_key_has_two_or_three_custodians(count: int) -> None:
    with pytest.raises(KeyValueError, match="2 or 3"):
        split_key(A, count, secrets.token_bytes)


@given(st.binary(min_size=1, max_size=24))
def test_odd_parity(key: bytes) -> None:
    odd = odd_parity(key)
    assert all(byte.bit_count() % 2 == 1 for byte in odd)
    assert [byte >> 1 for byte in odd] == [byte >> 1 for byte in key]
    assert odd == psec.des.adjust_key_parity(key)


def test_wrong_parity_is_an_error_unless_told_otherwise() -> None:
    for position in range(len(GOOD)):
        wrong = GOOD[:position] + bytes([GOOD[position] ^ 1]) + GOOD[position + 1 :]
        with pytest.raises(KeyValueError, match="parity") as caught:
            check_key("T", wrong)
        assert wrong.hex() not in str(caught.value).lower()
        assert check_key("T", wrong, adjust_parity=True) == GOOD
    assert check_key("T", GOOD) == GOOD
    # Only DES has parity.
    assert check_key("A", bytes(range(32))) == bytes(range(32))
    assert check_key("H", bytes(range(20))) == bytes(range(20))


K1, K2, K3 = GOOD[:8], GOOD[8:16], GOOD[16:]


@pytest.mark.parametrize(
    ("algorithm", "key", "reason"),
    [
        ("T", bytes(16), "all zeros"),
        ("A", bytes(32), "all zeros"),
        ("H", bytes(32), "all zeros"),
        ("T", K1 + K1, "equal"),
        ("T", K1 + K1 + K3, "equal"),
        ("T", K1 + K2 + K2, "equal"),
        ("T", K1 + K2 + K1, "equal"),
        ("T", K1 + bytes([K1[0] ^ 1]) + K1[1:], "equal"),
        ("T", K1, "8 bytes"),
        ("T", GOOD + K1, "32 bytes"),
        ("A", GOOD[:20], "20 bytes"),
        ("H", GOOD[:8], "8 bytes"),
        ("D", K1, "8 bytes"),
        ("", GOOD, "24 bytes"),
    ],
)
@pytest.mark.parametrize("adjust", [False, True])
def test_keys_that_may_not_enter(algorithm: str, key: bytes, reason: str, adjust: bool) -> None:
    with pytest.raises(KeyValueError, match=reason):
        check_key(algorithm, key, adjust_parity=adjust)


@pytest.mark.parametrize("weak", sorted(WEAK_DES_KEYS), ids=bytes.hex)
def test_weak_and_semi_weak_parts(weak: bytes) -> None:
    for key in (weak + K2, K1 + weak, K1 + K2 + weak):
        with pytest.raises(KeyValueError, match="weak"):
            check_key("T", key)
    # With the parity bits stripped it is as weak.
    with pytest.raises(KeyValueError, match="weak"):
        check_key("T", bytes(byte & 0xFE for byte in weak) + K2, adjust_parity=True)


def test_the_list_of_weak_keys_is_right() -> None:
    # Their structure: each is undone by itself or by its partner.
    assert len(WEAK_DES_KEYS) == 16
    block = bytes(range(8))
    singles = {weak: ClearTdesKey(weak) for weak in WEAK_DES_KEYS}
    for key in singles.values():
        assert any(other.encrypt(key.encrypt(block)) == block for other in singles.values())


def test_clear_keys_by_algorithm() -> None:
    assert clear_key("T", PAYSHIELD_KEY).__class__ is ClearTdesKey
    assert clear_key("A", PAYSHIELD_KEY).__class__ is ClearAesKey
    with pytest.raises(ValueError):
        clear_key("R", PAYSHIELD_KEY)
