"""The rules that hold in the books, as queries: one line of text for each thing that is wrong.

`CHECKS` is read by `ledger.verify`, which runs each query for one stretch of the journal after the other. The database
enforces most of this when rows are written; here it is looked at again, because the owner of a database can do anything
to it. A stretch is either of outcomes, `$1` < seq <= `$2`, or of intents, `$1` < id <= `$2`.
"""

from __future__ import annotations

import msgspec

from ledger.advice_demand import DEMANDED_ADVICE


class Check(msgspec.Struct, frozen=True):
    """One rule: its name, what it says, and the query for what breaks it.

    Args:
        by_intent: the stretch is one of intents, not of outcomes.
    """

    name: str
    says: str
    sql: str
    by_intent: bool = False


_STRETCH = "WITH stretch AS MATERIALIZED (SELECT * FROM ledger.outcomes WHERE seq > $1 AND seq <= $2) "

# The payments that the outcomes of a stretch begin or change, whole: with all their changes, older and newer ones.
_PAYMENTS = (
    _STRETCH
    + """, touched AS MATERIALIZED (
    SELECT DISTINCT CASE WHEN i.kind IN ('authorization', 'purchase', 'refund') THEN i.id ELSE s.original_id END AS id
      FROM stretch s JOIN ledger.intents i ON i.id = s.intent_id
), members AS MATERIALIZED (
    SELECT t.id AS payment, t.id AS intent_id FROM touched t WHERE t.id IS NOT NULL
    UNION ALL
    SELECT c.original_id, c.intent_id FROM touched t
      JOIN ledger.outcomes c ON c.original_id = t.id AND c.original_seq IS NOT NULL
      JOIN ledger.intents i ON i.id = c.intent_id AND i.kind NOT IN ('authorization', 'purchase', 'refund')
), by_payment AS (
    SELECT m.payment AS id, p.currency,
           sum(p.amount_minor) FILTER (WHERE p.layer = 'pending') AS held,
           sum(p.amount_minor) FILTER (
               WHERE p.layer = 'pending' AND i.kind IN ('authorization', 'increment')) AS authorized,
           sum(p.amount_minor) FILTER (WHERE p.layer = 'posted' AND i.kind IN ('capture', 'purchase')) AS captured
      FROM members m
      JOIN ledger.intents i ON i.id = m.intent_id
      JOIN ledger.postings p ON p.intent_id = m.intent_id
      JOIN ledger.accounts a ON a.id = p.account_id AND a.name LIKE 'issuer:%:receivable'
     GROUP BY 1, 2
) """
)

# Of each payment that a stretch changes and that has refunds: money and fees of its captures (and of its own reversal),
# and of the refunds with their reversals.
_FEES = (
    _STRETCH
    + """, changed AS MATERIALIZED (
    SELECT DISTINCT CASE WHEN i.kind = 'refund' THEN r.original_id ELSE i.id END AS id
      FROM stretch s
      JOIN ledger.intents i ON i.id = s.original_id
      JOIN ledger.outcomes r ON r.intent_id = s.original_id
     WHERE s.original_seq IS NOT NULL
), payments AS MATERIALIZED (
    SELECT t.id FROM changed t
     WHERE EXISTS (SELECT FROM ledger.outcomes c JOIN ledger.intents i ON i.id = c.intent_id AND i.kind = 'refund'
                    WHERE c.original_id = t.id AND c.original_seq IS NOT NULL)
), members AS MATERIALIZED (
    SELECT id AS payment, id AS intent_id, false AS refund FROM payments
    UNION ALL
    SELECT c.original_id, c.intent_id, i.kind = 'refund' FROM payments t
      JOIN ledger.outcomes c ON c.original_id = t.id AND c.original_seq IS NOT NULL
      JOIN ledger.intents i ON i.id = c.intent_id AND i.kind IN ('capture', 'refund', 'reversal')
    UNION ALL
    SELECT t.id, u.intent_id, true FROM payments t
      JOIN ledger.outcomes c ON c.original_id = t.id AND c.original_seq IS NOT NULL
      JOIN ledger.outcomes u ON u.original_id = c.intent_id AND u.original_seq IS NOT NULL
), sums AS (
    SELECT m.payment AS id, p.currency,
           COALESCE(-sum(p.amount_minor) FILTER (WHERE fee AND NOT refund), 0) AS taken,
           COALESCE(sum(p.amount_minor) FILTER (WHERE fee AND refund), 0) AS returned,
           COALESCE(sum(p.amount_minor) FILTER (WHERE NOT fee AND NOT refund), 0) AS captured,
           COALESCE(-sum(p.amount_minor) FILTER (WHERE NOT fee AND refund), 0) AS refunded
      FROM members m
      JOIN ledger.postings p ON p.intent_id = m.intent_id AND p.layer = 'posted'
      JOIN ledger.accounts a ON a.id = p.account_id
       AND (a.name = 'platform:revenue' OR a.name LIKE 'issuer:%:receivable')
     CROSS JOIN LATERAL (SELECT a.name = 'platform:revenue' AS fee) f
     GROUP BY 1, 2
) """
)

