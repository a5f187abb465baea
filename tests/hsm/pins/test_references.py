"""Verifying PINs, making their references and changing them, over clear keys and over a token."""

from __future__ import annotations

from typing import Any

import msgspec
import psec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pin_verification import generate_offset, generate_pvv
from hsm.algorithms.pinblock import FORMATS
from hsm.card_commands import (
    ChangePin,
    GeneratePinReference,
    Ibm3624,
    PinBlock,
    PinMethod,
    PinReference,
    Verified,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import HsmRefused
from hsm.keys.keyring import HeldKey
from hsm.keys.permissions import Operation
from hsm.pins import Handler, pin_handlers
from tests.hsm.pins.keys import (
    METHODS,
    OTHER_PAN,
    PAN,
    PVK,
    VALUES,
    ZPK_AES,
    ClearKeyring,
    pin_block,
    refusal,
)

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]


@METHODS
@pytest.mark.parametrize("number", sorted(FORMATS))
def test_verification(handlers: dict[type, Handler], method: PinMethod, number: int) -> None:
    def verified(pin: str) -> object:
        return handlers[VerifyPin](VerifyPin(pin=pin_block(number, pin), method=method), PAN)

    assert verified("1234") == Verified(True)
    for wrong in ("1235", "0234", "4321"):
        assert verified(wrong) == Verified(False)


def test_verification_under_dukpt(handlers: dict[type, Handler]) -> None:
    pan, ksn = "4012345678909", bytes.fromhex("FFFF9876543210E00001")
    pin = PinBlock(block=bytes.fromhex("1B9C1845EB993A7A"), key="bdk", ksn=ksn)
    right = VisaPvv(key="pvk", key_index=2, pvv=generate_pvv(ClearTdesKey(PVK), pan, "1234", 2))
    assert handlers[VerifyPin](VerifyPin(pin=pin, method=right), pan) == Verified(True)
    other_index = msgspec.structs.replace(right, key_index=3)
    assert handlers[VerifyPin](VerifyPin(pin=pin, method=other_index), pan) == Verified(False)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pin=st.text("0123456789", min_size=4, max_size=12),
    pan=st.text("0123456789", min_size=13, max_size=19),
    index=st.integers(0, 9),
)
def test_references_are_those_of_psec(handlers: dict[type, Handler], pin: str, pan: str, index: int) -> None:
    def reference(method: PinMethod) -> object:
        return handlers[GeneratePinReference](GeneratePinReference(pin=pin_block(3, pin, pan), method=method), pan)

    pvv = psec.pin.generate_visa_pvv(PVK, str(index), pin[:4], pan)
    assert reference(VisaPvv(key="pvk", key_index=index)) == PinReference(value=pvv)
    table, digits = "9876543210987654", pan[-16:]
    offset = psec.pin.generate_ibm3624_offset(VALUES["ibm3624"], table, pin, digits, 0, len(digits), "0")
    method = Ibm3624(key="ibm3624", decimalization_table=table)
    assert reference(method) == PinReference(value=offset)
    right = VerifyPin(pin=pin_block(4, pin, pan), method=msgspec.structs.replace(method, offset=offset))
    assert handlers[VerifyPin](right, pan) == Verified(True)


def test_validation_data_of_the_issuer(handlers: dict[type, Handler]) -> None:
    data = f"ABC{PAN[-12:-1]}DE"
    method = Ibm3624(key="ibm3624", validation_data=data)
    made: Any = handlers[GeneratePinReference](GeneratePinReference(pin=pin_block(), method=method), PAN)
    assert made.value == generate_offset(ClearTdesKey(VALUES["ibm3624"]), data, "1234")
    right = VerifyPin(pin=pin_block(), method=msgspec.structs.replace(method, offset=made.value))
    assert handlers[VerifyPin](right, PAN) == Verified(True)
    other = VerifyPin(pin=pin_block(), method=Ibm3624(key="ibm3624", offset=made.value))
    assert handlers[VerifyPin](other, PAN) == Verified(False)


