"""PIN translation over clear keys and over a token: formats, zone keys, DUKPT."""

from __future__ import annotations

import itertools
import os

import psec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsm.algorithms import dukpt_aes, dukpt_tdes
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pinblock import FORMATS, open_pin, seal_pin
from hsm.card_commands import (
    PinBlock,
)
from hsm.keys.keyring import HeldKey, Keyring
from hsm.keys.permissions import Operation
from hsm.pins import Handler, pin_handlers, read_pin, translate
from tests.hsm.pins.keys import (
    AES_KSN,
    ANSI_BDK,
    OLD_ZPK,
    PAN,
    TDES_KSN,
    VALUES,
    X9_BDK,
    ZPK_24,
    ZPK_AES,
    ClearKeyring,
    clear_key,
    pin_block,
    refusal,
    shape,
    translated,
)

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]


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


def test_blocks_under_the_version_before_open_and_new_ones_are_made_under_the_newest(keyring: Keyring) -> None:
    old = seal_pin(0, "1234", PAN, ClearTdesKey(OLD_ZPK), os.urandom)
    out = translate(keyring, PinBlock(block=old, key="zpk-in"), "zpk-in", 0, PAN)
    assert open_pin(0, out, PAN, ClearTdesKey(ZPK_24)) == "1234"
    assert read_pin(keyring, PinBlock(block=old, key="zpk-in"), PAN) == "1234"


@pytest.mark.parametrize("newest", ["T", "A"])
def test_a_zone_may_go_from_tdes_to_aes(newest: str) -> None:
    tdes, aes = ClearTdesKey(ZPK_24), ClearAesKey(ZPK_AES)
    versions = [
        HeldKey("zpk", 1, shape("pin", "TDES", 24), "", tdes),
        HeldKey("zpk", 2, shape("pin", "AES", 32), "", aes),
    ]

    class Changing(ClearKeyring):
        def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
            return versions if newest == "T" else versions[::-1]

    for number, key in ((0, tdes), (4, aes)):
        block = seal_pin(number, "1234", PAN, key, os.urandom)
        pin = PinBlock(block=block, key="zpk", format=number)
        assert read_pin(Changing(), pin, PAN) == "1234"  # type: ignore[arg-type]


@pytest.mark.parametrize("newest", ["T", "A"])
def test_terminals_of_both_dukpt_standards_work_under_one_name(newest: str) -> None:
    bdks = [
        HeldKey("bdk", 1, shape("bdk", "TDES", 16), "", ClearTdesKey(ANSI_BDK)),
        HeldKey("bdk", 2, shape("bdk", "AES", 16), "", ClearAesKey(X9_BDK)),
    ]

    class Changing(ClearKeyring):
        def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
            return bdks if newest == "T" else bdks[::-1]

    old = dukpt_tdes.pin_key(ClearTdesKey(ANSI_BDK), TDES_KSN)
    new = dukpt_aes.working_key(ClearAesKey(X9_BDK), AES_KSN, dukpt_aes.Usage.PIN_ENCRYPTION, "TDES-2")
    for key, ksn in ((old, TDES_KSN), (new, AES_KSN)):
        pin = PinBlock(block=seal_pin(0, "1234", PAN, key, os.urandom), key="bdk", ksn=ksn)
        assert read_pin(Changing(), pin, PAN) == "1234"  # type: ignore[arg-type]
