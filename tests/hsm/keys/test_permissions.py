"""Every usage against every operation, and every mode, on keys in the token: forbidden uses are refused."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from hsm.commands import HsmRefused
from hsm.keys.attributes import MODES, USAGES
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import HeldKey
from hsm.keys.permissions import Operation
from hsm.keys.roles import usable_modes
from hsm.keys.token_keyring import FOREVER, RECEIVING, TokenKeyring, Version
from tests.hsm.keys.opened import EVERY_KEY, every_key, opened

# Written out by hand from X9.143-2021, tables 6 and 8, and from what each command does; not from the table under test.
ALLOWED = {
    Operation.PIN_DECRYPT: ({"P0"}, {"B", "D", "N"}),
    Operation.PIN_ENCRYPT: ({"P0"}, {"B", "E", "N"}),
    Operation.DUKPT_PIN: ({"B0"}, {"X", "N"}),
    Operation.PVV_GENERATE: ({"V2"}, {"C", "G", "N"}),
    Operation.PVV_VERIFY: ({"V2"}, {"C", "V", "N"}),
    Operation.OFFSET_GENERATE: ({"V1"}, {"C", "G", "N"}),
    Operation.OFFSET_VERIFY: ({"V1"}, {"C", "V", "N"}),
    Operation.MAC_GENERATE: ({"M1", "M3", "M6", "M7"}, {"C", "G", "N"}),
    Operation.MAC_VERIFY: ({"M1", "M3", "M6", "M7"}, {"C", "V", "N"}),
    Operation.CARD_VALUE_GENERATE: ({"C0"}, {"C", "G", "N"}),
    Operation.CARD_VALUE_VERIFY: ({"C0"}, {"C", "V", "N"}),
    Operation.DYNAMIC_CARD_VALUE: ({"E6"}, {"X", "N"}),
    Operation.CRYPTOGRAM: ({"E0"}, {"X", "N"}),
    Operation.SCRIPT_CONFIDENTIALITY: ({"E1"}, {"X", "N"}),
    Operation.SCRIPT_INTEGRITY: ({"E2"}, {"X", "N"}),
    Operation.TOKEN_CRYPTOGRAM_GENERATE: ({"10"}, {"C", "G", "N"}),
    Operation.TOKEN_CRYPTOGRAM_VERIFY: ({"10"}, {"C", "V", "N"}),
    Operation.KEY_WRAP: ({"K0", "K1"}, {"B", "E", "N"}),
    Operation.KEY_UNWRAP: ({"K0", "K1"}, {"B", "D", "N"}),
}


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyholder]:
    with opened(tmp_path_factory.mktemp("permissions"), *every_key()) as holder:
        yield holder


def test_every_operation_is_in_the_table() -> None:
    assert set(ALLOWED) == set(Operation)
    used = {usage for usages, _ in ALLOWED.values() for usage in usages}
    assert used == set(USAGES) - {"D0"}  # data keys are asked by `seal` and `unseal` only


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.name)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_usage_by_operation(holder: Keyholder, name: str, operation: Operation) -> None:
    keyring = holder.store.keyring()
    record = holder.store.active(name)
    assert record is not None
    usages, modes = ALLOWED[operation]
    if record.attributes.usage in usages and record.attributes.mode in modes:
        assert keyring.key(name, operation).name == name
        assert [held.name for held in keyring.candidates(name, operation)] == [name]
        return
    for ask in (keyring.key, keyring.candidates):
        with pytest.raises(HsmRefused) as refused:
            ask(name, operation)
        assert refused.value.code == "key_usage"
        assert name in refused.value.detail and operation.value in refused.value.detail


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_mode_by_operation(holder: Keyholder, name: str, mode: str) -> None:
    record = holder.store.active(name)
    assert record is not None
    held = holder.store.held(record)
    other = HeldKey(name, 1, msgspec.structs.replace(held.attributes, mode=mode), held.kcv, held.key)
    keyring = TokenKeyring(holder.token, {name: (Version(other, "active"),)})
    for operation, (usages, modes) in ALLOWED.items():
        if held.attributes.usage in usages and mode in modes:
            assert keyring.key(name, operation) is other
        else:
            with pytest.raises(HsmRefused, match="key_usage"):
                keyring.key(name, operation)
            with pytest.raises(HsmRefused, match="key_usage"):
                keyring.candidates(name, operation)


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.name)
def test_unknown_keys(holder: Keyholder, operation: Operation) -> None:
    keyring = holder.store.keyring()
    for name in ("nobody", "", "pan", "pan-1", "storage-1", "storage", "integrity-1", "audit-1", "fingerprint-1"):
        for ask in (keyring.key, keyring.candidates):
            with pytest.raises(HsmRefused, match="key_unknown"):
                ask(name, operation)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("zpk-nobody", True),
        ("imk-ac_2", True),
        ("4242424242424242", False),
        ("card-4242424242424242", False),
        ("d0154c8a2f3be6705db1b019", False),
        ("a name with spaces", False),
        ("x" * 100, False),
    ],
)
def test_a_refusal_repeats_only_what_can_be_a_name(holder: Keyholder, name: str, shown: bool) -> None:
    """A caller that put a card number or a key where a name belongs does not find it in answers and logs."""
    with pytest.raises(HsmRefused) as refused:
        holder.store.keyring().key(name, Operation.PIN_ENCRYPT)
    assert (name in str(refused.value)) == shown
    assert refused.value.code == "key_unknown"


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.name)
def test_only_what_comes_in_may_be_under_another_version(holder: Keyholder, operation: Operation) -> None:
    """This HSM makes new values with the version in force; others decrypt and verify."""
    usage = min(ALLOWED[operation][0])
    name = (
        next(
            name
            for name in EVERY_KEY
            if (own := holder.store.active(name)) is not None and own.attributes.usage == usage
        )
        if usage != "K0"
        else "zmk-aes"
    )
    record = holder.store.active(name)
    assert record is not None
    held = holder.store.held(record)
    makes = any(word in operation.name for word in ("GENERATE", "ENCRYPT", "WRAP", "SCRIPT")) and (
        operation is not Operation.KEY_UNWRAP
    )
    versions = [
        Version(HeldKey(name, number, held.attributes, held.kcv, held.key), status, FOREVER)
        for number, status in ((1, "previous"), (2, "active"), (3, "pending"))
    ]
    keyring = TokenKeyring(holder.token, {name: versions})
    assert keyring.key(name, operation).version == 2
    # A card's dynamic value is made and checked with one operation; making takes `key`.
    assert (operation in RECEIVING) == (not makes)
    if not makes:
        assert [held.version for held in keyring.candidates(name, operation)] == [2, 1, 3]
    else:
        assert [held.version for held in keyring.candidates(name, operation)] == [2]


def test_a_key_without_a_version_in_force_is_unknown(holder: Keyholder) -> None:
    record = holder.store.active("pin-tdes")
    assert record is not None
    held = holder.store.held(record)
    keyring = TokenKeyring(holder.token, {"pin-tdes": (Version(held, "pending"),)})
    for ask in (keyring.key, keyring.candidates):
        with pytest.raises(HsmRefused, match="key_unknown"):
            ask("pin-tdes", Operation.PIN_DECRYPT)


def test_modes_that_no_operation_takes_are_not_usable() -> None:
    assert usable_modes("P0") == {"B", "D", "E", "N"}
    assert usable_modes("M6") == {"C", "G", "V", "N"}
    assert usable_modes("D0") == set()
