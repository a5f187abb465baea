"""Keys of every role in the token: their computations, and that nobody reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pkcs11 import Attribute
from pkcs11.exceptions import PKCS11Error

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.components import check_key
from hsm.algorithms.dukpt_tdes import DUKPT_MASK
from hsm.config import KeyConfig
from hsm.keys.attributes import ROLES
from hsm.keys.holder import Keyholder
from hsm.keys.key_objects import KeyObjects
from hsm.keys.roles import attributes_for, fitting_lengths, misfit
from hsm.keys.store import KeyStore
from tests.hsm.keys.opened import EVERY_KEY, every_key, opened


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyholder]:
    with opened(tmp_path_factory.mktemp("roles"), *every_key()) as holder:
        yield holder


@pytest.fixture
def store(holder: Keyholder) -> KeyStore:
    return holder.store


def key_in_token(store: KeyStore, name: str) -> Any:
    record = store.active(name)
    assert record is not None
    return store.held(record).key


def clear(store: KeyStore, name: str) -> bytes:
    record = store.active(name)
    assert record is not None
    return store.reveal(record)


def handles(key: Any) -> list[Any]:
    parts = [*filter(None, [getattr(key, "_single", None)]), *getattr(key, "_masked", {}).values()]
    return [key._handle, *(part._handle for part in parts)]


@pytest.mark.parametrize("name", EVERY_KEY)
def test_no_value_is_read(store: KeyStore, name: str) -> None:
    for handle in handles(key_in_token(store, name)):
        assert handle[Attribute.SENSITIVE] and not handle[Attribute.EXTRACTABLE] and not handle[Attribute.TOKEN]
        with pytest.raises(PKCS11Error):
            handle[Attribute.VALUE]


def test_no_value_of_the_tokens_own_keys_is_read(holder: Keyholder) -> None:
    assert set(holder.token.own) == {"storage-1", "fingerprint-1", "integrity-1", "audit-1", "pan-1"}
    for own in holder.token.own.values():
        assert own.handle[Attribute.SENSITIVE] and not own.handle[Attribute.EXTRACTABLE]
        with pytest.raises(PKCS11Error):
            own.handle[Attribute.VALUE]


@pytest.mark.parametrize("name", EVERY_KEY)
def test_made_keys_are_good_keys(store: KeyStore, name: str) -> None:
    role, algorithm = EVERY_KEY[name]
    record = store.active(name)
    assert record is not None and record.attributes == ROLES[role].algorithms[algorithm]
    value = clear(store, name)
    assert len(value) == record.attributes.length
    assert check_key(record.attributes.algorithm, value) == value  # TDES: odd parity, distinct parts
    assert record.kcv == clear_check_value(record.attributes.algorithm, value)


@pytest.mark.parametrize("name", EVERY_KEY)
def test_the_token_computes_what_a_clear_key_computes(store: KeyStore, name: str) -> None:
    record = store.active(name)
    assert record is not None
    inside, outside = key_in_token(store, name), clear_key(record.attributes.algorithm, clear(store, name))
    for operation, data in (("encrypt", bytes(range(48))), ("decrypt", bytes(range(48))), ("encrypt_cbc", bytes(48))):
        if hasattr(inside, operation):
            try:
                result = getattr(inside, operation)(data)
            except ValueError as error:  # this usage has no use for it, so the token does not allow it
                assert "not made for this operation" in str(error)
                assert operation != "encrypt" or record.attributes.usage in {"B0", "M6", "K1"}
            else:
                assert result == getattr(outside, operation)(data)
    for operation in ("cmac", "hmac"):
        if operation in {"M6": "cmac", "M7": "hmac", "K1": "cmac", "10": "cmac"}.get(record.attributes.usage, ""):
            assert getattr(inside, operation)(b"data") == getattr(outside, operation)(b"data")


@pytest.mark.parametrize("name", ["cvk-tdes", "mac-iso9797-1-alg3"])
def test_left_halves(store: KeyStore, name: str) -> None:
    outside: Any = clear_key("T", clear(store, name))
    assert key_in_token(store, name).single.encrypt(bytes(16)) == outside.single.encrypt(bytes(16))


@pytest.mark.parametrize(
    ("name", "mask"), [("bdk-tdes", DUKPT_MASK), ("zmk-tdes", b"\x45" * 8), ("zmk-tdes", b"\x4d" * 8)]
)
def test_masked_keys(store: KeyStore, name: str, mask: bytes) -> None:
    outside: Any = clear_key("T", clear(store, name))
    assert key_in_token(store, name).masked(mask).encrypt(bytes(8)) == outside.masked(mask).encrypt(bytes(8))
    with pytest.raises(ValueError, match="that mask"):
        key_in_token(store, name).masked(b"\x01" * 8)


@pytest.mark.parametrize("name", ["imk-ac-tdes", "imk-smi-tdes", "imk-smc-tdes", "imk-dcvv-tdes"])
def test_derived_keys(store: KeyStore, name: str) -> None:
    outside: Any = clear_key("T", clear(store, name))
    data = bytes(range(16))
    with key_in_token(store, name).derive(data) as inside_derived, outside.derive(data) as outside_derived:
        assert inside_derived.encrypt(bytes(8)) == outside_derived.encrypt(bytes(8))
        assert inside_derived.single.encrypt(bytes(8)) == outside_derived.single.encrypt(bytes(8))


def test_keys_are_not_taken_apart_unless_their_usage_is(store: KeyStore) -> None:
    with pytest.raises(ValueError, match="halves"):
        _ = key_in_token(store, "pin-tdes").single
    with pytest.raises(ValueError, match="that mask"):
        key_in_token(store, "pin-tdes").masked(DUKPT_MASK)


@pytest.mark.parametrize("length", [16, 17, 20, 24, 63, 64])
def test_hmac_keys_of_any_length(holder: Keyholder, length: int) -> None:
    objects = KeyObjects(holder.token)
    value = bytes(range(1, length + 1))
    attributes = attributes_for("mac", "HMAC-SHA-256")
    attributes = type(attributes)(usage="M7", algorithm="H", mode="C", length=length)
    wrapped = objects.take(value, attributes)
    inside: Any = objects.open(wrapped.parts, attributes)
    outside: Any = clear_key("H", value)
    assert inside.hmac(b"data") == outside.hmac(b"data")
    assert objects.reveal(wrapped.parts, attributes) == value


def test_keys_are_distinct(store: KeyStore) -> None:
    values = [clear(store, name) for name in EVERY_KEY]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("role", "changes", "reason"),
    [
        ("pin", {"usage": "M6"}, "role pin takes"),
        ("mac", {"usage": "M6", "algorithm": "H"}, "role mac takes"),
        ("pin", {"mode": "X"}, "has mode B, D, E, N, not 'X'"),
        ("bdk", {"mode": "B"}, "has mode N, X"),
        ("pin", {"exportability": "X"}, "exportability is"),
        ("cvk", {"length": 24}, "has 16 bytes, not 24"),
        ("imk-dcvv", {"length": 24}, "has 16 bytes, not 24"),
        ("pin", {"length": 8}, "has 16 or 24 bytes, not 8"),
        ("zmk", {"length": 20}, "has 16 or 24 or 32 bytes"),
    ],
)
def test_misfits(role: str, changes: dict[str, Any], reason: str) -> None:
    import msgspec

    attributes = msgspec.structs.replace(next(iter(ROLES[role].algorithms.values())), **changes)
    assert reason in misfit(role, attributes)


def test_what_every_role_is_made_with_fits_it() -> None:
    for role, own in ROLES.items():
        for attributes in own.algorithms.values():
            assert misfit(role, attributes) == ""
            assert attributes.length in fitting_lengths(attributes)


def test_a_missing_or_added_part_is_noticed(holder: Keyholder) -> None:
    objects = KeyObjects(holder.token)
    cvk, pin = attributes_for("cvk"), attributes_for("pin")
    parts = objects.make(cvk).parts
    with pytest.raises(ValueError, match="other parts"):
        objects.open({"whole": parts["whole"]}, cvk)
    with pytest.raises(ValueError, match="other parts"):
        objects.open(parts, pin)


def test_keys_named_by_their_role(store: KeyStore) -> None:
    config = KeyConfig("x", "pin", "alpha", "AES")
    assert attributes_for(config.usage, config.algorithm).algorithm == "A"
    for role, algorithm in (("nothing", ""), ("pin", "DES"), ("pin", "HMAC-SHA-256")):
        with pytest.raises(ValueError, match="is not one of"):
            attributes_for(role, algorithm)
