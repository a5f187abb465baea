"""MACs against the vectors of their standards, and against psec and pyemv as independent oracles."""

from __future__ import annotations

import hashlib
import hmac

import psec
import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearAesKey, ClearHmacKey, ClearTdesKey
from hsm.algorithms.mac import (
    ALGORITHMS,
    calculate_mac,
    cbc_mac,
    generate_mac,
    mac_matches,
    pad,
    retail_mac,
    verify_mac,
)
from hsm.keys.attributes import ROLES
from hsm.keys.permissions import PERMISSIONS, Operation

# psec and pyemv call TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
WHOLE_BLOCKS, PART_BLOCK = b"Now is the time for all ", b"Now is the time for it"
DATA = st.binary(max_size=100)
DOUBLE = st.binary(min_size=16, max_size=16)
DATA_M6 = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")


@pytest.mark.parametrize(
    ("data", "padding", "mac"),
    [
        (WHOLE_BLOCKS, 1, "70A30640CC76DD8B"),
        (WHOLE_BLOCKS, 2, "10E1F0F1"),
        (WHOLE_BLOCKS, 3, "2C58FB8F"),
        (PART_BLOCK, 1, "E45B3AD2"),
        (PART_BLOCK, 2, "A924C721"),
        (PART_BLOCK, 3, "B1ECD6FC"),
    ],
)
def test_algorithm_1_vectors(data: bytes, padding: int, mac: str) -> None:
    # Source: ISO/IEC 9797-1:1999, B.2 (DES, MAC algorithm 1, 32 bits); the whole first one: ANSI X9.9.
    assert cbc_mac(ClearTdesKey(KEY[:8]), data, padding).hex().upper().startswith(mac)
    # With three equal keys triple DES is DES: the vector holds for what the table gives.
    assert calculate_mac("M1", ClearTdesKey(KEY[:8] * 3), data, padding).hex().upper().startswith(mac)


@pytest.mark.parametrize(
    ("data", "padding", "mac"),
    [
        (WHOLE_BLOCKS, 1, "A1C72E74EA3FA9B6"),
        (WHOLE_BLOCKS, 2, "E9086230CA3BE796"),
        (WHOLE_BLOCKS, 3, "AB059463D7A7D170"),
        (PART_BLOCK, 1, "2E2B1428CC78254F"),
        (PART_BLOCK, 2, "5A692CE64F404145"),
        (PART_BLOCK, 3, "C59F7EED328DDD69"),
    ],
)
def test_algorithm_3_vectors(data: bytes, padding: int, mac: str) -> None:
    # Source: ISO/IEC 9797-1:2011, B.4 (DES, MAC algorithm 3); the first one is also that of ANSI X9.19.
    assert calculate_mac("M3", ClearTdesKey(KEY), data, padding).hex().upper() == mac
    assert retail_mac(ClearTdesKey(KEY + KEY[:8]), data, padding).hex().upper() == mac


@pytest.mark.parametrize(
    ("key", "data", "mac"),
    [
        # Source: NIST SP 800-38B, appendix D.4 (three-key TDEA) and D.5 (two-key TDEA).
        ("8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", "", "b7a688e122ffaf95"),
        ("8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", "6bc1bee22e409f96", "8e8f293136283797"),
        (
            "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5",
            "6bc1bee22e409f96e93d7e117393172aae2d8a57",
            "743ddbe0ce2dc2ed",
        ),
        (
            "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5",
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "33e6b1092400eae5",
        ),
        ("4cf15134a2850dd58a3d10ba80570d38", "", "bd2ebf9a3ba00361"),
        ("4cf15134a2850dd58a3d10ba80570d38", "6bc1bee22e409f96", "4ff2ab813c53ce83"),
    ],
)
def test_tdes_cmac_vectors(key: str, data: str, mac: str) -> None:
    assert calculate_mac("M6", ClearTdesKey(bytes.fromhex(key)), bytes.fromhex(data)).hex() == mac
    assert generate_mac(bytes.fromhex(key), bytes.fromhex(data), 8, "TDES-CMAC").hex() == mac


