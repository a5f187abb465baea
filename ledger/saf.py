"""Stored advices that their link does not take: counts of waiting ones, the parked ones, and operators' actions on
them.

`ledger.writer` asks for the switch, `cardswitch saf` by itself; connections of asyncpg go in. Nothing is deleted: each
action, with actor, time and reason, is a row of `ledger.advice_actions`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from ledger.floor import Floor
from ledger.journal import Backlog
from ledger.reader import ADVICE_COLUMNS

DROPPED = "dropped"
Action = Literal["parked", "retried", "dropped"]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An advice without the other end's answer; `state` is waiting, parked, retried or dropped.

    `actor`, `reason` and `acted_at` are of the last action, empty where there was none. `amount_minor` is what the
    advice says, 0 where it says none; `stored_at` is when it was decided. A row that the switch has not stored may have
    no outcome, and then no `stored_at`; without an intent its texts are "".
    """

    advice_id: int
    link: str
    mti: str
    trace_id: str
    masked_pan: str
    amount_minor: int
    currency: str
    stored_at: datetime | None
    state: str
    actor: str
    reason: str
    acted_at: datetime | None


# Advices that were parked and are to be sent again, below the floor, too.
RETRIED = f"""
SELECT {ADVICE_COLUMNS}
  FROM (SELECT DISTINCT advice_id FROM ledger.advice_actions
         WHERE link = $1 AND advice_id > $2 AND action = 'retried') r
  JOIN ledger.advices d ON d.id = r.advice_id AND d.link = $1
  LEFT JOIN ledger.intents i ON i.id = d.intent_id
  LEFT JOIN ledger.outcomes o ON o.intent_id = d.intent_id
 WHERE NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = d.id OFFSET 0)
   AND (SELECT a.action FROM ledger.advice_actions a WHERE a.advice_id = d.id ORDER BY a.id DESC LIMIT 1) = 'retried'
 ORDER BY d.id LIMIT $3
"""

# The first that waits may be a row without an outcome, which the switch has not stored: then the next one has an age.
# Two floors: up to $2 no advice waits that nobody has acted on, up to $3 each one is acknowledged.
BACKLOG = """
WITH acted AS MATERIALIZED (
    SELECT DISTINCT ON (a.advice_id) a.advice_id, a.action FROM ledger.advice_actions a
     WHERE a.link = $1 AND a.advice_id > $3
       AND NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = a.advice_id OFFSET 0)
     ORDER BY a.advice_id, a.id DESC
), fresh AS MATERIALIZED (
    SELECT d.id FROM ledger.advices d
     WHERE d.link = $1 AND d.id > $2
       AND NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = d.id OFFSET 0)
       AND NOT EXISTS (SELECT FROM ledger.advice_actions a WHERE a.advice_id = d.id OFFSET 0)
     ORDER BY d.id LIMIT $4
), waiting AS MATERIALIZED (
    SELECT id FROM fresh UNION ALL SELECT advice_id FROM acted WHERE action = 'retried'
), seen AS (
    SELECT COALESCE((SELECT min(id) - 1 FROM fresh), (SELECT max(id) FROM ledger.advices WHERE link = $1), 0) AS up_to
)
SELECT (SELECT count(*) FROM waiting) AS waiting,
       (SELECT count(*) FROM acted WHERE action = 'parked') AS parked,
       COALESCE((SELECT extract(epoch FROM clock_timestamp() - o.decided_at)
                   FROM (SELECT id FROM waiting ORDER BY id OFFSET 0) w
                  CROSS JOIN LATERAL (SELECT * FROM ledger.advices x WHERE x.id = w.id OFFSET 0) d
                  CROSS JOIN LATERAL (SELECT * FROM ledger.outcomes x WHERE x.intent_id = d.intent_id OFFSET 0) o
                  LIMIT 1), 0)::float8 AS oldest_s,
       seen.up_to AS none_waits,
       LEAST(seen.up_to, (SELECT min(advice_id) - 1 FROM acted)) AS all_ended
  FROM seen
"""

PARK = "SELECT ledger.act_on_advice($1, 'parked', $2, $3)"

ISSUER_OF = "SELECT issuer, card_country FROM ledger.intents WHERE key = $1"

