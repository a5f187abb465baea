"""The key file, `state/hsm/keys.json`: a record a key version, each sealed, and the list of them sealed.

A file and the token's integrity key go in, records come out that are as the HSM wrote them. Called by the key store.

A seal is HMAC-SHA-256 of the record without it, as JSON with sorted names. It makes an edited usage, mode, status or
party noticed, by name of the key; the seal of the list makes a record noticed that was taken out or came from an older
file, and covers officers and proposals. A whole older file with its seals is not: the directory is its owner's.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hsm.algorithms.primitives import HmacKey
from hsm.errors import KeyStoreError
from hsm.key_commands import KeyInfo
from hsm.keys.attributes import ALGORITHMS, EXPORTABILITY, MODES, ROLES, USAGES, KeyAttributes
from hsm.keys.control import Control
from hsm.keys.key_objects import WHOLE
from hsm.keys.softhsm import write_private

FORMAT = 3
# Without dual control; still read, written as the present one with the next change.
_FORMAT_BEFORE = 2
# A list of keys without seals and without a number of its format.
_FORMAT_FIRST_RELEASE = 1
STATUSES = ("pending", "active", "previous", "retired")
# The file's entry for the data keys, which never leave the token; no key can be made for their role.
DATA_ROLE = "data"
_RECORD_SEAL = b"cardswitch key record\n"
_LIST_SEAL = b"cardswitch key list\n"


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version of a key at rest.

    `parts` are wrapped under the token's key `under`, upper-case hex; a data key has none. `until` is when a previous
    version of an exchanged key is not taken any more. Times are seconds since 1970. `seal` is upper-case hex.
    """

    name: str
    version: int
    role: str
    attributes: KeyAttributes
    status: str
    kcv: str
    party: str = ""
    origin: str = ""
    created_at: int = 0
    active_from: int = 0
    until: float = 0.0
    under: str = ""
    parts: dict[str, str] = {}
    seal: str = ""

    def __repr__(self) -> str:
        return f"KeyRecord({self.name!r}, version {self.version}, {self.status}, KCV {self.kcv})"

    @property
    def info(self) -> KeyInfo:
        """Its public attributes."""
        return KeyInfo(
            name=self.name,
            version=self.version,
            role=self.role,
            attributes=self.attributes,
            kcv=self.kcv,
            status=self.status,
            party=self.party,
            created_at=self.created_at,
            active_from=self.active_from,
            origin=self.origin,
        )


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file; `own` are the check values of the token's own keys by name."""

    format: int
    own: dict[str, str]
    keys: list[KeyRecord]
    control: Control = Control()
    seal: str = ""


_NO_FILE = KeyFile(FORMAT, {}, [])


class _FirstReleaseKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key in the first release's file: a list of these, without seals."""

    name: str
    usage: str
    party: str
    algorithm: str
    version: int
    kcv: str
    under: str
    wrapped: str


def read_key_file(file: Path, integrity_key: HmacKey, *, first_release: bool) -> KeyFile:
    """Return what is in the file, nothing where there is no file.

    Args:
        file: `keys.json`.
        integrity_key: of the token.
        first_release: whether a file of the first release, which has no seals, is taken.
    Raises:
        KeyStoreError: the file is broken, or was changed by somebody else; the text names the key.
    """
    read = unsealed_key_file(file)
    if read.format == _FORMAT_FIRST_RELEASE:
        if not first_release:
            raise KeyStoreError(f"{file}: a key file of the first release, but this token has left that behind")
        return msgspec.structs.replace(read, format=FORMAT)
    if read is _NO_FILE:
        return read
    for record in read.keys:
        if not hmac.compare_digest(_record_seal(record, integrity_key), record.seal.encode()):
            raise KeyStoreError(
                f"{file}: key {record.name} version {record.version} was changed outside the HSM: its seal is wrong"
            )
        _check(file, record)
    if not hmac.compare_digest(_list_seal(read, integrity_key), read.seal.encode()) or (
        read.format == _FORMAT_BEFORE and read.control != Control()
    ):
        raise KeyStoreError(f"{file}: keys were taken out or put back outside the HSM: the seal of the list is wrong")
    return read


def unsealed_key_file(file: Path) -> KeyFile:
    """Return what a file says, nothing where there is no file; its seals are not checked.

    Raises:
        KeyStoreError: the file cannot be read, or is no key file of a format that this release knows.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return _NO_FILE
    except OSError as error:
        raise KeyStoreError(f"{file}: {error.strerror}") from None
    if content.lstrip().startswith(b"["):
        return KeyFile(_FORMAT_FIRST_RELEASE, {}, _first_release_records(file, content))
    try:
        read = msgspec.json.decode(content, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise KeyStoreError(f"{file}: not a key file") from None
    if read.format not in (FORMAT, _FORMAT_BEFORE):
        raise KeyStoreError(f"{file}: format {read.format} is not of this release")
    return read


def write_key_file(
    file: Path,
    records: Iterable[KeyRecord],
    own: dict[str, str],
    integrity_key: HmacKey,
    control: Control,
) -> None:
    """Replace the file at once or not at all, durable when this returns.

    Raises:
        KeyStoreError: it cannot be written.
    """
    ordered = sorted(records, key=lambda record: (record.name, record.version))
    sealed = [msgspec.structs.replace(record, seal=_record_seal(record, integrity_key).decode()) for record in ordered]
    unsealed = KeyFile(FORMAT, own, sealed, control)
    content = msgspec.json.encode(
        msgspec.structs.replace(unsealed, seal=_list_seal(unsealed, integrity_key).decode()), order="sorted"
    )
    try:
        write_private(file, msgspec.json.format(content) + b"\n")
    except OSError as error:
        raise KeyStoreError(f"{file}: cannot be written: {error.strerror}") from None


def _record_seal(record: KeyRecord, integrity_key: HmacKey) -> bytes:
    unsealed = msgspec.json.encode(msgspec.structs.replace(record, seal=""), order="sorted")
    return integrity_key.hmac(_RECORD_SEAL + unsealed).hex().upper().encode()


def _list_seal(content: KeyFile, integrity_key: HmacKey) -> bytes:
    own = [f"{name} {kcv}" for name, kcv in sorted(content.own.items())]
    listed = "\n".join([*own, *(record.seal for record in content.keys)]).encode()
    if content.format != _FORMAT_BEFORE:
        listed += b"\ncontrol " + msgspec.json.encode(content.control, order="sorted")
    return integrity_key.hmac(_LIST_SEAL + listed).hex().upper().encode()


def _check(file: Path, record: KeyRecord) -> None:
    """Refuse what a later release wrote and this one does not know."""
    own = record.attributes
    known = (
        record.status in STATUSES
        and (record.role in ROLES or record.role == DATA_ROLE)
        and own.usage in USAGES
        and own.algorithm in ALGORITHMS
        and own.mode in MODES
        and own.exportability in EXPORTABILITY
    )
    if not known:
        raise KeyStoreError(f"{file}: key {record.name} version {record.version} is of a kind this release lacks")


def _first_release_records(file: Path, content: bytes) -> list[KeyRecord]:
    try:
        read = msgspec.json.decode(content, type=list[_FirstReleaseKey])
        return [
            KeyRecord(
                name=key.name,
                version=key.version,
                role=key.usage,
                attributes=next(iter(ROLES[key.usage].algorithms.values())),
                status="active",
                kcv=key.kcv,
                party=key.party,
                origin="generated",
                under=key.under,
                parts={WHOLE: key.wrapped},
            )
            for key in read
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        raise KeyStoreError(f"{file}: not a key file") from None
