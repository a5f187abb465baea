-- The second of the two writes as it was, but for the locks on originals: a set is written in the order of its intents,
-- which says nothing of the originals that they change. Two sets that changed two originals the other way round met in
-- a deadlock, and everybody in both waited the second that it takes PostgreSQL to see one.

-- Record outcomes with their lines and advices. Rows come out for those that were not written only: `existing` is true
-- where the intent had an outcome, false where the original has changed meanwhile. Intents must be distinct in a set.
-- Locks first (links, then originals, each in order), then intents in order: two sets never wait for each other in a
-- circle.
CREATE OR REPLACE FUNCTION ledger.decide(
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
    -- Changes of one original go one after the other, so that no set waits for the number of a change that another is
    -- writing while that one waits for a number of its own.
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger.changes', id))
       FROM (SELECT DISTINCT original_id AS id FROM unnest(p_outcomes)
              WHERE original_seq IS NOT NULL ORDER BY id) originals;

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
