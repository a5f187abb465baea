"""Secrets of the gateway at rest: a text in, a ciphertext out, and back; AES-256-GCM under numbered keys of a file.

The signing secrets of webhooks and the stored answers of idempotent requests (which may show such a secret) go through
it. The file has mode 0600 and one line a key: a version from 1 up and 64 hexadecimal digits. The highest version seals,
all of them open. Each ciphertext is bound to its row, so that one row's does not open in another.

`gateway.server` calls `open_sealer` at its start: it makes the file where nothing has been sealed yet, compares its
keys with the check values in the database, and seals what is still in clear or under an older version.

Source: NIST SP 800-38D, 8.2.2 (random nonces of 96 bits), 8.3 (2**32 of them a key at most).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigurationError, GatewayError

_LINE = re.compile(r"([1-9][0-9]{0,5}) ([0-9a-f]{64})")
_NONCE = 12
_KEY_BYTES = 32
_CHECK = b"cardswitch gateway sealing key"
_LOCK = 0x5EA15EA1  # advisory lock: one gateway at a time looks at the keys and seals

log = structlog.get_logger("gateway.sealing")


class SealError(GatewayError):
    """A ciphertext that does not open: another key, another row, or changed."""


class Sealer:
    """Seals and opens.

    Args:
        keys: version → 32 bytes.
    """

    def __init__(self, keys: dict[int, bytes]) -> None:
        self._keys = {version: AESGCM(key) for version, key in keys.items()}
        self.checks = {version: check_value(key) for version, key in keys.items()}
        self.version = max(keys)

    def __repr__(self) -> str:
        return f"Sealer(versions={sorted(self._keys)})"

    def seal(self, clear: str, bound_to: str) -> tuple[bytes, int]:
        """The ciphertext (nonce in front) and the version of its key.

        Args:
            bound_to: whose it is; `open` needs the same.
        """
        nonce = os.urandom(_NONCE)
        sealed = self._keys[self.version].encrypt(nonce, clear.encode(), _associated(bound_to, self.version))
        return nonce + sealed, self.version

    def open(self, sealed: bytes, version: int, bound_to: str) -> str:
        """The text again. Raises SealError."""
        key = self._keys.get(version)
        if key is None:
            raise SealError(f"no sealing key of version {version}: copy the sealing keys from the machine that has it")
        try:
            return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], _associated(bound_to, version)).decode()
        except (InvalidTag, ValueError):
            raise SealError("a sealed secret does not open: it was changed, or moved from another row") from None


def endpoint_secret(sealer: Sealer, row: Any) -> str:
    """The signing secret of a row of `gateway.webhook_endpoints`. Raises SealError."""
    return sealer.open(row["sealed_secret"], row["key_version"], bound_to_endpoint(row["id"]))


def bound_to_endpoint(endpoint_id: str) -> str:
    return f"webhook_endpoint {endpoint_id}"


def bound_to_answer(account_id: str, key: str) -> str:
    return f"idempotency {account_id} {key}"


def _associated(bound_to: str, version: int) -> bytes:
    return f"{version} {bound_to}".encode()


def check_value(key: bytes) -> bytes:
    """16 bytes that distinguish keys and reveal nothing about them."""
    return hmac.digest(key, _CHECK, hashlib.sha256)[:16]


def read_keys(path: Path) -> dict[int, bytes]:
    """The keys of the file. Raises ConfigurationError, with what to do; FileNotFoundError where there is none."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigurationError(f"{path}: others may read it (mode {mode:04o}): chmod 600 {path}")
    keys: dict[int, bytes] = {}
    for number, line in enumerate(path.read_text("ascii", "replace").splitlines(), 1):
        found = _LINE.fullmatch(line.strip())
        if found is None or int(found[1]) in keys:
            raise ConfigurationError(f"{path}, line {number}: expected a new version and 64 hexadecimal digits")
        keys[int(found[1])] = bytes.fromhex(found[2])
    if not keys:
        raise ConfigurationError(f"{path} has no key: put the file of a backup back")
    return keys


