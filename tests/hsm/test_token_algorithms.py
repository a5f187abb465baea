"""The algorithms over keys in a SoftHSM token give what they give over the same clear keys, and leave nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import AttributeSensitive

from hsm.algorithms.clear_keys import ClearAesKey, ClearHmacKey, ClearTdesKey
from hsm.algorithms.emv_cryptograms import application_cryptogram
from hsm.algorithms.emv_keys import card_key
from hsm.algorithms.emv_schemes import SCHEMES, ChipData, cryptogram_keys, script_key
from hsm.algorithms.mac import calculate_mac
from hsm.algorithms.primitives import Key
from hsm.config import HsmConfig
from hsm.errors import TokenError
from hsm.keys.token import Token
from hsm.keys.token_keys import TokenAesKey, TokenHmacKey, TokenTdesKey
from tests.hsm.card_keys import token_key

DOUBLE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TRIPLE = bytes(range(0x40, 0x58))
LONG = bytes(range(32))
CHIP = ChipData("4242424242424242", "00", b"\0\x1c", b"\1\2\3\4")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    token = Token(HsmConfig(), tmp_path_factory.mktemp("token") / "hsm")
    yield token.session
    token.close()


def secret(session: Any, kind: KeyType, value: bytes) -> Any:
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: kind,
        Attribute.VALUE: value,
        Attribute.TOKEN: False,
        Attribute.SIGN: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
    }
    if kind is KeyType.AES:
        template |= {Attribute.ENCRYPT: True, Attribute.DECRYPT: True}
    return session.create_object(template)


def objects(session: Any) -> int:
    return len(list(session.get_objects({Attribute.TOKEN: False})))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 200, 1000])
def test_macs(session: Any, length: int) -> None:
    data = bytes(range(256)) * 4
    pairs: list[tuple[str, Key, Key]] = [
        ("M1", token_key(session, TRIPLE), ClearTdesKey(TRIPLE)),
        ("M1", token_key(session, DOUBLE), ClearTdesKey(DOUBLE)),
        ("M3", token_key(session, DOUBLE), ClearTdesKey(DOUBLE)),
        ("M6", token_key(session, TRIPLE), ClearTdesKey(TRIPLE)),
        ("M6", TokenAesKey(secret(session, KeyType.AES, LONG), 256), ClearAesKey(LONG)),
        ("M7", TokenHmacKey(secret(session, KeyType.GENERIC_SECRET, LONG)), ClearHmacKey(LONG)),
    ]
    for usage, in_token, clear in pairs:
        for padding in (1, 2, 3):
            expected = calculate_mac(usage, clear, data[:length], padding)
            assert calculate_mac(usage, in_token, data[:length], padding) == expected


def test_a_retail_mac_wants_its_left_half(session: Any) -> None:
    whole = TokenTdesKey(token_key(session, DOUBLE)._handle)
    assert calculate_mac("M3", whole, b"12345678") == calculate_mac("M3", ClearTdesKey(DOUBLE), b"12345678")
    with pytest.raises(ValueError, match="in halves"):
        calculate_mac("M3", whole, b"123456789")


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_emv_keys_last_for_one_block(session: Any, name: str) -> None:
    scheme, imk = SCHEMES[name], token_key(session, DOUBLE)
    before = objects(session)
    with cryptogram_keys(scheme, imk, CHIP) as keys:
        assert objects(session) > before
        made = application_cryptogram(keys.cryptogram, b"data", scheme.padding)
    assert objects(session) == before
    with cryptogram_keys(scheme, ClearTdesKey(DOUBLE), CHIP) as keys:
        assert made == application_cryptogram(keys.cryptogram, b"data", scheme.padding)
    with (
        script_key(scheme, imk, CHIP, bytes(8)) as key,
        script_key(scheme, ClearTdesKey(DOUBLE), CHIP, bytes(8)) as ours,
    ):
        assert key.encrypt(bytes(8)) == ours.encrypt(bytes(8))
    with pytest.raises(ValueError, match="1 to 1024"), cryptogram_keys(scheme, imk, CHIP) as keys:
        application_cryptogram(keys.cryptogram, b"", scheme.padding)
    assert objects(session) == before


def test_derived_keys_cannot_be_read(session: Any) -> None:
    with card_key(token_key(session, DOUBLE), CHIP.pan, CHIP.psn) as key:
        assert isinstance(key, TokenTdesKey)
        for handle in (key._handle, key.single._handle):
            assert handle[Attribute.SENSITIVE] and not handle[Attribute.EXTRACTABLE]
            with pytest.raises(AttributeSensitive):
                handle[Attribute.VALUE]


def test_a_token_that_fails_is_no_refusal(session: Any) -> None:
    before = objects(session)
    imk = token_key(session, DOUBLE)
    imk._handle.destroy()
    imk._single._handle.destroy()
    for scheme in (SCHEMES["visa-cvn10"], SCHEMES["mchip"]):
        with pytest.raises(TokenError), cryptogram_keys(scheme, imk, CHIP):
            pass
        with pytest.raises(TokenError), script_key(scheme, imk, CHIP, bytes(8)):
            pass
    assert objects(session) == before
