-- The whole message set: increments, reductions, inquiries, file updates, reconciliation, administrative messages and
-- cut-overs are intents and outcomes as all others are, so what holds for those (insert-only, decided once, sealed)
-- holds for the negative list and for business days, too.

ALTER TABLE ledger.intents DROP CONSTRAINT intents_kind_check;
ALTER TABLE ledger.intents
    ADD CONSTRAINT intents_kind_check CHECK (kind IN (
        'authorization', 'increment', 'purchase', 'capture', 'refund', 'inquiry', 'reversal', 'reduction', 'chargeback',
        'tombstone', 'file_update', 'reconciliation', 'administrative', 'cut_over')) NOT VALID,
    ADD COLUMN cashback_minor bigint NOT NULL DEFAULT 0 CHECK (cashback_minor >= 0),
    -- MMDDhhmmss where the card was (DE 13 and 12), '' where not said.
    ADD COLUMN local_time text NOT NULL DEFAULT '' CHECK (length(local_time) <= 10),
    -- What a message states that is decided without an issuer's answer, as JSON of its elements; '' for nothing.
    ADD COLUMN stated text NOT NULL DEFAULT '';
ALTER TABLE ledger.intents VALIDATE CONSTRAINT intents_kind_check;

-- What was approved where it was less than asked for.
ALTER TABLE ledger.outcomes ADD COLUMN amount_minor bigint CHECK (amount_minor >= 0);

-- Rare kinds, found without reading the others.
CREATE INDEX intents_file_updates ON ledger.intents (fingerprint, issuer) WHERE kind = 'file_update';
CREATE INDEX intents_cut_overs ON ledger.intents (link, transmitted_at) WHERE kind = 'cut_over';

-- Negative lists as they have grown; of a card and issuer the row with the greatest `seq` counts.
CREATE VIEW ledger.card_blocks AS
SELECT i.issuer, i.fingerprint, i.masked_pan, o.reason = 'card_blocked' AS blocked, o.seq, o.decided_at
  FROM ledger.intents i JOIN ledger.outcomes o ON o.intent_id = i.id
 WHERE i.kind = 'file_update' AND o.decision = 'approved' AND o.reason IN ('card_blocked', 'card_unblocked');

-- Business days of links: one begins with the outcome `seq` of its cut-over and ends with that of the next.
CREATE VIEW ledger.business_days AS
SELECT i.link, i.transmitted_at AS business_day, o.seq, o.decided_at
  FROM ledger.intents i JOIN ledger.outcomes o ON o.intent_id = i.id
 WHERE i.kind = 'cut_over' AND o.decision = 'approved';

