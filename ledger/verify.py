"""Is the ledger whole? A connection goes in, problems come out; `cardswitch ledger verify` prints them.

`CHECKS` is the list: each query returns one line of text for each thing that is wrong. The last check walks the hash
chain. The database enforces most of this when rows are written; here it is looked at again, because the owner of a
database can do anything to it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.seal import broken_seals

MAX_PROBLEMS = 20  # listed for each check


class Check(msgspec.Struct, frozen=True):
    """One rule: its name, what it says, and the query for what breaks it."""

    name: str
    says: str
    sql: str


class CheckResult(msgspec.Struct, frozen=True):
    """A check with what it found; whole where `problems` is empty."""

    name: str
    says: str
    problems: list[str]


class Report(msgspec.Struct, frozen=True):
    """All checks, and how much was looked at.

    Args:
        unsealed: outcomes after the last seal, which the hash chain does not cover yet.
        digest: of the last seal, hex, "" if there is none: keep it elsewhere and compare.
    """

    checks: list[CheckResult]
    intents: int
    outcomes: int
    postings: int
    seals: int
    unsealed: int
    digest: str

    @property
    def whole(self) -> bool:
        """True where no check found anything."""
        return not any(check.problems for check in self.checks)


# Holds and payments by the authorization or purchase they belong to.
_BY_PAYMENT = """
SELECT CASE WHEN i.kind IN ('authorization', 'purchase', 'refund') THEN i.id ELSE o.original_id END AS id, p.currency,
       sum(p.amount_minor) FILTER (WHERE p.layer = 'pending') AS held,
       sum(p.amount_minor) FILTER (
           WHERE p.layer = 'pending' AND i.kind IN ('authorization', 'increment')) AS authorized,
       sum(p.amount_minor) FILTER (WHERE p.layer = 'posted' AND i.kind IN ('capture', 'purchase')) AS captured
  FROM ledger.postings p
  JOIN ledger.accounts a ON a.id = p.account_id AND a.name LIKE 'issuer:%:receivable'
  JOIN ledger.outcomes o ON o.intent_id = p.intent_id
  JOIN ledger.intents i ON i.id = p.intent_id
 GROUP BY 1, 2