SETTLED = "fees"
"""The check whose findings may be settled outside of the books."""

CHECKS: tuple[Check, ...] = (
    Check(
        "balance",
        "debits equal credits, over all, for each layer and currency",
        _STRETCH + "SELECT format('%s %s is off by %s', p.layer, p.currency, sum(p.amount_minor))"
        " FROM stretch s JOIN ledger.postings p ON p.intent_id = s.intent_id"
        " GROUP BY p.layer, p.currency HAVING sum(p.amount_minor) <> 0",
    ),
    Check(
        "outcome-balance",
        "the lines of each outcome sum to zero for each layer and currency",
        _STRETCH + "SELECT format('intent %s: %s %s is off by %s', p.intent_id, p.layer, p.currency,"
        " sum(p.amount_minor)) FROM stretch s JOIN ledger.postings p ON p.intent_id = s.intent_id"
        " GROUP BY p.intent_id, p.layer, p.currency HAVING sum(p.amount_minor) <> 0",
    ),
    Check(
        "posting-outcome",
        "each line belongs to an approved outcome",
        "SELECT format('intent %s: lines without an approval', p.intent_id)"
        " FROM (SELECT DISTINCT intent_id FROM ledger.postings WHERE intent_id > $1 AND intent_id <= $2) p"
        " LEFT JOIN ledger.outcomes o ON o.intent_id = p.intent_id AND o.decision = 'approved'"
        " WHERE o.intent_id IS NULL",
        by_intent=True,
    ),
    Check(
        "posting-account",
        "each line is on an account",
        _STRETCH + "SELECT format('intent %s line %s: no account %s', p.intent_id, p.line, p.account_id)"
        " FROM stretch s JOIN ledger.postings p ON p.intent_id = s.intent_id"
        " LEFT JOIN ledger.accounts a ON a.id = p.account_id WHERE a.id IS NULL",
    ),
    Check(
        "outcome-intent",
        "each outcome has its intent, and its original if it names one",
        _STRETCH + "SELECT format('outcome of intent %s: intent %s is not there', o.intent_id, m.id) FROM stretch o"
        " CROSS JOIN LATERAL (VALUES (o.intent_id), (o.original_id)) m (id)"
        " LEFT JOIN ledger.intents i ON i.id = m.id WHERE m.id IS NOT NULL AND i.id IS NULL",
    ),
    Check(
        "change-order",
        "the changes of an original are numbered 1, 2, 3 … without a gap",
        _STRETCH + "SELECT format('intent %s: %s changes, numbered up to %s', c.original_id, count(*),"
        " max(c.original_seq)) FROM (SELECT DISTINCT original_id FROM stretch WHERE original_seq IS NOT NULL) t"
        " JOIN ledger.outcomes c ON c.original_id = t.original_id AND c.original_seq IS NOT NULL"
        " GROUP BY c.original_id HAVING count(*) <> max(c.original_seq)",
    ),
    Check(
        "holds",
        "no hold is negative",
        _PAYMENTS + "SELECT format('intent %s: %s %s on hold', id, held, currency) FROM by_payment WHERE held < 0",
    ),
    Check(
        "captures",
        "no more is captured than was authorized",
        _PAYMENTS + "SELECT format('intent %s: %s of %s %s captured', q.id, q.captured, q.most, q.currency) FROM ("
        " SELECT s.id, s.captured, s.currency, CASE WHEN i.kind = 'authorization' THEN COALESCE(s.authorized, 0)"
        "        ELSE COALESCE(o.amount_minor, i.amount_minor) END AS most"
        "  FROM by_payment s JOIN ledger.intents i ON i.id = s.id JOIN ledger.outcomes o ON o.intent_id = s.id"
        "  WHERE i.kind IN ('authorization', 'purchase')) q WHERE q.captured > q.most",
    ),
    Check(
        "approved",
        "an authorization, an increment or a purchase has booked the approved amount",
        _STRETCH + "SELECT format('intent %s: %s of %s %s booked', i.id, s.booked, a.approved, i.currency)"
        " FROM stretch o JOIN ledger.intents i ON i.id = o.intent_id AND o.decision = 'approved'"
        " CROSS JOIN LATERAL (SELECT COALESCE(o.amount_minor, i.amount_minor) AS approved) a"
        " CROSS JOIN LATERAL (SELECT COALESCE(sum(p.amount_minor), 0) AS booked FROM ledger.postings p"
        "      JOIN ledger.accounts c ON c.id = p.account_id AND c.name LIKE 'issuer:%:receivable'"
        "     WHERE p.intent_id = i.id) s"
        " WHERE i.kind IN ('authorization', 'increment', 'purchase') AND s.booked <> a.approved",
    ),
    Check(
        "returns",
        "no more goes back to a card than was captured",
        _STRETCH + "SELECT format('intent %s: %s of %s came back', t.id, t.returned, t.captured) FROM ("
        " SELECT o.original_id AS id,"
        "        -sum(p.amount_minor) FILTER (WHERE i.kind IN ('refund', 'chargeback')"
        "             AND NOT EXISTS (SELECT FROM ledger.outcomes u WHERE u.original_id = o.intent_id"
        "                                AND u.original_seq IS NOT NULL)) AS returned,"
        "        COALESCE(sum(p.amount_minor) FILTER (WHERE i.kind IN ('capture', 'reversal')), 0)"
        "        + (SELECT COALESCE(sum(q.amount_minor), 0) FROM ledger.postings q"
        "             JOIN ledger.accounts b ON b.id = q.account_id AND b.name LIKE 'issuer:%:receivable'"
        "            WHERE q.intent_id = o.original_id AND q.layer = 'posted') AS captured"
        "   FROM (SELECT DISTINCT original_id AS id FROM stretch WHERE original_seq IS NOT NULL) t"
        "   JOIN ledger.outcomes o ON o.original_id = t.id AND o.original_seq IS NOT NULL"
        "   JOIN ledger.intents i ON i.id = o.intent_id"
        "   JOIN ledger.postings p ON p.intent_id = o.intent_id AND p.layer = 'posted'"
        "   JOIN ledger.accounts a ON a.id = p.account_id AND a.name LIKE 'issuer:%:receivable'"
        "  WHERE i.kind IN ('capture', 'reversal', 'refund', 'chargeback')"
        "  GROUP BY o.original_id) t WHERE t.returned > t.captured",
    ),
    Check(
        "fees",
        "of a payment no more fees go back than were taken, and all of them where all was refunded",
        _FEES + "SELECT format('intent %s: %s of %s %s in fees came back, merchant %s %s', s.id, returned, taken,"
        "              s.currency, trim(i.merchant), CASE WHEN returned > taken"
        "              THEN format('got %s too much', returned - taken) ELSE format('is owed %s',"
        "              CASE WHEN refunded = captured THEN taken ELSE 0 END - returned) END)"
        " FROM sums s JOIN ledger.intents i ON i.id = s.id"
        " WHERE returned > taken OR returned < 0 OR (refunded = captured AND returned <> taken)",
    ),
    Check(
        "floor",
        "every intent below the stored floor is decided",
        "SELECT format('intent %s is undecided below the floor', i.id) FROM ledger.intents i"
        " WHERE i.id > $1 AND i.id <= $2"
        " AND i.id <= (SELECT max(up_to) FROM ledger.floors WHERE name = 'undecided')"
        " AND NOT EXISTS (SELECT FROM ledger.outcomes o WHERE o.intent_id = i.id)",
        by_intent=True,
    ),
    Check(
        "advices-stored",
        "each outcome that a link must learn of has its advice",
        _STRETCH + "SELECT format('intent %s: its %s %s has no advice %s', i.id, i.kind, o.decision, a.mti)"
        " FROM stretch o JOIN ledger.intents i ON i.id = o.intent_id"
        f" CROSS JOIN LATERAL (SELECT {DEMANDED_ADVICE} AS mti) a"
        " WHERE a.mti IS NOT NULL AND NOT EXISTS ("
        " SELECT FROM ledger.advices d WHERE d.intent_id = o.intent_id AND d.mti = a.mti)",
    ),
)
