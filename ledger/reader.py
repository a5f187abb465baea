"""Rows of PostgreSQL go in, the journal's structs come out; the SQL of its reads is here too.

`ledger.sets` uses it for keys that were there before and for originals; an auditor's tool may use it on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from ledger.advice_demand import IS_DEMANDED, NOT_DEMANDED, UNREADABLE
from ledger.change import ChangeRow, fold_changes
from ledger.journal import (
    Advice,
    AdviceDraft,
    Decision,
    Intent,
    Kind,
    Layer,
    Original,
    Outcome,
    Posting,
    StoredIntent,
    Totals,
)
from ledger.posting import held_minor

# One statement, so that an original, its outcome and its changes are of one moment.
ORIGINALS = """
SELECT i.*, o.intent_id AS decided, o.decision, o.response_code, o.auth_code, o.reason, o.answer, o.original_id,
       o.original_seq, o.amount_minor AS approved_minor,
       (SELECT json_agg(json_build_array(p.layer, a.name, p.amount_minor, p.currency) ORDER BY p.line)
          FROM ledger.postings p JOIN ledger.accounts a ON a.id = p.account_id WHERE p.intent_id = o.intent_id
       ) AS postings,
       (SELECT json_agg(json_build_array(d.link, d.mti, d.elements, d.token) ORDER BY d.id)
          FROM ledger.advices d WHERE d.intent_id = o.intent_id
       ) AS advices,
       (SELECT json_agg(json_build_array(ci.kind, COALESCE(c.amount_minor, ci.amount_minor), EXISTS (
                   SELECT FROM ledger.outcomes u JOIN ledger.intents ui ON ui.id = u.intent_id
                    WHERE u.original_id = c.intent_id AND u.original_seq IS NOT NULL AND ui.kind = 'reversal'
               ), s.held, s.fee, ci.original_key, ci.cashback_minor) ORDER BY c.original_seq)
          FROM ledger.outcomes c
          JOIN ledger.intents ci ON ci.id = c.intent_id
         CROSS JOIN LATERAL (
               SELECT COALESCE(sum(p.amount_minor) FILTER (
                               WHERE p.layer = 'pending' AND a.name LIKE 'issuer:%:receivable'), 0) AS held,
                      COALESCE(-sum(p.amount_minor) FILTER (WHERE a.name = 'platform:revenue'), 0) AS fee
                 FROM ledger.postings p JOIN ledger.accounts a ON a.id = p.account_id
                WHERE p.intent_id = c.intent_id) s
         WHERE c.original_id = i.id AND c.original_seq IS NOT NULL
       ) AS changes
  FROM ledger.intents i
  LEFT JOIN ledger.outcomes o ON o.intent_id = i.id
 WHERE i.id = ANY ($1::bigint[])
"""

# Rows of overdue intents without an outcome; one row at least, for `first_open` and `last`.
UNDECIDED = """
WITH open AS MATERIALIZED (
    SELECT i.id, i.deadline_at FROM ledger.intents i
     WHERE i.id > $1
       AND NOT EXISTS (SELECT FROM ledger.outcomes o WHERE o.intent_id = i.id AND o.intent_id > $1)
)
SELECT f.first_open, f.last, i.*
  FROM (SELECT (SELECT min(id) FROM open) AS first_open,
               (SELECT COALESCE(max(id), 0) FROM ledger.intents) AS last) f
  LEFT JOIN (
       SELECT x.* FROM (SELECT id FROM open WHERE deadline_at < $2 ORDER BY id LIMIT $3) u
        CROSS JOIN LATERAL (SELECT * FROM ledger.intents y WHERE y.id = u.id OFFSET 0) x) i ON true
 ORDER BY i.id
"""

LAST_ADVICE = "SELECT COALESCE(max(id), 0) FROM ledger.advices WHERE link = $1"

# Of an advice `d` with its intent `i` and its outcome `o`, for `advice_of`.
ADVICE_COLUMNS = (
    "d.id, d.intent_id, COALESCE(i.trace_id, '') AS trace_id, d.link, d.mti, d.elements, d.token,"
    f" {IS_DEMANDED} AS demanded"
)

# OFFSET 0: acknowledgements are looked up one by one, from the floor on; a join might read those of years before it.
ADVICES = f"""
SELECT {ADVICE_COLUMNS}
  FROM ledger.advices d LEFT JOIN ledger.intents i ON i.id = d.intent_id
  LEFT JOIN ledger.outcomes o ON o.intent_id = d.intent_id
 WHERE d.link = $1 AND d.id > $2
   AND NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = d.id OFFSET 0)
   AND NOT EXISTS (SELECT FROM ledger.advice_actions a WHERE a.advice_id = d.id OFFSET 0)
 ORDER BY d.id LIMIT $3
"""

ACKNOWLEDGE = """
INSERT INTO ledger.acknowledgements (advice_id, response_code)
SELECT * FROM unnest($1::bigint[], $2::text[]) AS r (id, code) ORDER BY r.id ON CONFLICT DO NOTHING
"""

LEASE = """
INSERT INTO ledger.leases AS l (name, holder, until)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
 WHERE l.holder = excluded.holder OR l.until <= clock_timestamp()
RETURNING true
"""

# As `ledger.begin` finds it: by the few intents of that second.
SENT = """
SELECT min(e.id) FROM (SELECT s.id, s.issuer FROM ledger.intents s
                        WHERE s.created_at >= $2 AND s.created_at < $2 + interval '1 second' OFFSET 0) e
 WHERE e.issuer = $1 AND ledger.network_stan(e.id) = $3
