"""The keys that never leave the token, held against what the key file says of them.

The token and the file's word go in; records of the data keys come out, or the error that one is lost or is another.
Called by the key store.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

import msgspec

from hsm.errors import TokenError
from hsm.key_commands import KeyInfo
from hsm.keys.attributes import KeyAttributes
from hsm.keys.records import DATA_ROLE, KeyRecord
from hsm.keys.token import DATA_KEY, OWN_KEY_BITS, Token, data_key_version


def _own(usage: str, algorithm: str, mode: str) -> KeyAttributes:
    return KeyAttributes(usage=usage, algorithm=algorithm, mode=mode, exportability="N", length=OWN_KEY_BITS // 8)


# For lists: nobody asks for these keys by name.
_DATA_ATTRIBUTES = _own("D0", "A", "B")
_OWN_ATTRIBUTES = {
    "storage": _own("K0", "A", "B"),
    "fingerprint": _own("M7", "H", "G"),
    "integrity": _own("M7", "H", "C"),
    "audit": _own("M7", "H", "C"),
}
RESERVED_NAMES = frozenset({DATA_KEY, *_OWN_ATTRIBUTES})


def own_infos(token: Token) -> tuple[KeyInfo, ...]:
    """Return what a list says of the token's own keys, data keys apart."""
    return tuple(
        KeyInfo(name=name, version=1, role=name, attributes=attributes, kcv=own.kcv, status="active", origin="token")
        for name, attributes in _OWN_ATTRIBUTES.items()
        if (own := token.own.get(f"{name}-1")) is not None
    )


def own_check_values(token: Token) -> dict[str, str]:
    """Return the check values of the token's own keys, data keys apart, for the key file."""
    return {name: own.kcv for name, own in token.own.items() if name not in token.data_keys}


def check_own_keys(token: Token, expected: Mapping[str, str]) -> None:
    """Raise TokenError where one is lost, or is another than when the key file was written."""
    for name, kcv in expected.items():
        _check(token, name, kcv)


def data_record(token: Token, version: int, status: str, now: int) -> KeyRecord:
    """Return the record of a data key that is in the token; `now` in seconds since 1970."""
    return KeyRecord(
        name=DATA_KEY,
        version=version,
        role=DATA_ROLE,
        attributes=_DATA_ATTRIBUTES,
        status=status,
        kcv=token.own[f"{DATA_KEY}-{version}"].kcv,
        origin="token",
        created_at=now,
    )


def data_records(token: Token, known: Iterable[KeyRecord], now: int) -> list[KeyRecord]:
    """Hold the file's data keys against the token's, and return the records that have to change.

    A key that the file does not know was made right before a process was killed: it is taken in, and as the newest
    takes over. One that the file says is retired is destroyed now.
    Raises:
        TokenError: the token has lost one, or it is another.
    """
    records = {record.version: record for record in known}
    for version, record in records.items():
        name = f"{DATA_KEY}-{version}"
        if record.status != "retired":
            _check(token, name, record.kcv)
        elif name in token.own:
            token.destroy_data_key(name)
    newest = data_key_version(token.data_key_name)
    changed = []
    for version in sorted(map(data_key_version, token.data_keys)):
        status = "active" if version == newest else "previous"
        record = records.get(version) or data_record(token, version, "", now)
        if record.status != status:
            changed.append(msgspec.structs.replace(record, status=status))
    return changed


def _check(token: Token, name: str, kcv: str) -> None:
    own = token.own.get(name)
    if own is None:
        raise TokenError(f"the token has lost its key {name}; restore state/hsm from a backup")
    if not hmac.compare_digest(own.kcv, kcv):
        raise TokenError(f"the token's key {name} has check value {own.kcv}, expected {kcv}")