# Links one by one and each from its floor: years of acknowledged advices are not read for a few that wait.
_LIST = """
WITH RECURSIVE links (link) AS (
    SELECT min(link) FROM ledger.advices WHERE $1 = '' OR link = $1
    UNION ALL
    SELECT (SELECT min(d.link) FROM ledger.advices d WHERE d.link > l.link AND $1 = '') FROM links l
     WHERE l.link IS NOT NULL
), candidates AS (
    SELECT w.id FROM links l
     CROSS JOIN LATERAL (SELECT COALESCE(max(f.up_to), 0) AS up_to FROM ledger.floors f
                          WHERE f.name = 'advices ' || l.link) f
     CROSS JOIN LATERAL (
          SELECT d.id FROM ledger.advices d
           WHERE d.link = l.link AND d.id > f.up_to
             AND NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = d.id OFFSET 0)
           ORDER BY d.id LIMIT $3) w
    UNION
    SELECT a.advice_id FROM ledger.advice_actions a
     WHERE ($1 = '' OR a.link = $1)
       AND ($2 AND a.action = 'dropped'
            OR NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = a.advice_id OFFSET 0))
), listed AS MATERIALIZED (
    SELECT id FROM candidates ORDER BY id LIMIT $3
)
SELECT d.id, d.link, d.mti, COALESCE(i.trace_id, '') AS trace_id, COALESCE(i.masked_pan, '') AS masked_pan,
       CASE WHEN d.elements->>'4' ~ '^[0-9]{1,18}$' THEN (d.elements->>'4')::bigint ELSE 0 END AS amount_minor,
       COALESCE(i.currency, '') AS currency, o.decided_at, COALESCE(a.action, 'waiting') AS state,
       COALESCE(a.actor, '') AS actor, COALESCE(a.reason, '') AS reason, a.acted_at
  FROM listed
 CROSS JOIN LATERAL (SELECT * FROM ledger.advices x WHERE x.id = listed.id OFFSET 0) d
  LEFT JOIN LATERAL (SELECT * FROM ledger.intents x WHERE x.id = d.intent_id OFFSET 0) i ON true
  LEFT JOIN LATERAL (SELECT * FROM ledger.outcomes x WHERE x.intent_id = d.intent_id OFFSET 0) o ON true
  LEFT JOIN LATERAL (
       SELECT * FROM ledger.advice_actions x WHERE x.advice_id = d.id ORDER BY x.id DESC LIMIT 1) a ON true
 ORDER BY d.id
"""

_ACT = "SELECT ledger.act_on_advice($1, $2, $3, $4)"


async def read_backlog(connection: Any, link: str, waiting: Floor, ended: Floor, limit: int) -> Backlog:
    """The backlog of a link; see `Journal.backlog`.

    Args:
        waiting: up to it no advice waits but those that were acted on; raised to what is seen.
        ended: up to it each advice is acknowledged, so nobody can act on it any more; raised, too.
    """
    floors = await waiting.value(connection), await ended.value(connection)
    row = await connection.fetchrow(BACKLOG, link, *floors, limit)
    await waiting.saw(connection, row["none_waits"])
    await ended.saw(connection, row["all_ended"])
    return Backlog(row["waiting"], row["parked"], max(0.0, row["oldest_s"]))


async def waiting_advices(
    connection: Any, link: str = "", *, dropped: bool = False, limit: int = 1000
) -> list[Waiting]:
    """Advices without an answer, in the order in which they are sent.

    Args:
        link: of this link only.
        dropped: those that were dropped, too.
        limit: at most so many.
    """
    return [
        Waiting(
            advice_id=row["id"],
            link=row["link"],
            mti=row["mti"],
            trace_id=row["trace_id"],
            masked_pan=row["masked_pan"],
            amount_minor=row["amount_minor"],
            currency=row["currency"],
            stored_at=row["decided_at"],
            state=row["state"],
            actor=row["actor"],
            reason=row["reason"],
            acted_at=row["acted_at"],
        )
        for row in await connection.fetch(_LIST, link, dropped, limit)
    ]


async def act_on_advice(connection: Any, advice_id: int, action: Action, actor: str, reason: str) -> str:
    """Retry or drop an advice, for ever on record.

    Returns:
        `done`; `unknown`, `acknowledged`, `dropped` or `not_parked` where there is nothing to do.
    """
    return str(await connection.fetchval(_ACT, advice_id, action, actor, reason))