def test_no_reference_tells_of_another_card_or_table(handlers: dict[type, Handler]) -> None:
    """A known PIN's block with another card's data would reveal that card's natural PIN; chosen tables, the digits."""
    for changes in (
        {"validation_data": OTHER_PAN},
        {"validation_data": "42424242ABCDEF01"},
        {"decimalization_table": "0123456789012354"},
        {"decimalization_table": "5123406789012345"},
    ):
        method = msgspec.structs.replace(Ibm3624(key="ibm3624"), **changes)
        offered = msgspec.structs.replace(method, offset="0000")
        for request in (
            GeneratePinReference(pin=pin_block(), method=method),
            VerifyPin(pin=pin_block(), method=offered),
            ChangePin(old=pin_block(), new=pin_block(), method=offered),
        ):
            with pytest.raises(HsmRefused, match="malformed"):
                handlers[type(request)](request, PAN)


@METHODS
def test_change(handlers: dict[type, Handler], method: PinMethod) -> None:
    def changed(old: str) -> Any:
        request = ChangePin(old=pin_block(0, old), new=pin_block(4, "765432"), method=method)
        return handlers[ChangePin](request, PAN)

    assert changed("9999") == PinReference(value="", verified=False)
    new = changed("1234")
    assert new.verified and new.value
    now = {"pvv": new.value} if isinstance(method, VisaPvv) else {"offset": new.value}
    method = msgspec.structs.replace(method, **now)
    for pin, verified in (("765432", True), ("1234", False)):
        request = VerifyPin(pin=pin_block(3, pin), method=method)
        assert handlers[VerifyPin](request, PAN) == Verified(verified)


@METHODS
def test_references_need_a_block_that_binds_the_pan(handlers: dict[type, Handler], method: PinMethod) -> None:
    make = GeneratePinReference(pin=pin_block(1), method=method)
    change = ChangePin(old=pin_block(0), new=pin_block(1), method=method)
    for request in (make, change):
        refused = refusal(lambda request=request: handlers[type(request)](request, PAN))  # type: ignore[misc]
        assert refused.code == "pin_translation_forbidden"


@pytest.mark.parametrize("role", ["pvk", "ibm3624"])
def test_who_may_verify_may_not_generate_and_the_other_way_round(handlers: dict[type, Handler], role: str) -> None:
    def method(name: str) -> PinMethod:
        key = ClearTdesKey(VALUES[name])
        if role == "pvk":
            return VisaPvv(key=name, pvv=generate_pvv(key, PAN, "1234", 1))
        return Ibm3624(key=name, offset=generate_offset(key, PAN, "1234"))

    def refused(request: Any) -> str:
        return refusal(lambda: handlers[type(request)](request, PAN)).code

    verifier, generator = method(f"{role}-verify"), method(f"{role}-generate")
    assert handlers[VerifyPin](VerifyPin(pin=pin_block(), method=verifier), PAN) == Verified(True)
    assert refused(GeneratePinReference(pin=pin_block(), method=verifier)) == "key_usage"
    assert refused(VerifyPin(pin=pin_block(), method=generator)) == "key_usage"
    assert handlers[GeneratePinReference](GeneratePinReference(pin=pin_block(), method=generator), PAN)
    for either in (verifier, generator):
        assert refused(ChangePin(old=pin_block(), new=pin_block(), method=either)) == "key_usage"


@METHODS
def test_pins_are_verified_with_tdes_keys_only(method: PinMethod) -> None:
    class AesKeyring(ClearKeyring):
        def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
            if name != method.key:
                return super().candidates(name, operation)
            attributes = msgspec.structs.replace(super().key(name, operation).attributes, algorithm="A")
            return [HeldKey(name, 1, attributes, "", ClearAesKey(ZPK_AES))]

        def key(self, name: str, operation: Operation) -> HeldKey:
            return self.candidates(name, operation)[0]

    aes = pin_handlers(AesKeyring())  # type: ignore[arg-type]
    for request in (VerifyPin(pin=pin_block(), method=method), GeneratePinReference(pin=pin_block(), method=method)):
        refused = refusal(lambda request=request: aes[type(request)](request, PAN))  # type: ignore[misc]
        assert refused.code == "key_usage"
