"""Operations called directly give what python-pkcs11 gives, results and errors, and leave nothing behind."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import GCMParams, KeyType, Mechanism, MechanismFlag
from pkcs11.exceptions import DataLenRange, GeneralError, PKCS11Error

from hsm.config import HsmConfig
from hsm.keys import direct_calls
from hsm.keys.direct_calls import direct
from hsm.keys.token import Token

USES = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.SIGN


class Keys:
    """A key of each kind in a token."""

    def __init__(self, directory: Path) -> None:
        self.token = Token(HsmConfig(), directory)
        make = self.token.session.generate_key
        self.aes = make(KeyType.AES, 256, store=False, capabilities=USES)
        self.tdes = make(KeyType.DES3, None, store=False, capabilities=USES)
        self.hmac = make(KeyType.GENERIC_SECRET, 256, store=False, capabilities=MechanismFlag.SIGN)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    made = Keys(tmp_path_factory.mktemp("token"))
    yield made
    made.token.close()


def both(key: Any, name: str, data: bytes, mechanism: Mechanism, parameter: Any = None) -> tuple[Any, Any]:
    """Return results or types of error, direct and through python-pkcs11."""
    outcomes: list[Any] = []
    for operation in (direct(key, name), getattr(key, name)):
        try:
            outcomes.append(operation(data, mechanism=mechanism, mechanism_param=parameter))
        except PKCS11Error as error:
            outcomes.append(type(error))
    return outcomes[0], outcomes[1]


def test_the_library_is_called_directly(keys: Keys) -> None:
    assert direct(keys.aes, "encrypt") != keys.aes.encrypt
    assert direct(keys.aes, "encrypt").__qualname__.startswith("DirectCalls.operation")


@given(blocks=st.integers(1, 600), iv=st.binary(min_size=16, max_size=16))
def test_ciphers_are_the_same(keys: Keys, blocks: int, iv: bytes) -> None:
    data = iv * blocks
    for key, ecb, cbc, vector in (
        (keys.aes, Mechanism.AES_ECB, Mechanism.AES_CBC, iv),
        (keys.tdes, Mechanism.DES3_ECB, Mechanism.DES3_CBC, iv[:8]),
    ):
        for name in ("encrypt", "decrypt"):
            for mechanism, parameter in ((ecb, None), (cbc, vector)):
                made, expected = both(key, name, data, mechanism, parameter)
                assert made == expected and len(made) == len(data)


@given(data=st.binary(max_size=300))
def test_macs_are_the_same(keys: Keys, data: bytes) -> None:
    for key, mechanism in (
        (keys.aes, Mechanism.AES_CMAC),
        (keys.tdes, Mechanism.DES3_CMAC),
        (keys.hmac, Mechanism.SHA256_HMAC),
    ):
        made, expected = both(key, "sign", data, mechanism)
        assert made == expected and isinstance(made, bytes)


@given(
    clear=st.binary(min_size=1, max_size=100),
    nonce=st.binary(min_size=12, max_size=12),
    associated=st.binary(max_size=40),
)
def test_gcm_is_the_same(keys: Keys, clear: bytes, nonce: bytes, associated: bytes) -> None:
    parameter = GCMParams(nonce, associated, 128)
    made, expected = both(keys.aes, "encrypt", clear, Mechanism.AES_GCM, parameter)
    assert made == expected
    assert both(keys.aes, "decrypt", made, Mechanism.AES_GCM, parameter) == (clear, clear)


def test_a_frame_full_of_data(keys: Keys) -> None:
    made, expected = both(keys.aes, "encrypt", bytes(65_536), Mechanism.AES_ECB)
    assert made == expected


def test_errors_are_the_same_and_the_session_goes_on(keys: Keys) -> None:
    parameter = GCMParams(bytes(12), b"x", 128)
    sealed = keys.aes.encrypt(b"clear", mechanism=Mechanism.AES_GCM, mechanism_param=parameter)
    wrong = bytes([sealed[0] ^ 1]) + sealed[1:]
    for key, name, data, mechanism, param, error in (
        (keys.aes, "decrypt", wrong, Mechanism.AES_GCM, parameter, GeneralError),
        (keys.aes, "encrypt", b"short", Mechanism.AES_ECB, None, DataLenRange),
        (keys.tdes, "encrypt", bytes(16), Mechanism.AES_ECB, None, None),
        (keys.aes, "sign", bytes(16), Mechanism.SHA256_HMAC, None, None),
    ):
        direct_error, indirect_error = both(key, name, data, mechanism, param)
        assert direct_error is indirect_error and issubclass(direct_error, PKCS11Error)
        assert error is None or direct_error is error
        assert both(keys.aes, "decrypt", sealed, Mechanism.AES_GCM, parameter) == (b"clear", b"clear")


def test_nothing_of_a_result_stays_in_the_buffer(keys: Keys) -> None:
    calls = direct_calls._calls
    assert calls is not None
    clear = b"041234FFFFFFFFFF" * 4
    block = keys.tdes.encrypt(clear, mechanism=Mechanism.DES3_ECB)
    assert direct(keys.tdes, "decrypt")(block, mechanism=Mechanism.DES3_ECB) == clear
    assert not any(ctypes.string_at(ctypes.addressof(calls._buffer), len(calls._buffer)))


def test_without_a_function_list_python_pkcs11_does_it_all(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_calls, "_calls", None)
    direct_calls.use_library("libc.so.6")
    assert direct_calls._calls is None
    assert direct(keys.aes, "encrypt") == keys.aes.encrypt