"""

CHECKS: tuple[Check, ...] = (
    Check(
        "balance",
        "debits equal credits, over all, for each layer and currency",
        "SELECT format('%s %s is off by %s', layer, currency, sum(amount_minor)) FROM ledger.postings"
        " GROUP BY layer, currency HAVING sum(amount_minor) <> 0",
    ),
    Check(
        "outcome-balance",
        "the lines of each outcome sum to zero for each layer and currency",
        "SELECT format('intent %s: %s %s is off by %s', intent_id, layer, currency, sum(amount_minor))"
        " FROM ledger.postings GROUP BY intent_id, layer, currency HAVING sum(amount_minor) <> 0",
    ),
    Check(
        "posting-outcome",
        "each line belongs to an approved outcome",
        "SELECT format('intent %s: lines without an approval', p.intent_id)"
        " FROM (SELECT DISTINCT intent_id FROM ledger.postings) p"
        " LEFT JOIN ledger.outcomes o ON o.intent_id = p.intent_id AND o.decision = 'approved'"
        " WHERE o.intent_id IS NULL",
    ),
    Check(
        "posting-account",
        "each line is on an account",
        "SELECT format('intent %s line %s: no account %s', p.intent_id, p.line, p.account_id) FROM ledger.postings p"
        " LEFT JOIN ledger.accounts a ON a.id = p.account_id WHERE a.id IS NULL",
    ),
    Check(
        "outcome-intent",
        "each outcome has its intent, and its original if it names one",
        "SELECT format('outcome of intent %s: intent %s is not there', o.intent_id, m.id) FROM ledger.outcomes o"
        " CROSS JOIN LATERAL (VALUES (o.intent_id), (o.original_id)) m (id)"
        " LEFT JOIN ledger.intents i ON i.id = m.id WHERE m.id IS NOT NULL AND i.id IS NULL",
    ),
    Check(
        "change-order",
        "the changes of an original are numbered 1, 2, 3 … without a gap",
        "SELECT format('intent %s: %s changes, numbered up to %s', original_id, count(*), max(original_seq))"
        " FROM ledger.outcomes WHERE original_seq IS NOT NULL GROUP BY original_id"
        " HAVING count(*) <> max(original_seq)",
    ),
    Check(
        "holds",
        "no hold is negative",
        f"SELECT format('intent %s: %s %s on hold', id, held, currency) FROM ({_BY_PAYMENT}) s WHERE held < 0",
    ),
    Check(
        "captures",
        "no more is captured than was authorized",
        "SELECT format('intent %s: %s of %s %s captured', q.id, q.captured, q.most, q.currency) FROM ("
        " SELECT s.id, s.captured, s.currency, CASE WHEN i.kind = 'authorization' THEN COALESCE(s.authorized, 0)"
        "        ELSE COALESCE(o.amount_minor, i.amount_minor) END AS most"
        f"  FROM ({_BY_PAYMENT}) s JOIN ledger.intents i ON i.id = s.id JOIN ledger.outcomes o ON o.intent_id = s.id"
        "  WHERE i.kind IN ('authorization', 'purchase')) q WHERE q.captured > q.most",
    ),
    Check(
        "approved",
        "what an authorization, an increment or a purchase has booked is what was approved",
        "SELECT format('intent %s: %s of %s %s booked', i.id, s.booked, a.approved, i.currency)"
        " FROM ledger.intents i JOIN ledger.outcomes o ON o.intent_id = i.id AND o.decision = 'approved'"
        " CROSS JOIN LATERAL (SELECT COALESCE(o.amount_minor, i.amount_minor) AS approved) a"
        " CROSS JOIN LATERAL (SELECT COALESCE(sum(p.amount_minor), 0) AS booked FROM ledger.postings p"
        "      JOIN ledger.accounts c ON c.id = p.account_id AND c.name LIKE 'issuer:%:receivable'"
        "     WHERE p.intent_id = i.id) s"
        " WHERE i.kind IN ('authorization', 'increment', 'purchase') AND s.booked <> a.approved",
    ),
    Check(
        "returns",
        "no more goes back to a card than was captured",
        "SELECT format('intent %s: %s of %s came back', t.id, t.returned, t.captured) FROM ("
        " SELECT o.original_id AS id,"
        "        -sum(p.amount_minor) FILTER (WHERE i.kind IN ('refund', 'chargeback')"
        "             AND NOT EXISTS (SELECT FROM ledger.outcomes u WHERE u.original_id = o.intent_id"
        "                                AND u.original_seq IS NOT NULL)) AS returned,"
        "        COALESCE(sum(p.amount_minor) FILTER (WHERE i.kind = 'capture'), 0)"
        "        + (SELECT COALESCE(sum(q.amount_minor), 0) FROM ledger.postings q"
        "             JOIN ledger.accounts b ON b.id = q.account_id AND b.name LIKE 'issuer:%:receivable'"
        "            WHERE q.intent_id = o.original_id AND q.layer = 'posted') AS captured"
        "   FROM ledger.outcomes o"
        "   JOIN ledger.intents i ON i.id = o.intent_id"
        "   JOIN ledger.postings p ON p.intent_id = o.intent_id AND p.layer = 'posted'"
        "   JOIN ledger.accounts a ON a.id = p.account_id AND a.name LIKE 'issuer:%:receivable'"
        "  WHERE o.original_id IS NOT NULL AND i.kind IN ('capture', 'refund', 'chargeback')"
        "  GROUP BY o.original_id) t WHERE t.returned > t.captured",
    ),
    Check(
        "floor",
        "every intent below the stored floor is decided",
        "SELECT format('intent %s is undecided below the floor', i.id) FROM ledger.intents i"
        " WHERE i.id <= (SELECT max(up_to) FROM ledger.floors WHERE name = 'undecided')"
        " AND NOT EXISTS (SELECT FROM ledger.outcomes o WHERE o.intent_id = i.id)",
    ),
)

_COUNTS = """
SELECT (SELECT count(*) FROM ledger.intents) AS intents, (SELECT count(*) FROM ledger.outcomes) AS outcomes,
       (SELECT count(*) FROM ledger.postings) AS postings, (SELECT count(*) FROM ledger.seals) AS seals,
       (SELECT count(*) FROM ledger.outcomes
         WHERE seq > (SELECT COALESCE(max(to_seq), 0) FROM ledger.seals)) AS unsealed,
       COALESCE((SELECT encode(digest, 'hex') FROM ledger.seals ORDER BY number DESC LIMIT 1), '') AS digest
"""


async def verify(connection: Any) -> Report:
    """Run every check in one snapshot.

    Args:
        connection: asyncpg, role cardswitch_auditor or owner; reads only, writers go on meanwhile.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        results = []
        for check in CHECKS:
            rows = await connection.fetch(f"SELECT * FROM ({check.sql}) q (problem) LIMIT {MAX_PROBLEMS}")
            results.append(CheckResult(check.name, check.says, [row["problem"] for row in rows]))
        problems = await broken_seals(connection)
        says = "nothing that was sealed was altered, deleted or inserted"
        results.append(CheckResult("seals", says, problems[:MAX_PROBLEMS]))
        counts = await connection.fetchrow(_COUNTS)
    return Report(checks=results, **dict(counts))
