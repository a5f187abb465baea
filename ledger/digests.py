"""Digests of seals, recomputed outside of the database: seals go in, number of rows and SHA-256 of each come out.

`ledger.digest` makes a digest when a seal is made. The owner of the database can replace that function, so
`ledger.verify` does not call it: the rows come as text by built-in functions of `pg_catalog`, and are hashed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

PREFETCH = 1000  # rows in memory

# The text of a row that a digest of each version covers: `o` is the outcome, `i` its intent, `l` its lines. As
# `ledger.digest` has it in the migrations. Version 1 covers columns that came later where they hold something.
_TEXTS = {
    1: """ROW(
       o.seq, o.intent_id, o.decision, o.response_code, o.auth_code, o.reason, o.answer::pg_catalog.text, o.original_id,
       o.original_seq, o.decided_at, i.key, i.kind, i.link, i.mti, i.created_at, i.token, i.fingerprint,
       i.amount_minor, i.currency, i.merchant, i.issuer, i.original_key, l.lines)::pg_catalog.text
       || CASE WHEN i.cashback_minor <> 0 OR i.local_time <> '' OR i.stated <> '' OR o.amount_minor IS NOT NULL
               THEN ROW(i.cashback_minor, i.local_time, i.stated, o.amount_minor)::pg_catalog.text ELSE '' END""",
    2: """ROW(
       o.seq, o.intent_id, o.decision, o.response_code, o.auth_code, o.reason, o.answer::pg_catalog.text, o.original_id,
       o.original_seq, o.decided_at, o.amount_minor,
       i.id, i.key, i.kind, i.link, i.mti, i.processing_code, i.transmitted_at, i.created_at, i.deadline_at,
       i.trace_id, i.token, i.fingerprint, i.masked_pan, i.amount_minor, i.currency, i.merchant, i.terminal,
       i.mcc, i.country, i.acquirer_id, i.rrn, i.stan, i.issuer, i.card_country, i.final, i.original_key,
       i.reference_issuer, i.reference_at, i.reference_stan, i.cashback_minor, i.local_time, i.stated,
       l.lines)::pg_catalog.text""",
}
_ROWS = """
SELECT o.seq, {text}
  FROM ledger.outcomes o
  LEFT JOIN ledger.intents i ON i.id = o.intent_id
  LEFT JOIN LATERAL (
       SELECT pg_catalog.string_agg(ROW(p.line, p.layer, a.name, p.currency, p.amount_minor)::pg_catalog.text, ';'
                                    ORDER BY p.line) AS lines
         FROM ledger.postings p LEFT JOIN ledger.accounts a ON a.id = p.account_id
        WHERE p.intent_id = o.intent_id) l ON true
 WHERE o.seq >= $1 AND o.seq <= $2
 ORDER BY o.seq
"""

SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "constraint_exclusion": "off",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "bytea_output": "hex",
}
"""Settings under which rows are read: names are those of `pg_catalog`, and a value has one text."""


class Recomputed(msgspec.Struct, frozen=True):
    """Count and digest of the rows of one seal; `digest` is empty where the version of the seal is unknown."""

    rows: int
    digest: bytes


async def use_settings(connection: Any) -> None:
    """Put `SETTINGS` into force on a connection, whatever its role or database have set."""
    for name, value in SETTINGS.items():
        await connection.execute("SELECT pg_catalog.set_config($1, $2, false)", name, value)


async def recompute(connection: Any, previous: bytes, seals: Sequence[Any]) -> list[Recomputed]:
    """The digests of seals that follow one another in number.

    Args:
        connection: asyncpg, in a transaction, with `SETTINGS` in force.
        previous: digest of the seal before the first one.
        seals: rows of `ledger.seals`; each digest goes on from the one that is stored before it.
    """
    found: list[Recomputed] = []
    for part in _parts(seals):
        version = part[0]["version"]
        if version not in _TEXTS:
            found += [Recomputed(part[at]["rows"], b"") for at in range(len(part))]
        else:
            async for one in _digests(connection, previous, part, _ROWS.format(text=_TEXTS[version])):
                found.append(one)
        previous = part[-1]["digest"]
    return found


def _parts(seals: Sequence[Any]) -> list[list[Any]]:
    """Seals of one version whose ranges follow one another without a gap: their rows are read by one query."""
    parts: list[list[Any]] = []
    for seal in seals:
        last = parts[-1][-1] if parts else None
        if last is not None and (seal["version"], seal["from_seq"]) == (last["version"], last["to_seq"] + 1):
            parts[-1].append(seal)
        else:
            parts.append([seal])
    return parts


async def _digests(connection: Any, previous: bytes, seals: Sequence[Any], query: str) -> AsyncIterator[Recomputed]:
    at, rows, digest = 0, 0, hashlib.sha256(previous)
    async for seq, text in connection.cursor(query, seals[0]["from_seq"], seals[-1]["to_seq"], prefetch=PREFETCH):
        while seq > seals[at]["to_seq"]:
            yield Recomputed(rows, digest.digest())
            rows, digest, at = 0, hashlib.sha256(seals[at]["digest"]), at + 1
        rows += 1
        digest.update(hashlib.sha256(text.encode()).digest())
    while at < len(seals):
        yield Recomputed(rows, digest.digest())
        rows, digest, at = 0, hashlib.sha256(seals[at]["digest"]), at + 1
