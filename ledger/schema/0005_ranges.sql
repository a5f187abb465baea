-- What is found by a range of times or numbers, without reading the rest of a table.

-- A BRIN index knows ranges of pages once they are summarised; the pages after them are read by every look. At 10,000
-- rows a second most requests to summarise are dropped (their queue has 256 places), so it takes a vacuum: after some
-- new rows, not after the fifth of the table that is the default. Where a table only grows, it reads new pages alone.
ALTER TABLE ledger.intents
    SET (autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0);
ALTER TABLE ledger.outcomes
    SET (autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0);

-- The first of the two writes as it was, but for originals that are named by DE 7 and DE 11: their second is looked up
-- before anything else is asked (OFFSET 0), or the planner walks all intents, oldest first, to the first one that fits.

-- Record intents, or find the ones with their keys. One row out for each row in, `ord` from 1.
-- Locks first (cards, in order), then keys in order: two sets never wait for each other in a circle.
CREATE OR REPLACE FUNCTION ledger.begin(p_cards bigint[], p_rows ledger.new_intent[]) RETURNS TABLE (
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
                THEN (SELECT min(e.id)
                        FROM (SELECT s.id, s.issuer FROM ledger.intents s
                               WHERE s.created_at >= u.reference_at
                                 AND s.created_at < u.reference_at + interval '1 second' OFFSET 0) e
                       WHERE e.issuer = u.reference_issuer AND ledger.network_stan(e.id) = u.reference_stan)
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
