-- Seals under a key. A hash chain alone can be recomputed by whoever writes the database; the MAC is made by the token.

-- The MAC of a seal, HMAC-SHA-256 of the token over its number and digest. Added once the seal is committed, so a seal
-- that was made while the token was away gets its MAC later, and a lost answer is asked for again with the same bytes.
CREATE TABLE ledger.seal_macs (
    number  bigint PRIMARY KEY CHECK (number > 0),
    mac     bytea NOT NULL CHECK (length(mac) = 32),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT ON ledger.seal_macs TO cardswitch_ledger;
GRANT SELECT ON ledger.seal_macs TO cardswitch_auditor;

-- Which columns the digest of a seal covers: 1 as before, 2 all columns of intents and outcomes.
ALTER TABLE ledger.seals ADD COLUMN version smallint NOT NULL DEFAULT 1 CHECK (version IN (1, 2));

CREATE FUNCTION ledger.digest(p_previous bytea, p_from bigint, p_to bigint, p_version smallint)
RETURNS TABLE (rows bigint, digest bytea)
LANGUAGE plpgsql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' SET bytea_output = 'hex' AS $$
BEGIN
    IF p_version = 1 THEN
        RETURN QUERY SELECT * FROM ledger.digest(p_previous, p_from, p_to);
        RETURN;
    END IF;
    RETURN QUERY
    SELECT count(*),
           sha256(p_previous || COALESCE(string_agg(sha256(convert_to(ROW(
               o.seq, o.intent_id, o.decision, o.response_code, o.auth_code, o.reason, o.answer::text, o.original_id,
               o.original_seq, o.decided_at, o.amount_minor,
               i.id, i.key, i.kind, i.link, i.mti, i.processing_code, i.transmitted_at, i.created_at, i.deadline_at,
               i.trace_id, i.token, i.fingerprint, i.masked_pan, i.amount_minor, i.currency, i.merchant, i.terminal,
               i.mcc, i.country, i.acquirer_id, i.rrn, i.stan, i.issuer, i.card_country, i.final, i.original_key,
               i.reference_issuer, i.reference_at, i.reference_stan, i.cashback_minor, i.local_time, i.stated,
               l.lines)::text, 'UTF8')), ''::bytea ORDER BY o.seq), ''::bytea))
      FROM ledger.outcomes o
      LEFT JOIN ledger.intents i ON i.id = o.intent_id
      LEFT JOIN LATERAL (
           SELECT string_agg(ROW(p.line, p.layer, a.name, p.currency, p.amount_minor)::text, ';' ORDER BY p.line) AS lines
             FROM ledger.postings p LEFT JOIN ledger.accounts a ON a.id = p.account_id
            WHERE p.intent_id = o.intent_id) l ON true
     WHERE o.seq BETWEEN p_from AND p_to;
END $$;
