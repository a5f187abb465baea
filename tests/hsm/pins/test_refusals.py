"""Refusals of the PIN commands, over clear keys and over a token, and values that refusals do not reveal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.algorithms import dukpt_aes
from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.pinblock import seal_pin
from hsm.card_commands import (
    ChangePin,
    GeneratePinReference,
    Ibm3624,
    PinBlock,
    PinMethod,
    TranslatePin,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import HsmRefused
from hsm.errors import TokenError
from hsm.keys.keyring import HeldKey
from hsm.keys.permissions import Operation
from hsm.pins import Handler, pin_handlers
from tests.hsm.pins.keys import (
    AES_KSN,
    METHODS,
    OTHER_PAN,
    PAN,
    PVV,
    TDES_KSN,
    VALUES,
    ZEROS,
    ClearKeyring,
    clear_key,
    pin_block,
    refusal,
    translated,
)

CODES = {"pin_block_invalid", "pin_translation_forbidden", "pan_invalid", "malformed", "key_unknown", "key_usage"}


@settings(max_examples=300)
@given(
    pin=st.builds(
        PinBlock,
        block=st.binary(max_size=20) | st.binary(min_size=8, max_size=8) | st.binary(min_size=16, max_size=16),
        key=st.sampled_from([*VALUES, "none", ""]),
        format=st.integers(-1, 6),
        ksn=st.just(b"")
        | st.binary(max_size=14)
        | st.binary(min_size=10, max_size=10)
        | st.binary(min_size=12, max_size=12),
        ksn_key=st.sampled_from(["", *dukpt_aes.KEY_TYPES]) | st.text(max_size=8),
    ),
    pan=st.just(PAN) | st.text(max_size=20),
    key_out=st.sampled_from([*VALUES, "none", ""]),
    format_out=st.integers(-1, 6),
    reference=st.text(max_size=14) | st.text("0123456789", min_size=4, max_size=12),
    table=st.just("0123456789012345") | st.text(max_size=17),
    data=st.text(max_size=17) | st.text("0123456789abcdefABCDEF", min_size=16, max_size=16),
)
def test_whatever_comes_is_answered_or_refused(
    pin: PinBlock, pan: str, key_out: str, format_out: int, reference: str, table: str, data: str
) -> None:
    methods: list[PinMethod] = [
        VisaPvv(key=key_out, key_index=format_out, pvv=reference),
        Ibm3624(key=key_out, offset=reference, validation_data=data, decimalization_table=table),
    ]
    requests: list[Any] = [TranslatePin(pin=pin, key_out=key_out, format_out=format_out)]
    for method in methods:
        requests.append(VerifyPin(pin=pin, method=method))
        requests.append(GeneratePinReference(pin=pin, method=method))
        requests.append(ChangePin(old=pin, new=pin, method=method))
        requests.append(ChangePin(old=pin_block(), new=pin, method=method))
        requests.append(VerifyPin(pin=pin_block(), method=method))
    work = pin_handlers(ClearKeyring())  # type: ignore[arg-type]
    for request in requests:
        try:
            work[type(request)](request, pan)
        except HsmRefused as refused:
            assert refused.code in CODES


@pytest.mark.parametrize("number", [0, 3, 4])
def test_wrong_key_wrong_pan_and_forgery_look_the_same(handlers: dict[type, Handler], number: int) -> None:
    # Zero bytes fill format 3 with A, which becomes a digit under the other PAN.
    name = "zpk-aes" if number == 4 else "zpk-in"
    right = PinBlock(block=seal_pin(number, "1234", PAN, clear_key(name), bytes), key=name, format=number)
    key_out, other_key = ("zpk-aes-out",) * 2 if number == 4 else ("zpk-out", "zpk-decrypt")
    seal = seal_pin(number, "1234", PAN, clear_key(other_key), bytes)
    flipped = bytes([right.block[0] ^ 1]) + right.block[1:]
    refused = [
        refusal(lambda pin=pin, pan=pan: translated(handlers, pin, key_out, number, pan))  # type: ignore[misc]
        for pin, pan in (
            (msgspec.structs.replace(right, block=seal), PAN),
            (msgspec.structs.replace(right, block=flipped), PAN),
            (right, OTHER_PAN),
        )
    ]
    assert {error.code for error in refused} == {"pin_block_invalid"}
    assert len({error.detail for error in refused}) == 1


@pytest.mark.parametrize(
    ("changes", "out", "code"),
    [
        ({"block": bytes(7)}, {}, "pin_block_invalid"),
        ({"block": bytes(16)}, {}, "pin_block_invalid"),
        ({"block": b""}, {}, "pin_block_invalid"),
        ({"format": 4, "key": "zpk-aes"}, {}, "pin_block_invalid"),
        ({}, {}, "pin_block_invalid"),
        ({"format": 2}, {}, "malformed"),
        ({}, {"format_out": 5}, "malformed"),
        ({"format": 3}, {"format_out": 1}, "pin_translation_forbidden"),
        ({"key": "none"}, {}, "key_unknown"),
        ({"key": ""}, {}, "key_unknown"),
        ({}, {"key_out": "none"}, "key_unknown"),
        # A key that may not do it, or that is of the wrong kind for the format.
        ({"key": "zak"}, {}, "key_usage"),
        ({"key": "zpk-encrypt"}, {}, "key_usage"),
        ({}, {"key_out": "zpk-decrypt"}, "key_usage"),
        ({}, {"key_out": "pvk"}, "key_usage"),
        ({}, {"key_out": "bdk"}, "key_usage"),
        ({"key": "zpk-aes"}, {}, "key_usage"),
        ({"block": bytes(16), "format": 4}, {}, "key_usage"),
        ({}, {"key_out": "zpk-aes"}, "key_usage"),
        ({}, {"format_out": 4}, "key_usage"),
        # DUKPT: KSN without base derivation key and the other way round, lengths, counters, working keys.
        ({"ksn": TDES_KSN}, {}, "key_usage"),
        ({"key": "bdk"}, {}, "key_usage"),
        ({"key": "bdk", "ksn": AES_KSN}, {}, "malformed"),
        ({"key": "bdk", "ksn": TDES_KSN[:9]}, {}, "malformed"),
        ({"key": "bdk", "ksn": TDES_KSN[:7] + b"\xe0\0\0"}, {}, "malformed"),
        ({"key": "bdk", "ksn": TDES_KSN[:7] + b"\xff\xff\xff"}, {}, "malformed"),
        ({"key": "bdk", "ksn": TDES_KSN}, {}, "pin_block_invalid"),
        ({"key": "bdk", "ksn": TDES_KSN, "block": bytes(16), "format": 4}, {}, "key_usage"),
        ({"key": "bdk-aes", "ksn": TDES_KSN}, {}, "malformed"),
        ({"key": "bdk-aes", "ksn": AES_KSN[:8] + bytes(4)}, {}, "malformed"),
        ({"key": "bdk-aes", "ksn": AES_KSN}, {}, "pin_block_invalid"),
        ({"key": "bdk-aes", "ksn": AES_KSN, "ksn_key": "AES-128"}, {}, "malformed"),
        ({"key": "bdk-aes", "ksn": AES_KSN, "ksn_key": "TDES-9"}, {}, "malformed"),
        ({"key": "bdk-aes", "ksn": AES_KSN, "block": bytes(16), "format": 4, "ksn_key": "TDES-2"}, {}, "malformed"),
        ({"key": "bdk-aes", "ksn": AES_KSN, "block": bytes(16), "format": 4, "ksn_key": "AES-256"}, {}, "malformed"),
    ],
)
def test_refused_translations(
    handlers: dict[type, Handler], changes: dict[str, Any], out: dict[str, Any], code: str
) -> None:
    pin = msgspec.structs.replace(ZEROS, **changes)
    refused = refusal(lambda: translated(handlers, pin, **({"key_out": "zpk-out"} | out)))
    assert refused.code == code


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (VisaPvv(key="pvk"), "malformed"),
        (VisaPvv(key="pvk", pvv="12345"), "malformed"),
        (VisaPvv(key="pvk", pvv="12a4"), "malformed"),
        (VisaPvv(key="pvk", pvv="1234", key_index=10), "malformed"),
        (VisaPvv(key="none", pvv="1234"), "key_unknown"),
        (VisaPvv(key="ibm3624", pvv="1234"), "key_usage"),
        (VisaPvv(key="pvk-generate", pvv="1234"), "key_usage"),
        (VisaPvv(key="zpk-in", pvv="1234"), "key_usage"),
        (Ibm3624(key="ibm3624"), "malformed"),
        (Ibm3624(key="ibm3624", offset="123"), "malformed"),
        (Ibm3624(key="ibm3624", offset="1234", validation_data="42"), "malformed"),
        (Ibm3624(key="ibm3624", offset="1234", decimalization_table="0" * 16), "malformed"),
        (Ibm3624(key="ibm3624", offset="1234", decimalization_table="012345678901234"), "malformed"),
        (Ibm3624(key="pvk", offset="1234"), "key_usage"),
    ],
)
def test_refused_verifications(handlers: dict[type, Handler], method: PinMethod, code: str) -> None:
    requests: list[Any] = [
        VerifyPin(pin=pin_block(), method=method),
        ChangePin(old=pin_block(), new=pin_block(), method=method),
    ]
    for request in requests:
        refused = refusal(lambda request=request: handlers[type(request)](request, PAN))  # type: ignore[misc]
        assert refused.code == code


@METHODS
def test_blocks_that_do_not_open_are_refused_by_every_command(handlers: dict[type, Handler], method: PinMethod) -> None:
    bad = msgspec.structs.replace(pin_block(), block=bytes(8))
    requests: list[Any] = [
        VerifyPin(pin=bad, method=method),
        GeneratePinReference(pin=bad, method=method),
        ChangePin(old=bad, new=pin_block(), method=method),
        ChangePin(old=pin_block(), new=bad, method=method),
        ChangePin(old=pin_block(0, "9999"), new=bad, method=method),
    ]
    for request in requests:
        refused = refusal(lambda request=request: handlers[type(request)](request, PAN))  # type: ignore[misc]
        assert refused.code == "pin_block_invalid"


@pytest.mark.parametrize("pan", ["", "42424242424", "4" * 20, "42424242424242x2", "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢"])
def test_pans_that_are_none(handlers: dict[type, Handler], pan: str) -> None:
    requests: list[Any] = [
        TranslatePin(pin=pin_block(1), key_out="zpk-out"),
        VerifyPin(pin=pin_block(1), method=PVV),
        GeneratePinReference(pin=pin_block(), method=PVV),
        ChangePin(old=pin_block(), new=pin_block(), method=PVV),
    ]
    for request in requests:
        refused = refusal(lambda request=request: handlers[type(request)](request, pan))  # type: ignore[misc]
        assert refused.code == "pan_invalid"


def test_there_is_a_handler_for_each_pin_command(handlers: dict[type, Handler]) -> None:
    assert set(handlers) == {TranslatePin, VerifyPin, GeneratePinReference, ChangePin}


def test_a_lost_token_is_no_refusal() -> None:
    class Lost(ClearTdesKey):
        def encrypt(self, data: bytes) -> bytes:
            raise TokenError("DES3_ECB: SessionHandleInvalid")

        decrypt = encrypt

    class LostKeyring(ClearKeyring):
        def key(self, name: str, operation: Operation) -> HeldKey:
            return msgspec.structs.replace(super().key(name, operation), key=Lost(bytes(16)))

        def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
            return [self.key(name, operation)]

    lost = pin_handlers(LostKeyring())  # type: ignore[arg-type]
    requests: list[Any] = [
        TranslatePin(pin=pin_block(), key_out="zpk-out"),
        VerifyPin(pin=pin_block(), method=PVV),
        GeneratePinReference(pin=pin_block(), method=PVV),
        ChangePin(old=pin_block(), new=pin_block(), method=PVV),
        TranslatePin(pin=msgspec.structs.replace(ZEROS, key="bdk", ksn=TDES_KSN), key_out="zpk-out"),
    ]
    for request in requests:
        with pytest.raises(TokenError):
            lost[type(request)](request, PAN)


def test_refusals_tell_nothing(handlers: dict[type, Handler]) -> None:
    pin = pin_block(0, "735192")
    requests: list[tuple[Any, str]] = [
        (TranslatePin(pin=pin, key_out="zpk-out"), OTHER_PAN),
        (TranslatePin(pin=pin, key_out="zpk-out", format_out=1), PAN),
        (TranslatePin(pin=pin, key_out="zpk-aes"), PAN),
        (TranslatePin(pin=pin, key_out="zpk-out"), PAN + "x"),
        (VerifyPin(pin=pin, method=VisaPvv(key="pvk", pvv="73519")), PAN),
        (VerifyPin(pin=pin, method=Ibm3624(key="ibm3624", offset="735192x")), PAN),
        (VerifyPin(pin=pin, method=Ibm3624(key="ibm3624", offset="735192", validation_data=PAN + "g")), PAN),
    ]
    for request, pan in requests:
        text = str(refusal(lambda request=request, pan=pan: handlers[type(request)](request, pan)))  # type: ignore[misc]
        for secret in ("73519", PAN, OTHER_PAN, pin.block.hex(), repr(pin.block)):
            assert secret not in text
        assert "73519" not in repr(request) and PAN not in repr(request)