-- The outcomes between two numbers that count in the totals of a link, by currency. Debits are purchases and captures,
-- credits refunds; reversals of purchases and of refunds count by themselves. Whole payments that were not approved,
-- or were undone before their outcome, do not count.
CREATE FUNCTION ledger.totals(p_link text, p_after bigint, p_before bigint) RETURNS TABLE (
    currency text, debits bigint, debits_minor bigint, debit_reversals bigint, debit_reversals_minor bigint,
    credits bigint, credits_minor bigint, credit_reversals bigint, credit_reversals_minor bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.currency,
           count(*) FILTER (WHERE c.what = 'debit'),
           COALESCE(sum(c.amount) FILTER (WHERE c.what = 'debit'), 0)::bigint,
           count(*) FILTER (WHERE c.what = 'debit reversal'),
           COALESCE(sum(c.amount) FILTER (WHERE c.what = 'debit reversal'), 0)::bigint,
           count(*) FILTER (WHERE c.what = 'credit'),
           COALESCE(sum(c.amount) FILTER (WHERE c.what = 'credit'), 0)::bigint,
           count(*) FILTER (WHERE c.what = 'credit reversal'),
           COALESCE(sum(c.amount) FILTER (WHERE c.what = 'credit reversal'), 0)::bigint
      FROM (SELECT CASE WHEN i.kind IN ('purchase', 'capture') THEN 'debit'
                        WHEN i.kind = 'refund' THEN 'credit'
                        WHEN i.kind = 'reversal' AND oi.kind = 'purchase' THEN 'debit reversal'
                        WHEN i.kind = 'reversal' AND oi.kind = 'refund' THEN 'credit reversal' END AS what,
                   CASE WHEN i.kind = 'reversal' THEN COALESCE(oo.amount_minor, oi.amount_minor)
                        ELSE COALESCE(o.amount_minor, i.amount_minor) END AS amount,
                   COALESCE(oi.currency, i.currency) AS currency
              FROM ledger.outcomes o
              JOIN ledger.intents i ON i.id = o.intent_id
              LEFT JOIN ledger.intents oi ON oi.id = o.original_id
              LEFT JOIN ledger.outcomes oo ON oo.intent_id = o.original_id
             WHERE o.seq > p_after AND o.seq < p_before AND o.decision = 'approved'
               AND o.reason <> 'declined_elsewhere'
               AND i.kind IN ('purchase', 'capture', 'refund', 'reversal')
               AND p_link IN (i.link, COALESCE(NULLIF(i.issuer, ''), oi.issuer))) c
     WHERE c.what IS NOT NULL
     GROUP BY c.currency
$$;

-- The two writes with the new columns; everything else in them is as it was.
DROP FUNCTION ledger.begin;
DROP TYPE ledger.new_intent;
CREATE TYPE ledger.new_intent AS (
    key text, kind text, link text, mti text, processing_code text, transmitted_at timestamptz,
    created_at timestamptz, deadline_at timestamptz, trace_id text, token text, fingerprint bytea, masked_pan text,
    amount_minor bigint, currency text, merchant text, terminal text, mcc text, country text, acquirer_id text,
    rrn text, stan text, issuer text, card_country text, final boolean, original_key text, cashback_minor bigint,
    local_time text, stated text, reference_issuer text, reference_at timestamptz, reference_stan text
);

-- Record intents, or find the ones with their keys. One row out for each row in, `ord` from 1.
-- Locks first (cards, in order), then keys in order: two sets never wait for each other in a circle.
CREATE FUNCTION ledger.begin(p_cards bigint[], p_rows ledger.new_intent[]) RETURNS TABLE (
    ord integer, intent_id bigint, fresh boolean, original_id bigint,
    count_1h bigint, sum_1h bigint, count_24h bigint, sum_24h bigint, merchants_24h bigint, same_5m bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_new bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(card) FROM unnest(p_cards) AS card;

    -- Ids in the order of arrival; after the locks, so that for one card a greater id is a later intent.
    v_ids := ARRAY(SELECT nextval('ledger.intents_id_seq') FROM generate_series(1, cardinality(p_rows)));

    WITH written AS (
        INSERT INTO ledger.intents (id, key, kind, link, mti, processing_code, transmitted_at, created_at, deadline_at,
               trace_id, token, fingerprint, masked_pan, amount_minor, currency, merchant, terminal, mcc, country,
               acquirer_id, rrn, stan, issuer, card_country, final, original_key, cashback_minor, local_time, stated,
               reference_issuer, reference_at, reference_stan)
        SELECT v_ids[r.ordinality], r.key, r.kind, r.link, r.mti, r.processing_code, r.transmitted_at, r.created_at,
               r.deadline_at, r.trace_id, r.token, r.fingerprint, r.masked_pan, r.amount_minor, r.currency, r.merchant,
               r.terminal, r.mcc, r.country, r.acquirer_id, r.rrn, r.stan, r.issuer, r.card_country, r.final,
               r.original_key, r.cashback_minor, r.local_time, r.stated, r.reference_issuer, r.reference_at,
               r.reference_stan
          FROM unnest(p_rows) WITH ORDINALITY r
         ORDER BY r.key, r.ordinality
        ON CONFLICT (key) DO NOTHING
        RETURNING id
    )
    SELECT array_agg(id) INTO v_new FROM written;

    RETURN QUERY
    SELECT u.ord::integer,
           CASE WHEN f.fresh THEN u.id ELSE (SELECT e.id FROM ledger.intents e WHERE e.key = u.key) END,
           f.fresh,
           CASE WHEN u.original_key IS NOT NULL
                THEN (SELECT e.id FROM ledger.intents e WHERE e.key = u.original_key)
                WHEN u.reference_issuer IS NOT NULL
                THEN (SELECT e.id FROM ledger.intents e
                       WHERE e.created_at >= u.reference_at AND e.created_at < u.reference_at + interval '1 second'
                         AND e.issuer = u.reference_issuer AND ledger.network_stan(e.id) = u.reference_stan
                       ORDER BY e.id LIMIT 1)
           END,
           h.count_1h, h.sum_1h, h.count_24h, h.sum_24h, h.merchants_24h, h.same_5m
      FROM (SELECT v_ids[ordinality] AS id, ordinality AS ord, r.* FROM unnest(p_rows) WITH ORDINALITY r) u
     CROSS JOIN LATERAL (SELECT COALESCE(u.id = ANY (v_new), false) AS fresh) f
      LEFT JOIN LATERAL (
           SELECT count(*) FILTER (WHERE c.created_at > u.created_at - interval '1 hour') AS count_1h,
                  COALESCE(sum(c.amount_minor) FILTER (WHERE c.created_at > u.created_at - interval '1 hour'
                                                         AND c.currency = u.currency), 0)::bigint AS sum_1h,
                  count(*) AS count_24h,
                  COALESCE(sum(c.amount_minor) FILTER (WHERE c.currency = u.currency), 0)::bigint AS sum_24h,
                  count(DISTINCT c.merchant) AS merchants_24h,
                  count(*) FILTER (WHERE c.created_at > u.created_at - interval '5 minutes'
                                     AND c.merchant = u.merchant AND c.amount_minor = u.amount_minor
                                     AND c.currency = u.currency) AS same_5m
             FROM (SELECT s.created_at, s.amount_minor, s.currency, s.merchant
                     FROM ledger.intents s
                    WHERE s.fingerprint = u.fingerprint AND s.fingerprint <> ''
                      AND s.kind IN ('authorization', 'purchase')
                      AND s.created_at > u.created_at - interval '24 hours' AND s.id < u.id
                    ORDER BY s.created_at DESC LIMIT 1000) c
           ) h ON f.fresh AND u.fingerprint <> '';
END $$;

DROP FUNCTION ledger.decide;
DROP TYPE ledger.new_outcome;
CREATE TYPE ledger.new_outcome AS (
    intent_id bigint, decision text, response_code text, auth_code text, reason text, answer text, original_id bigint,
    original_seq integer, amount_minor bigint
);

-- Record outcomes with their lines and advices. Rows come out for those that were not written only: `existing` is true
-- where the intent had an outcome, false where the original has changed meanwhile. Intents must be distinct in a set.
CREATE FUNCTION ledger.decide(
    p_outcomes ledger.new_outcome[], p_postings ledger.new_posting[], p_advices ledger.new_advice[]
) RETURNS TABLE (intent_id bigint, existing boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_won bigint[];
    v_all boolean;
BEGIN
    -- A link's advices become visible in the order of their ids, so that a reader who goes on from the last id it has
    -- seen misses none.
    PERFORM pg_advisory_xact_lock(hashtextextended(name, 7))
       FROM (SELECT DISTINCT link AS name FROM unnest(p_advices) ORDER BY name) links;

    WITH written AS (
        INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer, original_id,
                                     original_seq, amount_minor)
        SELECT r.intent_id, r.decision, r.response_code, r.auth_code, r.reason, r.answer::json, r.original_id,
               r.original_seq, r.amount_minor
          FROM unnest(p_outcomes) r
         ORDER BY r.intent_id
        ON CONFLICT DO NOTHING
        RETURNING intent_id
    )
    SELECT COALESCE(array_agg(intent_id), '{}') INTO v_won FROM written;
    v_all := cardinality(v_won) = cardinality(p_outcomes);

    IF cardinality(p_postings) > 0 THEN
        INSERT INTO ledger.postings (intent_id, line, account_id, layer, currency, amount_minor)
        SELECT r.intent_id, r.line, r.account_id, r.layer, r.currency, r.amount_minor
          FROM unnest(p_postings) r
         WHERE v_all OR r.intent_id = ANY (v_won);
    END IF;

    IF cardinality(p_advices) > 0 THEN
        INSERT INTO ledger.advices (intent_id, link, mti, elements, token)
        SELECT r.intent_id, r.link, r.mti, r.elements::json, r.token
          FROM unnest(p_advices) r
         WHERE v_all OR r.intent_id = ANY (v_won);
    END IF;

    IF NOT v_all THEN
        RETURN QUERY
        SELECT r.intent_id, EXISTS (SELECT FROM ledger.outcomes o WHERE o.intent_id = r.intent_id)
          FROM unnest(p_outcomes) r WHERE NOT r.intent_id = ANY (v_won);
    END IF;
END $$;

-- The digest covers the new columns where they hold something: what was sealed before has nothing there, so its digest is
-- the same as ever, and putting something there breaks its seal.
CREATE OR REPLACE FUNCTION ledger.digest(p_previous bytea, p_from bigint, p_to bigint)
RETURNS TABLE (rows bigint, digest bytea)
LANGUAGE sql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' SET bytea_output = 'hex' AS $$
    SELECT count(*),
           sha256(p_previous || COALESCE(string_agg(sha256(convert_to(ROW(
               o.seq, o.intent_id, o.decision, o.response_code, o.auth_code, o.reason, o.answer::text, o.original_id,
               o.original_seq, o.decided_at, i.key, i.kind, i.link, i.mti, i.created_at, i.token, i.fingerprint,
               i.amount_minor, i.currency, i.merchant, i.issuer, i.original_key, l.lines)::text
               || CASE WHEN i.cashback_minor <> 0 OR i.local_time <> '' OR i.stated <> '' OR o.amount_minor IS NOT NULL
                       THEN ROW(i.cashback_minor, i.local_time, i.stated, o.amount_minor)::text ELSE '' END, 'UTF8')),
               ''::bytea ORDER BY o.seq), ''::bytea))
      FROM ledger.outcomes o
      LEFT JOIN ledger.intents i ON i.id = o.intent_id
      LEFT JOIN LATERAL (
           SELECT string_agg(ROW(p.line, p.layer, a.name, p.currency, p.amount_minor)::text, ';' ORDER BY p.line) AS lines
             FROM ledger.postings p LEFT JOIN ledger.accounts a ON a.id = p.account_id
            WHERE p.intent_id = o.intent_id) l ON true
     WHERE o.seq BETWEEN p_from AND p_to
$$;

REVOKE ALL ON FUNCTION ledger.begin, ledger.decide, ledger.totals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.begin, ledger.decide, ledger.totals TO cardswitch_ledger;
GRANT EXECUTE ON FUNCTION ledger.totals TO cardswitch_auditor;
GRANT SELECT ON ledger.card_blocks, ledger.business_days TO cardswitch_ledger, cardswitch_auditor;
