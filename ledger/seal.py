"""The hash chain and its MACs: unsealed outcomes go in, seals under a key of the token come out.

A seal covers a range of `outcomes.seq` with the intents and journal lines of those outcomes, and the digest of the seal
before. The token makes its MAC: the owner of the database can recompute the chain, but not the MACs.
`ledger.writer` calls `seal` and `add_macs` in one process at a time; `ledger.verify` checks both.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from ledger.errors import SealNotSigned

MAX_ROWS = 10_000
DIGEST_VERSION = 2
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ledger.seals', 0))"
_SEALER = "SELECT pg_advisory_xact_lock(hashtextextended('ledger.sealer', 0))"
_LAST = "SELECT number, to_seq, digest FROM ledger.seals ORDER BY number DESC LIMIT 1"
_WITHOUT_MAC = """
SELECT s.number, s.digest,
       COALESCE((SELECT b.digest FROM ledger.seals b WHERE b.number = s.number - 1), $1) AS previous,
       (SELECT m.mac FROM ledger.seal_macs m WHERE m.number = s.number - 1) AS previous_mac
  FROM ledger.seals s WHERE s.number >= $2 ORDER BY s.number LIMIT 1
"""
_STORE_MAC = "INSERT INTO ledger.seal_macs (number, mac) VALUES ($1, $2)"
GENESIS = bytes(32)


class Seal(msgspec.Struct, frozen=True):
    """One link of the chain: outcomes `from_seq` … `to_seq`, `rows` of them, SHA-256 `digest`."""

    number: int
    from_seq: int
    to_seq: int
    rows: int
    digest: bytes


class SealToSign(msgspec.Struct, frozen=True):
    """The input of the token: the seal, the digest of the one before it, and that one's MAC (b"": it has none)."""

    number: int
    digest: bytes
    previous: bytes
    previous_mac: bytes


class Signer(Protocol):
    """The token, from the sealer's side. Both raise `ledger.errors.SealNotSigned`."""

    async def last_signed(self) -> int:
        """The number of the last seal that the token has signed; 0: none yet."""

    async def sign(self, seal: SealToSign) -> bytes:
        """The MAC of a seal, 32 bytes. For the last one that was signed it is the same once more."""


async def seal(connection: Any, max_rows: int = MAX_ROWS) -> list[Seal]:
    """Seal everything that is committed, `max_rows` numbers a seal; returns the new seals.

    Args:
        connection: asyncpg, role cardswitch_ledger or owner; may run beside writers and other sealers.
    """
    async with connection.transaction():
        # Alone for a moment: every number that was drawn so far is visible now, or was rolled back.
        await connection.execute(_LOCK)
        horizon = await connection.fetchval("SELECT ledger.last_outcome_seq()")
    made: list[Seal] = []
    while True:
        async with connection.transaction():
            await connection.execute(_SEALER)
            row = await connection.fetchrow(_LAST)
            number, last, previous = (row[0], row[1], row[2]) if row else (0, 0, GENESIS)
            if last >= horizon:
                return made
            first, to = last + 1, min(last + max_rows, horizon)
            count, digest = await connection.fetchrow(
                "SELECT * FROM ledger.digest($1, $2, $3, $4)", previous, first, to, DIGEST_VERSION
            )
            made.append(Seal(number + 1, first, to, count, digest))
            await connection.execute(
                "INSERT INTO ledger.seals (number, from_seq, to_seq, rows, digest, version)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                *(number + 1, first, to, count, digest, DIGEST_VERSION),
            )


async def add_macs(connection: Any, signer: Signer) -> int:
    """Have the token sign the seals that it has not signed, in order; returns how many.

    The first MAC of a chain is the one of its newest seal: it covers the seals before, too.

    Raises: SealNotSigned where the token is away, or refuses because it has signed another chain.
    """
    signed = 0
    while True:
        # One seal a transaction: the token repeats its last MAC only, so at most one may be lost on its way here.
        async with connection.transaction():
            await connection.execute(_SEALER)
            row = await connection.fetchrow(_WITHOUT_MAC, GENESIS, await _first_without_mac(connection, signer))
            if row is None:
                return signed
            to_sign = SealToSign(row["number"], row["digest"], row["previous"], row["previous_mac"] or b"")
            await connection.execute(_STORE_MAC, row["number"], await signer.sign(to_sign))
        signed += 1


async def _first_without_mac(connection: Any, signer: Signer) -> int:
    last: int | None = await connection.fetchval("SELECT max(number) FROM ledger.seal_macs")
    if last is not None:
        return last + 1
    # None is stored: the answer to the very first one may have been lost on its way here.
    newest: int = await connection.fetchval("SELECT COALESCE(max(number), 1) FROM ledger.seals")
    signed = await signer.last_signed()
    if signed > newest:
        raise SealNotSigned(
            f"the token has signed up to seal {signed}, the ledger ends with seal {newest}: it was cut off, or restored"
            " from a backup"
        )
    return signed or newest