"""

SENDER_OF = "SELECT acquirer_id, terminal FROM ledger.intents WHERE key = $1"

# The last thing that an issuer said about a card.
BLOCKED = """
SELECT blocked FROM ledger.card_blocks WHERE fingerprint = $1 AND issuer = $2 ORDER BY seq DESC LIMIT 1
"""

# Everything up to the horizon is visible: the lock is had once no outcome is being written.
HORIZON = "SELECT pg_advisory_xact_lock(hashtextextended('ledger.seals', 0))"

# Between which outcomes a business day of a link lies, both left out: once for each cut-over into it, for it may be
# opened twice. A day that nobody opened is the last one before it; before the first cut-over there is one day.
DAY = """
WITH days AS MATERIALIZED (
    SELECT business_day, seq, lead(seq, 1, 9223372036854775807) OVER (ORDER BY seq) AS until
      FROM ledger.business_days WHERE link = $1
), opened AS (SELECT max(business_day) AS day FROM days WHERE business_day <= $2)
SELECT days.seq, days.until FROM days JOIN opened ON opened.day = days.business_day
 UNION ALL
SELECT 0, COALESCE((SELECT min(seq) FROM days), 9223372036854775807) FROM opened WHERE opened.day IS NULL
"""

BUSINESS_DAY = "SELECT business_day FROM ledger.business_days WHERE link = $1 ORDER BY seq DESC LIMIT 1"

TOTALS = "SELECT * FROM ledger.totals($1, $2, $3, $4)"

_ANSWER = msgspec.json.Decoder(dict[int, str])
_POSTINGS = msgspec.json.Decoder(list[tuple[Layer, str, int, str]])
_ADVICES = msgspec.json.Decoder(list[tuple[str, str, dict[int, str], str]])
_CHANGES = msgspec.json.Decoder(list[tuple[Kind, int, bool, int, int, str | None, int]])
# Intent fields that are columns of the same name and type.
_PLAIN = tuple(f for f in Intent.__struct_fields__ if f not in ("kind", "original_reference"))


def intent_of(row: Any) -> Intent:
    """An intent from a row of `ledger.intents`."""
    reference: tuple[str, datetime, str] | None = None
    if row["reference_issuer"] is not None:
        reference = (row["reference_issuer"], row["reference_at"], row["reference_stan"])
    return Intent(kind=Kind(row["kind"]), original_reference=reference, **{name: row[name] for name in _PLAIN})


def stored_of(row: Any) -> StoredIntent:
    """The same with its number."""
    return StoredIntent(row["id"], intent_of(row))


def original_of(row: Any) -> Original:
    """An original from a row of `ORIGINALS`."""
    outcome = outcome_of(row)
    rows = [ChangeRow(*values) for values in _CHANGES.decode(row["changes"] or "[]")]
    held = held_minor(outcome.postings) if outcome is not None else 0
    return Original(stored_of(row), outcome, fold_changes(held, rows))


def outcome_of(row: Any) -> Outcome | None:
    """The outcome in a row of `ORIGINALS`, if there is one."""
    if row["decided"] is None:
        return None
    return Outcome(
        intent_id=row["decided"],
        decision=Decision(row["decision"]),
        response_code=row["response_code"],
        auth_code=row["auth_code"],
        reason=row["reason"],
        answer=_ANSWER.decode(row["answer"]),
        postings=tuple(Posting(*values) for values in _POSTINGS.decode(row["postings"] or "[]")),
        advices=tuple(AdviceDraft(*values) for values in _ADVICES.decode(row["advices"] or "[]")),
        original_id=row["original_id"],
        original_seq=row["original_seq"],
        amount_minor=row["approved_minor"],
    )


def advice_of(row: Any) -> Advice:
    """A stored advice from a row of `ADVICE_COLUMNS`; its `refusal` says whether it may be sent.

    A row with elements that cannot be read has none: it must not keep the others from being read.
    """
    refusal = "" if row["demanded"] else NOT_DEMANDED
    try:
        elements = _ANSWER.decode(row["elements"])
    except msgspec.MsgspecError:
        elements, refusal = {}, refusal or UNREADABLE
    draft = AdviceDraft(row["link"], row["mti"], elements, row["token"])
    return Advice(row["id"], row["intent_id"], row["trace_id"], draft, refusal)


async def read_totals(
    connection: Any, link: str, business_day: datetime, acquirer_id: str | None = None
) -> dict[str, Totals]:
    """Amounts booked for a link, or one acquirer on it, in a business day, by currency; see `Journal.totals`."""
    async with connection.transaction():
        await connection.execute(HORIZON)
    found: dict[str, Totals] = {}
    for after, before in await connection.fetch(DAY, link, business_day):
        for row in await connection.fetch(TOTALS, link, after, before, acquirer_id):
            part = Totals(**{name: row[name] for name in Totals.__struct_fields__})
            found[row["currency"]] = found.get(row["currency"], Totals()).plus(part)
    return found


async def read_originals(connection: Any, intent_ids: Sequence[int]) -> dict[int, Original]:
    """The present state of intents, by number; those that are not there are left out."""
    if not intent_ids:
        return {}
    return {row["id"]: original_of(row) for row in await connection.fetch(ORIGINALS, list(intent_ids))}
