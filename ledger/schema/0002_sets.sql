-- The journal's two writes and its reads, each for a whole set. VOLATILE functions look at the database anew with each
-- statement, so what follows a lock sees everything that was committed before the lock was granted.

-- DE 11 towards the issuer; the same as ledger.journal.network_stan.
CREATE FUNCTION ledger.network_stan(intent_id bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN lpad((intent_id % 999999 + 1)::text, 6, '0');

-- A set comes as one array of rows: half the work of an array for each column, on both sides.
CREATE TYPE ledger.new_intent AS (
    key text, kind text, link text, mti text, processing_code text, transmitted_at timestamptz,
    created_at timestamptz, deadline_at timestamptz, trace_id text, token text, fingerprint bytea, masked_pan text,
    amount_minor bigint, currency text, merchant text, terminal text, mcc text, country text, acquirer_id text,
    rrn text, stan text, issuer text, card_country text, final boolean, original_key text, reference_issuer text,
    reference_at timestamptz, reference_stan text
);
CREATE TYPE ledger.new_outcome AS (
    intent_id bigint, decision text, response_code text, auth_code text, reason text, answer text, original_id bigint,
    original_seq integer
);
CREATE TYPE ledger.new_posting AS (
    intent_id bigint, line smallint, account_id integer, layer text, currency text, amount_minor bigint
);
CREATE TYPE ledger.new_advice AS (intent_id bigint, link text, mti text, elements text, token text);

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
        INSERT INTO ledger.intents
        SELECT v_ids[r.ordinality], r.key, r.kind, r.link, r.mti, r.processing_code, r.transmitted_at, r.created_at,
               r.deadline_at, r.trace_id, r.token, r.fingerprint, r.masked_pan, r.amount_minor, r.currency, r.merchant,
               r.terminal, r.mcc, r.country, r.acquirer_id, r.rrn, r.stan, r.issuer, r.card_country, r.final,
               r.original_key, r.reference_issuer, r.reference_at, r.reference_stan
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
                                     original_seq)
        SELECT r.intent_id, r.decision, r.response_code, r.auth_code, r.reason, r.answer::json, r.original_id,
               r.original_seq
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

-- Ids of accounts by name, made where missing.
CREATE FUNCTION ledger.account_ids(p_name text[], p_type text[]) RETURNS TABLE (name text, id integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO ledger.accounts (name, type)
    SELECT r.name, r.type FROM ROWS FROM (unnest(p_name, p_type)) AS r (name, type)
     WHERE NOT EXISTS (SELECT FROM ledger.accounts a WHERE a.name = r.name) ORDER BY r.name
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT a.name, a.id FROM ledger.accounts a WHERE a.name = ANY (p_name);
END $$;

-- The outcomes of a range with their intents and lines, as one digest. The columns are named, so that a later column
-- changes no digest.
CREATE FUNCTION ledger.digest(p_previous bytea, p_from bigint, p_to bigint) RETURNS TABLE (rows bigint, digest bytea)
LANGUAGE sql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' SET bytea_output = 'hex' AS $$
    SELECT count(*),
           sha256(p_previous || COALESCE(string_agg(sha256(convert_to(ROW(
               o.seq, o.intent_id, o.decision, o.response_code, o.auth_code, o.reason, o.answer::text, o.original_id,
               o.original_seq, o.decided_at, i.key, i.kind, i.link, i.mti, i.created_at, i.token, i.fingerprint,
               i.amount_minor, i.currency, i.merchant, i.issuer, i.original_key, l.lines)::text, 'UTF8')),
               ''::bytea ORDER BY o.seq), ''::bytea))
      FROM ledger.outcomes o
      LEFT JOIN ledger.intents i ON i.id = o.intent_id
      LEFT JOIN LATERAL (
           SELECT string_agg(ROW(p.line, p.layer, a.name, p.currency, p.amount_minor)::text, ';' ORDER BY p.line) AS lines
             FROM ledger.postings p LEFT JOIN ledger.accounts a ON a.id = p.account_id
            WHERE p.intent_id = o.intent_id) l ON true
     WHERE o.seq BETWEEN p_from AND p_to
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO cardswitch_ledger;
GRANT EXECUTE ON FUNCTION ledger.digest, ledger.network_stan TO cardswitch_auditor;
