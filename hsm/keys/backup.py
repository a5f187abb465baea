"""Copies of the key file and of the private token's files, and their way back.

`state/hsm` goes in; `state/hsm/backup/NNNNNN/` holds what it was, with a digest of each file. Called by the key store
before and after each change, and by `cardswitch hsm backup` and `restore`.

SoftHSM empties and rewrites `token.object` at each login, to count up the number in its first 8 bytes: a process killed
in that moment leaves it empty. `heal` puts it back; the number is no part of what copies are compared by.

A copy is as secret as what it is a copy of: the token's PIN lies beside it. It protects against files that were
damaged, not against a disk that dies: take `backup/` away from the machine.
"""

from __future__ import annotations

import hmac
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import time

import msgspec

from hsm.errors import KeyStoreError
from hsm.keys.softhsm import make_durable, write_private

KEPT = 12
FOLDER = "backup"
MANIFEST = "manifest.json"
_SINGLE_FILES = ("keys.json", "pins.json", "initialised")
_TOKENS = "tokens"
_FRESH = ".new"
_REWRITTEN = "/token.object"
_COUNTER_BYTES = 8


class Backup(msgspec.Struct, frozen=True):
    """A copy: `files` by path below `state/hsm` with the SHA-256 of each, in hex; `made_at` in seconds since 1970."""

    number: int
    path: Path
    made_at: int
    files: dict[str, str]

    @property
    def intact(self) -> bool:
        """Whether all files are there and as they were."""
        try:
            return all(
                hmac.compare_digest(_digest(name, (self.path / name).read_bytes()), digest)
                for name, digest in self.files.items()
            )
        except OSError:
            return False


class _Manifest(msgspec.Struct, frozen=True):
    made_at: int
    files: dict[str, str]


def make_backup(directory: Path) -> Backup | None:
    """Copy what is there now, unless the newest copy is the same; None where there is nothing to copy.

    The oldest go where there are more than `KEPT`.
    Raises:
        KeyStoreError: it cannot be read or written.
    """
    folder = directory / FOLDER
    try:
        content = {name: (directory / name).read_bytes() for name in _names(directory)}
        if not content:
            return None
        files = {name: _digest(name, data) for name, data in content.items()}
        there = list_backups(directory)
        if there and there[-1].files == files:
            return there[-1]
        manifest = _Manifest(int(time()), files)
        fresh = folder / _FRESH
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        for name, data in content.items():
            _write(fresh, name, data)
        _write(fresh, MANIFEST, msgspec.json.encode(manifest))
        make_durable(fresh)
        number = _last_number(folder) + 1
        fresh.rename(folder / f"{number:06}")
        for old in there[: max(0, len(there) + 1 - KEPT)]:
            shutil.rmtree(old.path)
    except OSError as error:
        raise KeyStoreError(f"{folder}: no backup can be made: {error.strerror}") from None
    return Backup(number, folder / f"{number:06}", manifest.made_at, files)


def list_backups(directory: Path) -> list[Backup]:
    """Return the copies, oldest first; a copy without a readable manifest does not count."""
    found = []
    folder = directory / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.isdigit():
            try:
                manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=_Manifest)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                continue
            found.append(Backup(int(path.name), path, manifest.made_at, manifest.files))
    return found


def newest_intact(directory: Path) -> Backup | None:
    """Return the last good copy."""
    return next((backup for backup in reversed(list_backups(directory)) if backup.intact), None)


def heal(directory: Path) -> bool:
    """Put `token.object` back where a process was killed while SoftHSM wrote it; whether that was so.

    Called before the token is opened. A whole file is left alone, with any content.
    Raises:
        KeyStoreError: it cannot be written.
    """
    backup = newest_intact(directory)
    for name in backup.files if backup is not None else ():
        if backup is None or not name.endswith(_REWRITTEN):
            continue
        kept, path = (backup.path / name).read_bytes(), directory / name
        try:
            if path.is_file() and path.stat().st_size < len(kept):
                write_private(path, kept)
                return True
        except OSError as error:
            raise KeyStoreError(f"{path}: cannot be put back: {error.strerror}") from None
    return False


def restore(directory: Path, number: int = 0) -> Backup:
    """Put a copy back, by number or the last good one; the present files are set aside as `damaged-N`, never deleted.

    The caller holds the token's lock. Cut off anywhere, it is done again.
    Raises:
        KeyStoreError: there is no such copy, or it is not what it was.
    """
    backup = newest_intact(directory)
    if number:
        backup = next((one for one in list_backups(directory) if one.number == number), None)
    if backup is None or not backup.intact:
        raise KeyStoreError(
            f"{directory / FOLDER}: there is no backup {number or ''} that is intact".replace("  ", " ")
        )
    try:
        aside = next(path for n in range(1, 1_000_000) if not (path := directory / f"damaged-{n}").exists())
        fresh = directory / ".restored"
        shutil.rmtree(fresh, ignore_errors=True)
        for name in backup.files:
            _write(fresh, name, (backup.path / name).read_bytes())
        make_durable(fresh)
        aside.mkdir(mode=0o700)
        for name in (*_SINGLE_FILES, _TOKENS):
            if name == _TOKENS and not any(kept.startswith(f"{_TOKENS}/") for kept in backup.files):
                continue  # the token is not ours
            if (directory / name).exists():
                (directory / name).rename(aside / name)
            if (fresh / name).exists():
                (fresh / name).rename(directory / name)
        shutil.rmtree(fresh)
        if (directory / _TOKENS).exists():
            write_private(directory / "initialised", b"")  # the first copy is made before the token is said to be whole
    except OSError as error:
        raise KeyStoreError(f"{directory}: cannot be restored: {error.strerror}") from None
    return backup


def drop_backups(directory: Path, but: Backup | None) -> None:
    """Delete all copies but one: a key was retired, and they still have it.

    Raises:
        KeyStoreError: one cannot be deleted.
    """
    folder = directory / FOLDER
    try:
        for path in folder.iterdir():
            if but is None or path != but.path:
                shutil.rmtree(path)
    except OSError as error:
        raise KeyStoreError(f"{folder}: a backup cannot be deleted: {error.strerror}") from None


def _digest(name: str, data: bytes) -> str:
    return sha256(data[_COUNTER_BYTES:] if name.endswith(_REWRITTEN) else data).hexdigest()


def _names(directory: Path) -> Iterator[str]:
    """Return the files that make up the state, as paths below it; SoftHSM's lock files are not among them."""
    yield from (name for name in _SINGLE_FILES if (directory / name).is_file())
    for path in sorted((directory / _TOKENS).rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            yield str(path.relative_to(directory))


def _last_number(folder: Path) -> int:
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0)


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    for parent in reversed([parent for parent in path.parents if not parent.exists()]):
        parent.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
