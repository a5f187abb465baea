"""The commands on PINs, over clear keys and over keys in a SoftHSM token: the same tests, the same answers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsm.algorithms import dukpt_aes, dukpt_tdes
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pin_verification import generate_offset, generate_pvv
from hsm.algorithms.pinblock import FORMATS, PinKey, open_pin, seal_pin
from hsm.card_commands import (
    ChangePin,
    GeneratePinReference,
    Ibm3624,
    PinBlock,
    PinMethod,
    PinReference,
    TranslatePin,
    Verified,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import HsmRefused
from hsm.config import HsmConfig
from hsm.errors import TokenError
from hsm.keys.attributes import ROLES, KeyAttributes
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import HeldKey, Keyring, usable
from hsm.keys.permissions import Operation
from hsm.pins import Handler, pin_handlers, read_pin, translate

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]

PAN, OTHER_PAN = "4242424242424242", "4000000000000002"
ANSI_BDK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
X9_BDK = bytes.fromhex("FEDCBA9876543210F1F1F1F1F1F1F1F1")
PVK = bytes.fromhex("4CA2161637D0133E5E151AEA45DA2A12")
OLD_ZPK, ZPK_24, ZPK_AES = bytes(range(48, 72)), bytes(range(24, 48)), bytes(range(32))


def shape(role: str, algorithm: str, length: int, mode: str = "") -> KeyAttributes:
    attributes = ROLES[role].algorithms[algorithm]
    return msgspec.structs.replace(attributes, length=length, mode=mode or attributes.mode)


# Name, role, attributes and value; a name that comes again is the next version.
KEYS = [
    ("zpk-in", "pin", shape("pin", "TDES", 24), OLD_ZPK),
    ("zpk-in", "pin", shape("pin", "TDES", 24), ZPK_24),
    ("zpk-out", "pin", shape("pin", "TDES", 16), ANSI_BDK[::-1]),
    ("zpk-aes", "pin", shape("pin", "AES", 32), ZPK_AES),
    ("zpk-aes-out", "pin", shape("pin", "AES", 16), ZPK_AES[:16]),
    ("zpk-encrypt", "pin", shape("pin", "TDES", 24, "E"), ZPK_24[::-1]),
    ("zpk-decrypt", "pin", shape("pin", "TDES", 24, "D"), ZPK_24[1:] + b"\1"),
    ("bdk", "bdk", shape("bdk", "TDES", 16), ANSI_BDK),
    ("bdk-aes", "bdk", shape("bdk", "AES", 16), X9_BDK),
    ("bdk-aes-256", "bdk", shape("bdk", "AES", 32), X9_BDK * 2),
    ("pvk", "pvk", shape("pvk", "TDES", 16), PVK),
    ("pvk-verify", "pvk", shape("pvk", "TDES", 16, "V"), PVK[::-1]),
    ("pvk-generate", "pvk", shape("pvk", "TDES", 16, "G"), PVK[8:] + PVK[:8]),
    ("ibm3624", "ibm3624", shape("ibm3624", "TDES", 16), PVK[4:] + PVK[:4]),
    ("zak", "mac", shape("mac", "AES-CMAC", 32), ZPK_AES[::-1]),
]
VALUES = {name: value for name, _, _, value in KEYS}


class ClearKeyring:
    """As much of a keyring as PINs need, over clear keys; the newest version first."""

    def __init__(self) -> None:
        self._keys: dict[str, list[HeldKey]] = {}
        for name, _, attributes, value in KEYS:
            key = ClearTdesKey(value) if attributes.algorithm == "T" else ClearAesKey(value)
            versions = self._keys.setdefault(name, [])
            versions.insert(0, HeldKey(name, len(versions) + 1, attributes, "", key))

    def key(self, name: str, operation: Operation) -> HeldKey:
        return usable(name, operation, self._keys)[0]

    def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
        return list(usable(name, operation, self._keys))


@pytest.fixture(scope="module", params=["clear", "token"])
def keyring(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    if request.param == "clear":
        yield ClearKeyring()  # type: ignore[misc]
        return
    holder = Keyholder(HsmConfig(), tmp_path_factory.mktemp("pins"))
    holder.open(provisioning=False)
    for name, role, attributes, value in KEYS:
        holder.store.take(name, role, attributes, "", value, "imported")
    yield holder.store.keyring()
    holder.close()


@pytest.fixture
def handlers(keyring: Keyring) -> dict[type, Handler]:
    return pin_handlers(keyring)


def clear_key(name: str) -> PinKey:
    return ClearAesKey(VALUES[name]) if "aes" in name else ClearTdesKey(VALUES[name])


def pin_block(number: int = 0, pin: str = "1234", pan: str = PAN, name: str = "") -> PinBlock:
    name = name or ("zpk-aes" if number == 4 else "zpk-in")
    return PinBlock(block=seal_pin(number, pin, pan, clear_key(name), os.urandom), key=name, format=number)


def refusal(work: Callable[[], object]) -> HsmRefused:
    with pytest.raises(HsmRefused) as caught:
        work()
    return caught.value


def translated(
    handlers: dict[type, Handler], pin: PinBlock, key_out: str, format_out: int = 0, pan: str = PAN
) -> bytes:
    answer: Any = handlers[TranslatePin](TranslatePin(pin=pin, key_out=key_out, format_out=format_out), pan)
    return bytes(answer.pin_block)


PAIRS = list(itertools.product(sorted(FORMATS), repeat=2))


@pytest.mark.parametrize(("format_in", "format_out"), PAIRS)
def test_translation_between_all_formats(handlers: dict[type, Handler], format_in: int, format_out: int) -> None:
    key_out = "zpk-aes-out" if format_out == 4 else "zpk-out"
    for pin in ("1234", "123456789012"):
        block = pin_block(format_in, pin)
        if format_out == 1 and format_in != 1:
            refused = refusal(lambda block=block: translated(handlers, block, key_out, format_out))  # type: ignore[misc]
            assert refused.code == "pin_translation_forbidden"
        else:
            out = translated(handlers, block, key_out, format_out)
            assert open_pin(format_out, out, PAN, clear_key(key_out)) == pin


def test_random_digits_come_from_the_argument(keyring: Keyring) -> None:
    asked: list[int] = []

    def zeros(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    pin = pin_block(0)
    blocks = {translate(keyring, pin, "zpk-out", 3, PAN, zeros) for _ in range(3)}
    assert len(blocks) == 1 and len(asked) == 3
    assert translated(pin_handlers(keyring, zeros), pin, "zpk-out", 3) in blocks
    assert len({translate(keyring, pin, "zpk-out", 3, PAN) for _ in range(10)}) > 1


@pytest.mark.parametrize(("key_out", "format_out"), [("zpk-out", 0), ("zpk-out", 3), ("zpk-aes", 4)])
def test_tdes_dukpt_to_zpk(handlers: dict[type, Handler], key_out: str, format_out: int) -> None:
    # Source: ANSI X9.24-1:2009, A.4.2 and A.4.3: first, fifth and last PIN block.
    for ksn, block in (
        ("FFFF9876543210E00001", "1B9C1845EB993A7A"),
        ("FFFF9876543210E00005", "5BC0AF22AD87B327"),
        ("FFFF9876543210F00000", "73EC88AD0AC5830E"),
    ):
        pin = PinBlock(block=bytes.fromhex(block), key="bdk", ksn=bytes.fromhex(ksn))
        out = translated(handlers, pin, key_out, format_out, "4012345678909")
        assert open_pin(format_out, out, "4012345678909", clear_key(key_out)) == "1234"


@pytest.mark.parametrize(("key_out", "format_out"), [("zpk-out", 0), ("zpk-out", 3), ("zpk-aes", 4)])
def test_aes_dukpt_to_zpk(handlers: dict[type, Handler], key_out: str, format_out: int) -> None:
    # Source: X9.24-3-2017 supplement, p. 31: the first two PIN blocks.
    for ksn, block in (
        ("123456789012345600000001", "A912150391AB65A67E52883D81CE2D15"),
        ("123456789012345600000002", "52A00503BD34BA1383F6A7EE9FE2547F"),
    ):
        pin = PinBlock(block=bytes.fromhex(block), key="bdk-aes", format=4, ksn=bytes.fromhex(ksn))
        out = translated(handlers, pin, key_out, format_out, "4111111111111111")
        assert open_pin(format_out, out, "4111111111111111", clear_key(key_out)) == "1234"


@pytest.mark.parametrize(
    ("bdk", "number", "ksn_key", "made_with"),
    [
        ("bdk-aes", 4, "", "AES-128"),
        ("bdk-aes", 4, "AES-128", "AES-128"),
        ("bdk-aes-256", 4, "", "AES-256"),
        ("bdk-aes-256", 4, "AES-128", "AES-128"),
        ("bdk-aes-256", 4, "AES-192", "AES-192"),
        ("bdk-aes", 0, "", "TDES-2"),
        ("bdk-aes", 3, "TDES-3", "TDES-3"),
        ("bdk-aes-256", 1, "TDES-2", "TDES-2"),
    ],
)
def test_working_keys_of_aes_dukpt(
    handlers: dict[type, Handler], bdk: str, number: int, ksn_key: str, made_with: str
) -> None:
    ksn = bytes.fromhex("1234567890123456000000A5")
    initial = dukpt_aes.initial_key(ClearAesKey(VALUES[bdk]), ksn[:8])
    key = dukpt_aes.device_working_key(initial, ksn, dukpt_aes.Usage.PIN_ENCRYPTION, made_with)
    block = seal_pin(number, "98765", PAN, key, os.urandom)
    pin = PinBlock(block=block, key=bdk, format=number, ksn=ksn, ksn_key=ksn_key)
    assert open_pin(0, translated(handlers, pin, "zpk-out"), PAN, clear_key("zpk-out")) == "98765"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counter=st.integers(1, dukpt_tdes.LAST_COUNTER).filter(lambda value: value.bit_count() <= 10),
    pin=st.text("0123456789", min_size=4, max_size=12),
)
def test_each_tdes_transaction_of_a_terminal(handlers: dict[type, Handler], counter: int, pin: str) -> None:
    ksn = (0xFFFF9876543210E00000 | counter).to_bytes(10, "big")
    initial = dukpt_tdes.initial_key(ClearTdesKey(ANSI_BDK), ksn)
    block = psec.pinblock.encode_pinblock_iso_0(pin, PAN)
    under_dukpt = PinBlock(block=dukpt_tdes.device_pin_key(initial, ksn).encrypt(block), key="bdk", ksn=ksn)
    assert translated(handlers, under_dukpt, "zpk-out") == clear_key("zpk-out").encrypt(block)


PVV = VisaPvv(key="pvk", key_index=1, pvv=generate_pvv(ClearTdesKey(PVK), PAN, "1234", 1))
OFFSET = Ibm3624(key="ibm3624", offset=generate_offset(ClearTdesKey(VALUES["ibm3624"]), PAN, "1234"))
METHODS = pytest.mark.parametrize("method", [PVV, OFFSET], ids=["pvv", "ibm3624"])


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
    method = Ibm3624(key="ibm3624", validation_data="42424242ABCDEF01")
    made: Any = handlers[GeneratePinReference](GeneratePinReference(pin=pin_block(), method=method), PAN)
    assert made.value == generate_offset(ClearTdesKey(VALUES["ibm3624"]), "42424242ABCDEF01", "1234")
    right = VerifyPin(pin=pin_block(), method=msgspec.structs.replace(method, offset=made.value))
    assert handlers[VerifyPin](right, PAN) == Verified(True)
    other = VerifyPin(pin=pin_block(), method=Ibm3624(key="ibm3624", offset=made.value))
    assert handlers[VerifyPin](other, PAN) == Verified(False)


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


def test_blocks_under_the_version_before_open_and_new_ones_are_made_under_the_newest(keyring: Keyring) -> None:
    old = seal_pin(0, "1234", PAN, ClearTdesKey(OLD_ZPK), os.urandom)
    out = translate(keyring, PinBlock(block=old, key="zpk-in"), "zpk-in", 0, PAN)
    assert open_pin(0, out, PAN, ClearTdesKey(ZPK_24)) == "1234"
    assert read_pin(keyring, PinBlock(block=old, key="zpk-in"), PAN) == "1234"


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


TDES_KSN, AES_KSN = bytes.fromhex("FFFF9876543210E00001"), bytes.fromhex("123456789012345600000001")
ZEROS = PinBlock(block=bytes(8), key="zpk-in")


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


def test_who_may_verify_may_not_generate(handlers: dict[type, Handler]) -> None:
    method = VisaPvv(key="pvk-verify", pvv=generate_pvv(ClearTdesKey(PVK[::-1]), PAN, "1234", 1))
    assert handlers[VerifyPin](VerifyPin(pin=pin_block(), method=method), PAN) == Verified(True)
    make = GeneratePinReference(pin=pin_block(), method=method)
    change = ChangePin(old=pin_block(), new=pin_block(), method=method)
    for request in (make, change):
        assert refusal(lambda request=request: handlers[type(request)](request, PAN)).code == "key_usage"  # type: ignore[misc]
    by_generator = GeneratePinReference(pin=pin_block(), method=VisaPvv(key="pvk-generate"))
    assert handlers[GeneratePinReference](by_generator, PAN)


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
