-- Totals of one acquirer (DE 32) on a link that several share. Without the new argument they are those of the link, as
-- before. A change counts for the acquirer of the payment that it changes; leading zeros do not count. No new index: the
-- same rows of the day are read, and fewer of them are added up.

DROP FUNCTION ledger.totals;
CREATE FUNCTION ledger.totals(p_link text, p_after bigint, p_before bigint, p_acquirer text DEFAULT NULL) RETURNS TABLE (
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
               AND p_link IN (i.link, COALESCE(NULLIF(i.issuer, ''), oi.issuer))
               AND (p_acquirer IS NULL
                    OR ltrim(COALESCE(oi.acquirer_id, i.acquirer_id), '0') = ltrim(p_acquirer, '0'))) c
     WHERE c.what IS NOT NULL
     GROUP BY c.currency
$$;

REVOKE ALL ON FUNCTION ledger.totals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.totals TO cardswitch_ledger, cardswitch_auditor;
