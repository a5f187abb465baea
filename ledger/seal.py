"""The hash chain: unsealed outcomes go in, seals come out; and seals that no longer fit what they sealed.

`cardswitch ledger seal` and the writer call `seal`; `ledger.verify` calls `broken_seals`. A seal covers a range of
`outcomes.seq` with the intents and journal lines of those outcomes, and the digest of the seal before. Who could
rewrite the chain whole is the database's owner: keep the last digest (`Seal.digest`) somewhere else.
"""

from __future__ import annotations

from typing import Any

import msgspec

MAX_ROWS = 10_000
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ledger.seals', 0))"
_LAST = "SELECT number, to_seq, digest FROM ledger.seals ORDER BY number DESC LIMIT 1"
GENESIS = bytes(32)


class Seal(msgspec.Struct, frozen=True):
    """One link of the chain: outcomes `from_seq` … `to_seq`, `rows` of them, SHA-256 `digest`."""

    number: int
    from_seq: int
    to_seq: int
    rows: int
    digest: bytes


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
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('ledger.sealer', 0))")
            row = await connection.fetchrow(_LAST)
            number, last, previous = (row[0], row[1], row[2]) if row else (0, 0, GENESIS)
            if last >= horizon:
                return made
            first, to = last + 1, min(last + max_rows, horizon)
            count, digest = await connection.fetchrow("SELECT * FROM ledger.digest($1, $2, $3)", previous, first, to)
            made.append(Seal(number + 1, first, to, count, digest))
            await connection.execute(
                "INSERT INTO ledger.seals (number, from_seq, to_seq, rows, digest) VALUES ($1, $2, $3, $4, $5)",
                *(number + 1, first, to, count, digest),
            )


async def broken_seals(connection: Any) -> list[str]:
    """What does not fit the chain any more: one line for each broken seal or gap; [] when all is well."""
    problems: list[str] = []
    expected_number, expected_from, previous = 1, 1, GENESIS
    for row in await connection.fetch("SELECT * FROM ledger.seals ORDER BY number"):
        if row["number"] != expected_number or row["from_seq"] != expected_from:
            problems.append(f"seal {row['number']} does not follow seal {expected_number - 1}")
        count, digest = await connection.fetchrow(
            "SELECT * FROM ledger.digest($1, $2, $3)", previous, row["from_seq"], row["to_seq"]
        )
        where = f"seal {row['number']} (outcomes {row['from_seq']} to {row['to_seq']})"
        if count != row["rows"]:
            problems.append(f"{where}: {row['rows']} outcomes were sealed, {count} are there")
        elif digest != row["digest"]:
            problems.append(f"{where}: an intent, outcome or posting was altered, deleted or inserted")
        # Go on from the stored digest, so that one broken link is reported once.
        expected_number, expected_from, previous = row["number"] + 1, row["to_seq"] + 1, row["digest"]
    return problems
