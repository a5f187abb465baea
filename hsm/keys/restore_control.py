"""Dual control of restoring a copy: two officers sign for the same copy before it is put back.

`state/hsm` and an officer's key go in; the copy to restore comes out once a second officer has signed. Called by
`cardswitch hsm restore`, which holds the token's lock. The first signature waits in `restore.json` for a day. Officers
are those of the key file, or where it cannot be read, of the last good copy; its seals are checked when the token is
opened afterwards. A user who can write these files can put a copy back without this command.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hsm.errors import KeyStoreError
from hsm.keys.backup import MANIFEST, Backup, list_backups, newest_intact
from hsm.keys.control import Control
from hsm.keys.softhsm import write_private
from hsm.officers import OfficerKey, restore_text, verified

RESTORE_EXPIRY_S = 86_400
_WAITING = "restore.json"


class WaitingRestore(msgspec.Struct, frozen=True, kw_only=True):
    """The first officer's signature for a copy; `copy` is the SHA-256 of its manifest, `made_at` seconds since 1970."""

    number: int
    copy: str
    officer: str
    made_at: int
    signature: str


class _Controlled(msgspec.Struct):
    control: Control = Control()


def standing_control(directory: Path) -> Control:
    """Return who the officers are, as far as a damaged directory says."""
    copy = newest_intact(directory)
    places = [directory, *([copy.path] if copy is not None else [])]
    return next((control for place in places if (control := _control_in(place)).enforced), Control())


def sign_restore(directory: Path, number: int, key: OfficerKey, now: int) -> tuple[Backup, tuple[str, ...]]:
    """Sign for a copy, by number, or the last good one for 0.

    Returns:
        The copy and who has signed: one officer, who waits for another, or two: restore it.
    Raises:
        KeyStoreError: the key is no officer's, there is no such copy, or one that would end dual control.
    """
    control = standing_control(directory)
    backup = _copy(directory, number)
    digest = hashlib.sha256((backup.path / MANIFEST).read_bytes()).hexdigest()
    card = control.officer(key.name)
    text = restore_text(control.store, digest, key.name, now)
    signature = key.sign(text)
    if card is None or not verified(card, text, signature):
        raise KeyStoreError(f"{key.name} is no officer of this key store, or has another key")
    if not _control_in(backup.path).enforced:
        raise KeyStoreError(f"copy {backup.number} is from before there were officers: it would end dual control")
    first = _waiting(directory)
    if first is not None and _counts(first, control, backup, digest, now) and first.officer != key.name:
        (directory / _WAITING).unlink(missing_ok=True)
        return backup, (first.officer, key.name)
    waiting = WaitingRestore(number=backup.number, copy=digest, officer=key.name, made_at=now, signature=signature)
    write_private(directory / _WAITING, msgspec.json.encode(waiting))
    return backup, (key.name,)


def _counts(first: WaitingRestore, control: Control, backup: Backup, digest: str, now: int) -> bool:
    card = control.officer(first.officer)
    text = restore_text(control.store, first.copy, first.officer, first.made_at)
    return (
        card is not None
        and (first.number, first.copy) == (backup.number, digest)
        and 0 <= now - first.made_at < RESTORE_EXPIRY_S
        and verified(card, text, first.signature)
    )


def _copy(directory: Path, number: int) -> Backup:
    found = newest_intact(directory)
    if number:
        found = next((one for one in list_backups(directory) if one.number == number), None)
    if found is None or not found.intact:
        raise KeyStoreError(f"there is no backup {number or ''} that is intact".replace("  ", " "))
    return found


def _control_in(directory: Path) -> Control:
    try:
        return msgspec.json.decode((directory / "keys.json").read_bytes(), type=_Controlled).control
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Control()


def _waiting(directory: Path) -> WaitingRestore | None:
    try:
        return msgspec.json.decode((directory / _WAITING).read_bytes(), type=WaitingRestore)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
