"""The versions of all keys: which is in force, which is still taken, which is gone.

The token and `keys.json` go in; keys ready for use come out, and each change is durable in the file before it is
announced. Called by `hsm.keys.holder` at start, by the key desk, and by `hsm.keys.provisioning`.

A change that is cut off anywhere leaves the file as it was, or as it is to be. Objects in the token alone then do no
harm: an object that the file does not name, or one that it says is retired.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import cast

import msgspec

from hsm.algorithms.check_value import check_value
from hsm.errors import KeyStoreError, TokenError
from hsm.key_commands import KeyInfo
from hsm.keys.attributes import KeyAttributes
from hsm.keys.backup import drop_backups, list_backups, make_backup
from hsm.keys.control import Control, WrappedComponent
from hsm.keys.key_objects import WHOLE, KeyObjects, WrappedKey
from hsm.keys.keyring import HeldKey
from hsm.keys.lifetimes import ALWAYS_USED, LIFETIME_DAYS, expiry
from hsm.keys.own_keys import check_own_keys, data_record, data_records, own_check_values, own_infos
from hsm.keys.records import DATA_ROLE, KeyRecord, read_key_file, write_key_file
from hsm.keys.token import DATA_KEY, STORAGE_KEY, Token, data_key_version
from hsm.keys.token_keyring import FOREVER, TokenKeyring, Version
from hsm.keys.token_keys import TokenKey

# Two parties change these together, so that the version before is over soon. Values made with the others are on cards
# and in terminals for years: their versions are taken until an officer retires them.
EXCHANGED_ROLES = frozenset({"pin", "mac", "zmk"})
# Retired versions of a name that are kept for lists; an exchange a day would else fill the file.
_RETIRED_KEPT = 10

_Versions = dict[tuple[str, int], KeyRecord]


class ReusedKey(KeyStoreError):
    """A key value that came in was in use before, under an earlier version."""


class KeyStore:
    """The key versions of an open token.

    Args:
        token: where keys are made, wrapped and unwrapped.
        directory: `state/hsm`, for `keys.json` and the backups.
        grace_s: time for which a version is accepted after the next one came into force.
        clock: seconds since 1970.
        lifetime_days: cryptoperiods by role.
        refuse_expired: whether nothing new is made with a key whose period is over.
    Raises:
        KeyStoreError: the file is broken or was changed outside, or a key is not what it was when it was made.
        TokenError: the token fails, or lost a data key.
    Attributes:
        configured: names of `[[key]]`, whose version in force is not to be retired.
    """

    configured: frozenset[str] = frozenset()

    def __init__(
        self,
        token: Token,
        directory: Path,
        *,
        grace_s: float = 60.0,
        clock: Callable[[], float] = time,
        lifetime_days: Mapping[str, int] = LIFETIME_DAYS,
        refuse_expired: bool = False,
    ) -> None:
        self._token = token
        self._objects = KeyObjects(token)
        self._directory = directory
        self._file = directory / "keys.json"
        self._grace_s = grace_s
        self._clock = clock
        self._lifetime_days = lifetime_days
        self._refuse_expired = refuse_expired
        self._gathering = False
        if not self._file.exists() and any("keys.json" in backup.files for backup in list_backups(directory)):
            raise KeyStoreError(f"{self._file} is missing")
        read = read_key_file(self._file, token.integrity_key, first_release=token.upgrading)
        check_own_keys(token, read.own)
        self._control = read.control
        self._records: _Versions = {(record.name, record.version): record for record in read.keys}
        self._held = {place: self._opened(record) for place, record in self._records.items() if record.parts}
        found = data_records(token, self.versions(DATA_KEY), int(clock()))
        self._records |= {(DATA_KEY, record.version): record for record in found}
        if found or token.upgrading:
            self._write(self._records)
        token.finish_upgrade()
        if read.own != own_check_values(self._token):
            self._write(self._records)
        make_backup(directory)

    @contextmanager
    def one_write(self) -> Iterator[None]:
        """Write all changes made inside at the end, together; for a first start."""
        self._gathering = True
        before = self._records
        try:
            yield
        finally:
            self._gathering = False
        if self._records is not before:
            self._commit(dict(self._records))

    @property
    def control(self) -> Control:
        """Officers and proposals."""
        return self._control

    def set_control(self, control: Control, *, backed_up: bool = True) -> None:
        """Replace officers and proposals, durable when this returns.

        Args:
            backed_up: make copies before and after, as with keys; for officers, not for proposals.
        Raises:
            KeyStoreError: it cannot be written; then nothing has changed.
        """
        before = self._control
        if backed_up:
            make_backup(self._directory)
        self._control = control
        try:
            self._write(self._records)
        except KeyStoreError:
            self._control = before
            raise
        if backed_up:
            with suppress(KeyStoreError):
                make_backup(self._directory)

    def wrap_component(self, component: bytes) -> WrappedComponent:
        """Return a component under the token's storage key, for the key file: 16 to 32 bytes."""
        length = len(component)
        return WrappedComponent(length, self._objects.take(component, _component_attributes(length)).parts)

    def unwrap_component(self, wrapped: WrappedComponent) -> bytes:
        """Return a component in the clear, for the putting together of a key."""
        return self._objects.reveal(wrapped.parts, _component_attributes(wrapped.length))

    def infos(self, name: str = "") -> tuple[KeyInfo, ...]:
        """Return all versions of all keys, or of one, by name and version; the token's own keys at the end."""
        records = sorted(self._records.values(), key=lambda record: (record.name, record.version))
        found = (*(self.info(record) for record in records), *own_infos(self._token))
        return tuple(info for info in found if not name or info.name == name)

    def info(self, record: KeyRecord) -> KeyInfo:
        """Return what everybody may see of a version."""
        return msgspec.structs.replace(record.info, expires_at=self._expires_at(record))

    def _expires_at(self, record: KeyRecord) -> int:
        if record.status in ("pending", "retired"):
            return 0
        return expiry(self._lifetime_days, record.role, record.active_from, record.created_at)

    def check_values(self) -> dict[str, str]:
        """Return the check value of the version in force, by key name."""
        return {record.name: record.kcv for record in self._records.values() if record.status == "active"}

    def versions(self, name: str) -> list[KeyRecord]:
        """Return the versions of a key, oldest first; empty where there is no such key."""
        found = [record for record in self._records.values() if record.name == name]
        return sorted(found, key=lambda record: record.version)

    def active(self, name: str) -> KeyRecord | None:
        """Return the version in force."""
        return next((record for record in self.versions(name) if record.status == "active"), None)

    def held(self, record: KeyRecord) -> HeldKey:
        """Return a version ready for use, in any status; KeyError where it is retired."""
        return self._held[record.name, record.version]

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._clock()

    def random_bytes(self, count: int) -> bytes:
        """Return that many bytes of the token's random generator."""
        return self._token.random_bytes(count)

    def reveal(self, record: KeyRecord) -> bytes:
        """Return the clear value of a version, for a key block."""
        return self._objects.reveal(record.parts, record.attributes)

    def keyring(self) -> TokenKeyring:
        """Return the keys as they are now, for the engine."""
        versions: dict[str, list[Version]] = {}
        for (name, _), held in sorted(self._held.items()):
            record = self._records[name, held.version]
            until = record.until if record.role in EXCHANGED_ROLES else FOREVER
            refused_from = FOREVER
            if self._refuse_expired and record.role not in ALWAYS_USED:
                refused_from = self._expires_at(record) or FOREVER
            versions.setdefault(name, []).append(Version(held, record.status, until, refused_from))
        return TokenKeyring(self._token, versions, clock=self._clock)

    def generate(
        self, name: str, role: str, attributes: KeyAttributes, party: str, *, pending: bool = False
    ) -> KeyRecord:
        """Make the next version of a key in the token, in force at once unless `pending`."""
        made = self._objects.make(attributes)
        return self._add(name, role, attributes, party, made, "generated", pending=pending)

    def take(
        self,
        name: str,
        role: str,
        attributes: KeyAttributes,
        party: str,
        value: bytes,
        origin: str,
        *,
        pending: bool = False,
    ) -> KeyRecord:
        """Make the next version of a key from a clear value, which has been checked.

        Where the value is the one in force already, nothing changes: a message that came twice has the effect of one.
        Raises:
            KeyStoreError: the value is that of an earlier version, as far back as versions are kept.
        """
        wrapped = self._objects.take(value, attributes)
        for record in reversed(self.versions(name)):
            same = hmac.compare_digest(record.kcv, wrapped.kcv) and (
                not record.parts or _same_value(record.parts, wrapped.parts)
            )
            if same and record.status in ("active", "pending") and not pending:
                return record if record.status == "active" else self.activate(record)
            if same and record.status != "pending":
                raise ReusedKey(f"key {name}: this is the value of version {record.version}, which was replaced")
        return self._add(name, role, attributes, party, wrapped, origin, pending=pending)

    def activate(self, record: KeyRecord) -> KeyRecord:
        """Put a pending version in force; the one before is taken for the grace time, of a role that is not exchanged
        until it is retired."""
        changed = dict(self._records)
        active = self._put_in_force(changed, record)
        self._commit(changed)
        return active

    def rotate_data_key(self) -> KeyRecord:
        """Make the next data key in the token; new writes take it at once, the others stay for reading."""
        make_backup(self._directory)
        version = data_key_version(self._token.make_data_key())
        changed = dict(self._records)
        for record in self.versions(DATA_KEY):
            if record.status == "active":
                changed[DATA_KEY, record.version] = msgspec.structs.replace(record, status="previous")
        changed[DATA_KEY, version] = data_record(self._token, version, "active", int(self._clock()))
        self._commit(changed, backed_up=True)
        return self._records[DATA_KEY, version]

    def retire(self, record: KeyRecord) -> KeyRecord:
        """Take a version out of use and destroy its value, in the backups too; errors as in `forget`."""
        changed = dict(self._records)
        retired = changed[record.name, record.version] = _retired(record)
        self._commit(changed)
        self.forget(retired)
        return retired

    def forget(self, record: KeyRecord) -> None:
        """Destroy a retired version where it still is; to be done again where it was cut off.

        Raises:
            KeyStoreError: a copy cannot be made, or the older ones not deleted.
        """
        name = f"{DATA_KEY}-{record.version}"
        if record.role == DATA_ROLE and name in self._token.own:
            self._token.destroy_data_key(name)
        drop_backups(self._directory, but=make_backup(self._directory))

    def _add(
        self,
        name: str,
        role: str,
        attributes: KeyAttributes,
        party: str,
        wrapped: WrappedKey,
        origin: str,
        *,
        pending: bool,
    ) -> KeyRecord:
        versions = self.versions(name)
        record = KeyRecord(
            name=name,
            version=versions[-1].version + 1 if versions else 1,
            role=role,
            attributes=attributes,
            status="pending",
            kcv=wrapped.kcv,
            party=party,
            origin=origin,
            created_at=int(self._clock()),
            under=STORAGE_KEY,
            parts=wrapped.parts,
        )
        changed = dict(self._records)
        for old in versions:
            if old.status == "pending":  # an exchange that was never finished
                changed[name, old.version] = _retired(old)
        changed[name, record.version] = record
        if not pending:
            record = self._put_in_force(changed, record)
        self._commit(changed)
        return record

    def _put_in_force(self, changed: _Versions, record: KeyRecord) -> KeyRecord:
        for (name, version), old in list(changed.items()):
            if name != record.name or version == record.version:
                continue
            if old.status == "active":
                until = self._clock() + self._grace_s if old.role in EXCHANGED_ROLES else 0.0
                changed[name, version] = msgspec.structs.replace(old, status="previous", until=until)
            elif old.status == "previous" and old.role in EXCHANGED_ROLES:
                changed[name, version] = _retired(old)
        active = changed[record.name, record.version] = msgspec.structs.replace(
            record, status="active", active_from=int(self._clock())
        )
        return active

    def _commit(self, changed: _Versions, *, backed_up: bool = False) -> None:
        """Write what changed, and only then let it be so here."""
        self._drop_what_is_over(changed)
        held = {
            place: self._held[place] if place in self._held else self._opened(record)
            for place, record in changed.items()
            if record.parts
        }
        if not backed_up and not self._gathering:
            make_backup(self._directory)
        if not self._gathering:
            self._write(changed)
        gone = [cast(TokenKey, key.key) for place, key in self._held.items() if place not in held]
        self._records, self._held = changed, held
        for key in gone:
            key.destroy()
        if self._gathering:
            return
        with suppress(KeyStoreError):  # the change is made; the next one is refused without a copy of this
            make_backup(self._directory)

    def _write(self, records: Mapping[tuple[str, int], KeyRecord]) -> None:
        own = own_check_values(self._token)
        write_key_file(self._file, records.values(), own, self._token.integrity_key, self._control)

    def _drop_what_is_over(self, changed: _Versions) -> None:
        now = self._clock()
        retired: dict[str, list[int]] = {}
        for place, record in sorted(changed.items()):
            if record.status == "previous" and record.role in EXCHANGED_ROLES and record.until <= now:
                changed[place] = _retired(record)
            if changed[place].status == "retired" and record.role != DATA_ROLE:
                retired.setdefault(record.name, []).append(record.version)
        for name, versions in retired.items():
            for version in versions[:-_RETIRED_KEPT]:
                del changed[name, version]

    def _opened(self, record: KeyRecord) -> HeldKey:
        try:
            if record.under != STORAGE_KEY:
                raise ValueError(f"it is under {record.under}, which this token does not have")
            key = self._objects.open(record.parts, record.attributes)
            kcv = check_value(record.attributes.algorithm, key)
        except (TokenError, ValueError) as error:
            raise KeyStoreError(f"{self._file}: key {record.name} does not unwrap: {error}") from None
        if not hmac.compare_digest(kcv, record.kcv):
            raise KeyStoreError(f"{self._file}: key {record.name} has check value {kcv}, expected {record.kcv}")
        return HeldKey(record.name, record.version, record.attributes, record.kcv, key)


def _retired(record: KeyRecord) -> KeyRecord:
    return msgspec.structs.replace(record, status="retired", until=0.0, under="", parts={})


def _component_attributes(length: int) -> KeyAttributes:
    return KeyAttributes(usage="M7", algorithm="H", mode="C", exportability="N", length=length)


def _same_value(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    # Key wrapping has no nonce: equal values are equal under the same storage key. Source: RFC 3394.
    return hmac.compare_digest(one[WHOLE], other[WHOLE])