def make_keys(path: Path) -> None:
    """Make the file with one key, mode 0600, unless it is there already."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    _write(own, f"1 {secrets.token_hex(_KEY_BYTES)}\n")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(own, path)  # of two processes at the same moment the first wins
    finally:
        own.unlink()


def add_key(path: Path) -> int:
    """Append a new key, which seals from the next start on. Returns its version. Raises ConfigurationError, OSError."""
    version = max(read_keys(path)) + 1
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    _write(new, path.read_text("ascii") + f"{version} {secrets.token_hex(_KEY_BYTES)}\n")
    new.replace(path)
    return version


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


async def open_sealer(connection: Any, path: Path) -> Sealer:
    """The sealer of this gateway, after everything stored is sealed under its newest key.

    Raises ConfigurationError that names the file and what to do: missing, readable by others, malformed, other keys.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(f"DELETE FROM gateway.sealing_keys k WHERE NOT ({_NEEDED})")
        known = await needed_checks(connection)
        sealer = Sealer(keys_for(path, known, make=not known))
        for version, check in sealer.checks.items():
            await connection.execute(
                "INSERT INTO gateway.sealing_keys (version, check_value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                *(version, check),
            )
        await _seal_stored(connection, sealer)
    return sealer


def keys_for(path: Path, known: Mapping[int, bytes], *, make: bool) -> dict[int, bytes]:
    """The keys of the file, held against the check values in the database.

    Args:
        known: check values by version, of `needed_checks`.
        make: make the file where there is none.

    Raises ConfigurationError, with what to do: missing, readable by others, malformed, other keys.
    """
    try:
        if make:
            make_keys(path)
        keys = read_keys(path)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing{_WHAT_TO_DO}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    for version, check in known.items():
        if version not in keys or check_value(keys[version]) != check:
            what = "has another key" if version in keys else "lacks the key"
            raise ConfigurationError(f"{path} {what} of version {version}{_WHAT_TO_DO}")
    return keys


_WHAT_TO_DO = (
    ": webhook secrets in the database are sealed under it. Copy the file from the machine that runs the gateway, "
    "or from a backup (docs/operations.md, the gateway's sealing keys)"
)
# Of gateway.sealing_keys as k: the newest key, and those under which something is sealed.
_NEEDED = """version = (SELECT max(version) FROM gateway.sealing_keys)
    OR EXISTS (SELECT 1 FROM gateway.webhook_endpoints w WHERE w.key_version = k.version)
    OR EXISTS (SELECT 1 FROM gateway.idempotency i WHERE i.key_version = k.version)"""


async def needed_checks(connection: Any) -> dict[int, bytes]:
    """Check values by version: of the newest key and of those under which something is sealed."""
    rows = await connection.fetch(f"SELECT version, check_value FROM gateway.sealing_keys k WHERE {_NEEDED}")
    return {row["version"]: row["check_value"] for row in rows}


async def _seal_stored(connection: Any, sealer: Sealer) -> None:
    """Secrets in clear or under an older key: sealed under the newest."""
    rows = await connection.fetch(
        """SELECT id, secret, sealed_secret, key_version FROM gateway.webhook_endpoints
           WHERE secret IS NOT NULL OR key_version <> $1 FOR UPDATE""",
        sealer.version,
    )
    for row in rows:
        secret = row["secret"] if row["secret"] is not None else endpoint_secret(sealer, row)
        await connection.execute(
            "UPDATE gateway.webhook_endpoints SET secret = NULL, sealed_secret = $2, key_version = $3 WHERE id = $1",
            *(row["id"], *sealer.seal(secret, bound_to_endpoint(row["id"]))),
        )
    answers = await connection.fetch(
        """SELECT account_id, key, body FROM gateway.idempotency WHERE body LIKE '%"whsec\\_%' FOR UPDATE"""
    )
    for row in answers:
        await connection.execute(
            """UPDATE gateway.idempotency SET body = NULL, sealed_body = $3, key_version = $4
               WHERE account_id = $1 AND key = $2""",
            *(row["account_id"], row["key"]),
            *sealer.seal(row["body"], bound_to_answer(row["account_id"], row["key"])),
        )
    if rows or answers:
        log.info("secrets sealed", endpoints=len(rows), answers=len(answers), version=sealer.version)
