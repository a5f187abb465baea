-- What was decided about an advice that its link does not take. The last row of an advice counts: parked, it waits for
-- an operator and holds up nobody; retried, it is sent again; dropped, it has ended (and is acknowledged as `dropped`).
CREATE TABLE ledger.advice_actions (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    advice_id bigint NOT NULL,
    link      text NOT NULL,
    action    text NOT NULL CHECK (action IN ('parked', 'retried', 'dropped')),
    actor     text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    reason    text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    acted_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX advice_actions_advice ON ledger.advice_actions (advice_id, id);
CREATE INDEX advice_actions_link ON ledger.advice_actions (link, advice_id);

-- Act on an advice: `done`, or why not. Actions on one advice go one after the other.
CREATE FUNCTION ledger.act_on_advice(p_advice_id bigint, p_action text, p_actor text, p_reason text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_link text;
    v_code text;
    v_last text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger.advice_actions', p_advice_id));
    SELECT link INTO v_link FROM ledger.advices WHERE id = p_advice_id;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    SELECT action INTO v_last FROM ledger.advice_actions WHERE advice_id = p_advice_id ORDER BY id DESC LIMIT 1;
    IF p_action = 'dropped' THEN
        INSERT INTO ledger.acknowledgements (advice_id, response_code) VALUES (p_advice_id, 'dropped')
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN CASE v_last WHEN 'dropped' THEN 'dropped' ELSE 'acknowledged' END;
        END IF;
    ELSE
        SELECT response_code INTO v_code FROM ledger.acknowledgements WHERE advice_id = p_advice_id;
        IF FOUND THEN
            RETURN CASE v_last WHEN 'dropped' THEN 'dropped' ELSE 'acknowledged' END;
        ELSIF p_action = 'retried' AND v_last IS DISTINCT FROM 'parked' THEN
            RETURN 'not_parked';
        ELSIF p_action = 'parked' AND v_last = 'parked' THEN
            RETURN 'done';
        END IF;
    END IF;
    INSERT INTO ledger.advice_actions (advice_id, link, action, actor, reason)
    VALUES (p_advice_id, v_link, p_action, p_actor, p_reason);
    RETURN 'done';
END $$;

GRANT SELECT ON ledger.advice_actions TO cardswitch_ledger, cardswitch_auditor;
GRANT INSERT ON ledger.advice_actions TO cardswitch_ledger;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA ledger TO cardswitch_ledger;
REVOKE ALL ON FUNCTION ledger.act_on_advice FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.act_on_advice TO cardswitch_ledger;
