"""The PKCS#11 token: opened and logged in once, its own keys made on first start and held as session objects.

The configuration and a directory go in; `Token` gives handles to the storage key, the data keys and the fingerprint
key, and the seals of key records and of the audit. Called by `hsm.keys.holder` at start and again when the token was
lost. One thread only: python-pkcs11 initialises the library without OS locking.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag
from pkcs11.exceptions import PKCS11Error

from hsm.algorithms.check_value import check_value
from hsm.config import HsmConfig
from hsm.errors import TokenError
from hsm.keys.backup import heal, make_backup
from hsm.keys.direct_calls import use_library
from hsm.keys.softhsm import finish_softhsm, make_durable, prepare_softhsm
from hsm.keys.token_keys import TokenAesKey, TokenHmacKey

PIN_VARIABLE = "CARDSWITCH_HSM_PIN"
STORAGE_KEY = "storage-1"
FIRST_DATA_KEY = "pan-1"
FINGERPRINT_KEY = "fingerprint-1"
INTEGRITY_KEY = "integrity-1"
AUDIT_KEY = "audit-1"
DATA_KEY = "pan"
OWN_KEY_BITS = 256

# Keys that the token makes for itself, with their permissions. AES keys may sign, for their check value.
_DATA_USES = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.SIGN
_OWN_KEYS = {
    STORAGE_KEY: (KeyType.AES, MechanismFlag.WRAP | MechanismFlag.UNWRAP | MechanismFlag.SIGN),
    FIRST_DATA_KEY: (KeyType.AES, _DATA_USES),
    FINGERPRINT_KEY: (KeyType.GENERIC_SECRET, MechanismFlag.SIGN),
    INTEGRITY_KEY: (KeyType.GENERIC_SECRET, MechanismFlag.SIGN),
    AUDIT_KEY: (KeyType.GENERIC_SECRET, MechanismFlag.SIGN),
}
# The first release did without these. The audit key is made after the key file was rewritten, so that a token which
# has it never takes a key file of the first release, whose usages nothing protects.
_LATER_KEYS = (INTEGRITY_KEY, AUDIT_KEY)
_DATA_KEY_NAME = re.compile(rf"{DATA_KEY}-([1-9]\d*)")


class OwnKey(msgspec.Struct, frozen=True):
    """A key that never leaves the token: its object, and its check value."""

    handle: Any
    kcv: str


class Token:
    """An open token.

    Args:
        config: module, and the values that identify the token: label, slot, serial.
        directory: `state/hsm`: the private SoftHSM's files, or `pin` of another token, and `keys.json`.
    Raises:
        TokenError: no such token, wrong PIN, a key that was lost, or the library fails.
        ConfigurationError: no PKCS#11 library.
    Attributes:
        session: the one session, for link keys.
        storage_key: wraps link keys.
        data_keys: by name, `pan-1` …; `data_key_name` is the newest.
        fingerprint_key: HMAC-SHA-256.
        integrity_key: seals key records.
        audit_key: seals the audit; missing until `finish_upgrade` where `upgrading`.
        own: the objects of all these by name, for check values.
        upgrading: this token was made by the first release and its key file is still to be rewritten.
    """

    session: Any
    storage_key: Any
    fingerprint_key: Any
    integrity_key: TokenHmacKey
    audit_key: TokenHmacKey
    data_keys: dict[str, Any]
    data_key_name: str

    def __init__(self, config: HsmConfig, directory: Path) -> None:
        module, new = config.module_path(), False
        self._files = None if config.module else directory / "tokens"
        if config.module:
            pin = _pin(Path(config.pin_file) if config.pin_file else directory / "pin")
        else:
            heal(directory)
            pins, new = prepare_softhsm(directory, module, config.token)
            pin = pins.user
        self.upgrading = False
        with token_errors("opening the token"):
            self._library = pkcs11.lib(module)
            if self._library.initialized:
                self._library.finalize()  # a token that was lost is opened from the start
            self._library.initialize()
        use_library(module)
        try:
            with token_errors("opening the token"):
                self.session = self._found(config).open(rw=True, user_pin=pin)
                self._load(make_missing=new or (bool(config.module) and not (directory / "keys.json").exists()))
        except TokenError:
            with suppress(TokenError):
                self.close()
            raise
        if new:
            self._make_durable()
            make_backup(directory)
            finish_softhsm(directory)

    def close(self) -> None:
        """Forget all session keys and log out."""
        with token_errors("closing the token"):
            self._library.finalize()

    def seal_audit(self, data: bytes) -> bytes:
        """Return the HMAC-SHA-256 of the audit key over data, 32 bytes."""
        return self.audit_key.hmac(data)

    def random_bytes(self, count: int) -> bytes:
        """Return that many bytes of the token's random generator."""
        with token_errors("making random bytes"):
            made: bytes = self.session.generate_random(8 * count)
        return made

    def make_data_key(self) -> str:
        """Make the next data key in the token and return its name; `use_data_keys` puts it to use."""
        name = f"{DATA_KEY}-{self._last_data_key + 1}"
        with token_errors(f"making key {name}"):
            self._make(name, KeyType.AES, _DATA_USES)
            self._add_data_key(name, self._own_key(name, self._objects(name)))
        self._make_durable()
        return name

    def destroy_data_key(self, name: str) -> None:
        """Destroy a data key in the token: ciphertexts under it can never be read again."""
        with token_errors(f"destroying key {name}"):
            for handle in self._objects(name):
                handle.destroy()
            if self.data_keys[name] is not self.own[name].handle:
                self.data_keys[name].destroy()
        del self.data_keys[name], self.own[name]
        self._make_durable()

    def finish_upgrade(self) -> None:
        """Make the audit key, now that no key file of the first release is left."""
        if self.upgrading:
            with token_errors(f"making key {AUDIT_KEY}"):
                self._make(AUDIT_KEY, *_OWN_KEYS[AUDIT_KEY])
                self.own[AUDIT_KEY] = self._own_key(AUDIT_KEY, self._objects(AUDIT_KEY))
                self.audit_key = TokenHmacKey(_session_copy(self.own[AUDIT_KEY].handle))
            self._make_durable()
            self.upgrading = False

    def _found(self, config: HsmConfig) -> Any:
        if config.slot < 0:
            serial = {"token_serial": config.serial.encode()} if config.serial else {}
            return self._library.get_token(token_label=config.token, **serial)
        for slot in self._library.get_slots():
            if slot.slot_id == config.slot:
                token = slot.get_token()
                if config.serial and token.serial != config.serial.encode():
                    raise TokenError(f"the token in slot {config.slot} has another serial number than hsm.serial")
                return token
        raise TokenError(f"there is no slot {config.slot}")

    def _load(self, *, make_missing: bool) -> None:
        objects = self._objects_by_label()
        first_release = AUDIT_KEY not in objects
        for name, (kind, uses) in _OWN_KEYS.items():
            if name in objects or (name == FIRST_DATA_KEY and _data_versions(objects)):
                continue
            if not make_missing and not (first_release and name in _LATER_KEYS):
                raise TokenError(f"the token has lost its key {name}; restore state/hsm from a backup")
            if name == AUDIT_KEY and not make_missing:
                self.upgrading = True
                continue
            self._make(name, kind, uses)
            objects[name] = self._objects(name)
        if self.upgrading:
            self._make_durable()
        self.own = {name: self._own_key(name, objects[name]) for name in _OWN_KEYS if name in objects}
        self.own.pop(FIRST_DATA_KEY, None)
        # A session copy works at 14 µs an operation where the token object takes 22 µs.
        self.storage_key = self.own[STORAGE_KEY].handle
        self.fingerprint_key = _session_copy(self.own[FINGERPRINT_KEY].handle)
        self.integrity_key = TokenHmacKey(_session_copy(self.own[INTEGRITY_KEY].handle))
        if not self.upgrading:
            self.audit_key = TokenHmacKey(_session_copy(self.own[AUDIT_KEY].handle))
        self.data_keys, self._last_data_key = {}, max(_data_versions(objects))
        for _, name in sorted(_data_versions(objects).items()):
            try:
                self._add_data_key(name, self._own_key(name, objects[name]))
            except TokenError:
                continue  # cut off while it was made, so nothing is under it; the key store misses it if it was used
        if not self.data_keys:
            raise TokenError(f"the token has lost its key {FIRST_DATA_KEY}; restore state/hsm from a backup")

    def _add_data_key(self, name: str, own: OwnKey) -> None:
        self.own[name] = own
        self.data_keys[name] = _session_copy(own.handle)
        self.data_key_name = name
        self._last_data_key = max(self._last_data_key, data_key_version(name))

    def _make(self, name: str, kind: KeyType, uses: MechanismFlag) -> None:
        self.session.generate_key(
            kind,
            OWN_KEY_BITS,
            label=name,
            store=True,
            capabilities=uses,
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )

    def _objects(self, label: str) -> list[Any]:
        return list(self.session.get_objects({Attribute.LABEL: label, Attribute.TOKEN: True}))

    def _objects_by_label(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for kind in (KeyType.AES, KeyType.GENERIC_SECRET):
            for key in self.session.get_objects({Attribute.KEY_TYPE: kind, Attribute.TOKEN: True}):
                found.setdefault(key.label, []).append(key)
        return found

    def _own_key(self, name: str, objects: list[Any]) -> OwnKey:
        """Return the object that works: one that was cut off while it was made has its label, but no value."""
        kind = _OWN_KEYS.get(name, (KeyType.AES, None))[0]
        working = [OwnKey(handle, kcv) for handle in objects if (kcv := _check_value(handle, kind))]
        if not working:
            raise TokenError(f"the token has lost its key {name}; restore state/hsm from a backup")
        if len({key.kcv for key in working}) > 1:
            raise TokenError(f"the token has two different keys named {name}")
        return working[0]

    def _make_durable(self) -> None:
        if self._files is not None:
            make_durable(self._files)


def data_key_version(name: str) -> int:
    """Return 3 for `pan-3`.

    Raises:
        ValueError: not the name of a data key.
    """
    match = _DATA_KEY_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a data key")
    return int(match[1])


@contextmanager
def token_errors(doing: str) -> Iterator[None]:
    """Turn errors of the library into TokenError; their text is a class name and never data."""
    try:
        yield
    except PKCS11Error as error:
        raise TokenError(f"{doing}: {type(error).__name__}") from None


def _data_versions(labels: dict[str, list[Any]]) -> dict[int, str]:
    return {int(match[1]): label for label in labels if (match := _DATA_KEY_NAME.fullmatch(label or ""))}


def _session_copy(handle: Any) -> Any:
    try:
        return handle.copy({Attribute.TOKEN: False})
    except PKCS11Error:  # tokens may forbid copies; the token object does the same, slower
        return handle


def _check_value(handle: Any, kind: KeyType) -> str:
    """Return the check value of a token key, or an empty string where the object is not whole, or is no secret."""
    try:
        if not handle[Attribute.SENSITIVE] or handle[Attribute.EXTRACTABLE]:
            return ""
        if kind is KeyType.GENERIC_SECRET:
            return check_value("H", TokenHmacKey(handle))
        if handle[Attribute.SIGN]:
            return check_value("A", TokenAesKey(handle, OWN_KEY_BITS))
        copy = handle.copy({Attribute.TOKEN: False, Attribute.SIGN: True})  # a key of the first release may not sign
        kcv = check_value("A", TokenAesKey(copy, OWN_KEY_BITS))
        copy.destroy()
    except (PKCS11Error, TokenError):
        return ""
    return kcv


def _pin(path: Path) -> str:
    pin = os.environ.get(PIN_VARIABLE, "")
    if not pin:
        try:
            pin = path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise TokenError(f"the token's PIN is expected in {path} or in {PIN_VARIABLE}") from None
    return pin
