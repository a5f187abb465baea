"""The token as witness of the ledger: seals of its hash chain go in, MACs come out, one for each number and in order.

The ledger's database can be rewritten by its owner, chain and all. The witness keeps the last seal that it signed in
`state/hsm/ledger_head.json`, under a MAC of its own, and signs the next number only, after that very digest. So a chain
that was rewritten, cut off or restored from a backup gets no further MAC, until an officer accepts its head. Called by
`hsm.ledger_commands`, and by the console where no process of the HSM runs.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from hsm.commands import HsmRefused
from hsm.errors import KeyStoreError

MAX_CLAIMS = 500
HEAD_FILE = "ledger_head.json"
_DIGEST_BYTES = 32
_MAX_NUMBER = 2**63 - 1  # the database's bigint
# Why they are told apart: the MAC of a seal must not do as the one of the file.
_SEAL, _HEAD = b"cardswitch ledger seal", b"cardswitch ledger head"


class LedgerHead(msgspec.Struct, frozen=True):
    """The last seal that was signed, and the number of the first one."""

    first: int
    number: int
    digest: bytes


class _HeadFile(msgspec.Struct, frozen=True):
    head: LedgerHead
    mac: bytes


class LedgerWitness:
    """Signs seals of one ledger.

    Args:
        directory: `state/hsm`.
        mac: HMAC-SHA-256 of the token's key `audit-1`.
    Attributes:
        head: the last seal that was signed; None: none yet.
        problem: why nothing is signed: the file of the head was altered, or cannot be read. Payments go on.
    """

    def __init__(self, directory: Path, mac: Callable[[bytes], bytes]) -> None:
        self._path = directory / HEAD_FILE
        self._mac = mac
        self.head, self.problem = self._read()

    def sign(self, number: int, digest: bytes, previous: bytes, previous_mac: bytes) -> tuple[bytes, LedgerHead]:
        """Return the MAC of a seal and the head that `storing` has to store before the MAC is given away.

        Args:
            number: of the seal, from 1.
            digest: its SHA-256, 32 bytes.
            previous: digest of seal `number - 1`.
            previous_mac: MAC of that seal; for an HSM with the same token that has not signed it.
        Raises:
            HsmRefused: `malformed`, or `ledger_rewound`: not the seal after the last one that was signed.
        """
        if not 0 < number <= _MAX_NUMBER or len(digest) != _DIGEST_BYTES or len(previous) != _DIGEST_BYTES:
            raise HsmRefused("malformed", "a seal has a number from 1 and digests of 32 bytes")
        if self.problem:
            raise HsmRefused("ledger_rewound", self.problem)
        head = self.head
        follows = (
            head is None
            or (number == head.number and hmac.compare_digest(digest, head.digest))
            or (number == head.number + 1 and hmac.compare_digest(previous, head.digest))
            or (number > head.number + 1 and self._made(number - 1, previous, previous_mac))
        )
        if not follows:
            assert head is not None
            raise HsmRefused(
                "ledger_rewound",
                f"seal {number} does not follow seal {head.number}, the last one that was signed: the ledger was "
                "rewritten, or restored from a backup",
            )
        return self._of_seal(number, digest), LedgerHead(head.first if head else number, number, digest)

    def storing(self, head: LedgerHead) -> Callable[[], None]:
        """Return what stores the head durably; it waits for the disk, so call it in a thread of its own.

        Set `head` once it is done. It raises KeyStoreError where the file cannot be written.
        """
        data = msgspec.json.encode(_HeadFile(head, self._mac_of_head(head)))

        def store() -> None:
            temporary = self._path.with_name(HEAD_FILE + ".new")
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._path)
            except OSError as error:
                raise KeyStoreError(f"{self._path}: {error.strerror or error}") from None

        return store

    def accepted(self, number: int, digest: bytes) -> LedgerHead:
        """Return the head that goes on from a seal which an officer accepts: after a restore, say."""
        if not 0 <= number <= _MAX_NUMBER or len(digest) != _DIGEST_BYTES:
            raise HsmRefused("malformed", "a seal has a number below 2**63 and a digest of 32 bytes")
        return LedgerHead(self.head.first if self.head else number, number, digest)

    def wrong(self, claims: Sequence[tuple[int, bytes, bytes]]) -> tuple[int, ...]:
        """Return the positions of the claims (number, digest, MAC) that are not MACs of this token."""
        return tuple(at for at, (number, digest, mac) in enumerate(claims) if not self._made(number, digest, mac))

    def _made(self, number: int, digest: bytes, mac: bytes) -> bool:
        return number > 0 and hmac.compare_digest(self._of_seal(number, digest), mac)

    def _of_seal(self, number: int, digest: bytes) -> bytes:
        return self._mac(_SEAL + number.to_bytes(8, "big") + digest)

    def _mac_of_head(self, head: LedgerHead) -> bytes:
        return self._mac(_HEAD + head.first.to_bytes(8, "big") + head.number.to_bytes(8, "big") + head.digest)

    def _read(self) -> tuple[LedgerHead | None, str]:
        advice = "check the ledger with cardswitch ledger verify --all, then cardswitch hsm accept-ledger-head"
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=_HeadFile)
        except FileNotFoundError:
            return None, ""
        except (OSError, msgspec.DecodeError) as error:
            return None, f"{self._path} cannot be read ({type(error).__name__}); {advice}"
        if not hmac.compare_digest(self._mac_of_head(stored.head), stored.mac):
            return None, f"{self._path} was altered; {advice}"
        return stored.head, ""