@pytest.mark.parametrize(
    ("key", "length", "mac"),
    [
        # Source: NIST SP 800-38B, appendix D.1–D.3.
        ("2b7e151628aed2a6abf7158809cf4f3c", 0, "bb1d6929e95937287fa37d129b756746"),
        ("2b7e151628aed2a6abf7158809cf4f3c", 16, "070a16b46b4d4144f79bdd9dd04a287c"),
        ("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 0, "d17ddf46adaacde531cac483de7a9367"),
        ("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 16, "9e99a7bf31e710900662f65e617c5184"),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 0, "028962f61b7bf89efc6b551f4667d983"),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 16, "28a7023f452e8f82bd4bf28d8c37c35c"),
    ],
)
def test_aes_cmac_vectors(key: str, length: int, mac: str) -> None:
    assert calculate_mac("M6", ClearAesKey(bytes.fromhex(key)), DATA_M6[:length]).hex() == mac
    assert generate_mac(bytes.fromhex(key), DATA_M6[:length], 16).hex() == mac


@pytest.mark.parametrize(
    ("key", "data", "mac"),
    [
        # Source: RFC 4231, test cases 1, 3 and 4 (test case 2 has a key of 4 bytes, which is refused).
        ("0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        ("aa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (
            "0102030405060708090a0b0c0d0e0f10111213141516171819",
            b"\xcd" * 50,
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
    ],
)
def test_hmac_vectors(key: str, data: bytes, mac: str) -> None:
    assert calculate_mac("M7", ClearHmacKey(bytes.fromhex(key)), data).hex() == mac
    assert generate_mac(bytes.fromhex(key), data, 8, "HMAC-SHA-256").hex() == mac[:16]


@given(key=DOUBLE, data=DATA, padding=st.integers(1, 3))
def test_algorithm_3_is_that_of_psec(key: bytes, data: bytes, padding: int) -> None:
    assert retail_mac(ClearTdesKey(key), data, padding) == psec.mac.generate_retail_mac(key[:8], key[8:], data, padding)


@given(key=DOUBLE, data=DATA, padding=st.integers(1, 2))
def test_algorithm_3_is_that_of_pyemv(key: bytes, data: bytes, padding: int) -> None:
    assert retail_mac(ClearTdesKey(key), data, padding) == pyemv.mac.mac_iso9797_3(key[:8], key[8:], data, padding)


@given(key=DOUBLE | st.binary(min_size=24, max_size=24), data=DATA, padding=st.integers(1, 3))
def test_algorithm_1_is_that_of_psec(key: bytes, data: bytes, padding: int) -> None:
    assert cbc_mac(ClearTdesKey(key), data, padding) == psec.mac.generate_cbc_mac(key, data, padding)


@given(data=DATA)
def test_paddings_are_those_of_psec(data: bytes) -> None:
    oracles = (psec.mac.pad_iso_1, psec.mac.pad_iso_2, psec.mac.pad_iso_3)
    assert [pad(data, method) for method in (1, 2, 3)] == [oracle(data, 8) for oracle in oracles]
    assert len(pad(data, 2, 16)) % 16 == 0


@given(key=DOUBLE, data=st.binary(max_size=40), algorithm=st.sampled_from(sorted(ALGORITHMS)), flip=st.integers(0, 63))
def test_every_algorithm_verifies_only_what_it_made(key: bytes, data: bytes, algorithm: str, flip: int) -> None:
    mac = generate_mac(key, data, algorithm=algorithm)
    assert len(mac) == 8
    assert all(verify_mac(key, data, mac[:length], algorithm) for length in range(4, 9))
    wrong = (int.from_bytes(mac, "big") ^ 1 << flip).to_bytes(8, "big")
    assert not verify_mac(key, data, wrong, algorithm)
    assert not verify_mac(key, data + b"1", mac, algorithm)
    for length in (0, 1, 2, 3):
        assert not verify_mac(key, data, mac[:length], algorithm)
    assert not verify_mac(key, data, mac + b"\0", algorithm)


def test_clear_algorithms_are_those_of_the_configuration() -> None:
    role = ROLES["mac"].algorithms
    assert {name: usage for name, (usage, _) in ALGORITHMS.items()} == {name: role[name].usage for name in role}
    assert generate_mac(KEY, b"x") == generate_mac(KEY, b"x", algorithm=next(iter(role)))


def test_every_mac_usage_is_calculated() -> None:
    keys = {"M1": ClearTdesKey(KEY), "M3": ClearTdesKey(KEY), "M6": ClearAesKey(KEY), "M7": ClearHmacKey(KEY)}
    assert set(keys) == PERMISSIONS[Operation.MAC_GENERATE].usages == PERMISSIONS[Operation.MAC_VERIFY].usages
    macs = {usage: calculate_mac(usage, key, b"x" * 20) for usage, key in keys.items()}
    assert {usage: len(mac) for usage, mac in macs.items()} == {"M1": 8, "M3": 8, "M6": 16, "M7": 32}
    assert len(set(macs.values())) == 4
    assert macs["M7"] == hmac.digest(KEY, b"x" * 20, hashlib.sha256)


@pytest.mark.parametrize("usage", ["P0", "M0", "K1", "", "m6"])
def test_other_usages_make_no_mac(usage: str) -> None:
    with pytest.raises(ValueError, match="no MAC usage"):
        calculate_mac(usage, ClearAesKey(KEY), b"x")


@pytest.mark.parametrize(
    ("usage", "key"),
    [
        ("M1", ClearAesKey(KEY)),
        ("M1", ClearHmacKey(KEY)),
        ("M3", ClearAesKey(KEY)),
        ("M6", ClearHmacKey(KEY)),
        ("M7", ClearAesKey(KEY)),
        ("M7", ClearTdesKey(KEY)),
    ],
)
def test_usage_and_kind_of_key_go_together(usage: str, key: ClearAesKey | ClearHmacKey | ClearTdesKey) -> None:
    with pytest.raises(ValueError, match="does not go with"):
        calculate_mac(usage, key, b"x")


@pytest.mark.parametrize(
    ("key", "length", "algorithm", "reason"),
    [
        (KEY, 8, "CRC32", "no MAC algorithm"),
        (KEY, 3, "AES-CMAC", "4 to 16"),
        (KEY, 17, "AES-CMAC", "4 to 16"),
        (KEY, 9, "ISO9797-1-ALG3", "4 to 8"),
        (KEY, 16, "TDES-CMAC", "4 to 8"),
        (KEY[:8], 8, "ISO9797-1-ALG1", "16 or 24"),
        (KEY[:8], 8, "ISO9797-1-ALG3", "16 or 24"),
        (KEY[:15], 8, "ISO9797-1-ALG3", "8, 16 or 24"),
        (KEY[:15], 8, "AES-CMAC", "key size"),
        (KEY[:15], 8, "HMAC-SHA-256", "16 to 64"),
    ],
)
def test_wrong_keys_and_lengths(key: bytes, length: int, algorithm: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        generate_mac(key, b"x", length, algorithm)


def test_there_are_three_paddings() -> None:
    for method in (0, 4):
        with pytest.raises(ValueError, match="1, 2 and 3"):
            calculate_mac("M1", ClearTdesKey(KEY), b"x", method)


def test_matching_takes_the_leftmost_bytes_only() -> None:
    mac = bytes(range(8))
    assert mac_matches(mac, mac) and mac_matches(mac, mac[:4])
    assert not mac_matches(mac, mac[1:]) and not mac_matches(mac, mac[:3]) and not mac_matches(mac[:4], mac)


def test_macs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(other) or one == other)
    mac = generate_mac(KEY, b"x")
    assert verify_mac(KEY, b"x", mac[:4]) and compared == [mac[:4]]
