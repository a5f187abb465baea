-- Token domains, network tokens, deletions with proof, and the way from one data key to the next.
-- The role holds neither UPDATE nor DELETE on cards: erasing and re-wrapping are functions of the owner that do one
-- thing each, and an erasure without its record in the chain is not possible.

-- '' is the domain of tokens made before there were domains, and of the ones that no merchant holds.
ALTER TABLE vault.tokens ADD COLUMN domain text NOT NULL DEFAULT '' CHECK (length(domain) <= 100);
CREATE INDEX cards_key_version ON vault.cards (key_version);

-- What is left of a card that was erased. Its surrogate is kept so that it never becomes another card's.
CREATE TABLE vault.deletions (
    number    bigint PRIMARY KEY CHECK (number > 0),
    card      text NOT NULL UNIQUE CHECK (card LIKE 'card\_%'),
    surrogate text NOT NULL UNIQUE,
    erased    bytea[] NOT NULL, -- SHA-256 of the ids of its tokens
    record    text NOT NULL,
    previous  bytea NOT NULL CHECK (octet_length(previous) = 32),
    digest    bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    seal      bytea NOT NULL CHECK (octet_length(seal) = 32)
);
CREATE INDEX deletions_erased ON vault.deletions USING gin (erased);

-- A network token's number is in `ciphertext` alone, as a card's; `fingerprint` stays when it is deleted, so that the
-- number is never given twice and a payment with it is still known as one with a deleted token.
CREATE TABLE vault.network_tokens (
    id          text PRIMARY KEY CHECK (id LIKE 'nt\_%'),
    card        text REFERENCES vault.cards (token),
    domain      text NOT NULL CHECK (length(domain) BETWEEN 1 AND 100),
    merchant    text NOT NULL CHECK (length(merchant) <= 15),
    channel     text NOT NULL CHECK (length(channel) <= 20),
    expiry      text NOT NULL CHECK (expiry ~ '^([0-9]{4})?$'),
    fingerprint bytea NOT NULL UNIQUE CHECK (octet_length(fingerprint) = 16),
    key_version text,
    nonce       bytea CHECK (octet_length(nonce) = 12),
    ciphertext  bytea,
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'deleted')),
    issued      bigint NOT NULL DEFAULT 0, -- counter of the last cryptogram made here
    counter     bigint NOT NULL DEFAULT 0, -- counter of the last cryptogram taken
    used_by     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'deleted') = (ciphertext IS NULL)),
    CHECK ((ciphertext IS NULL) = (nonce IS NULL) AND (ciphertext IS NULL) = (key_version IS NULL)),
    CHECK (card IS NOT NULL OR state = 'deleted'),
    CHECK (counter BETWEEN 0 AND 4294967295 AND issued BETWEEN 0 AND 4294967295)
);
CREATE INDEX network_tokens_card ON vault.network_tokens (card);
CREATE INDEX network_tokens_key_version ON vault.network_tokens (key_version);

-- Whatever code runs: counters only rise, a deleted token stays deleted and has lost its number.
CREATE FUNCTION vault.guard_network_token() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.counter < OLD.counter OR NEW.issued < OLD.issued OR (OLD.state = 'deleted' AND NEW.state <> 'deleted') THEN
        RAISE EXCEPTION 'a network token does not go back' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state = 'deleted' THEN
        NEW.key_version := NULL;
        NEW.nonce := NULL;
        NEW.ciphertext := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON vault.network_tokens
    FOR EACH ROW EXECUTE FUNCTION vault.guard_network_token();

-- Locks the chain and the card, until the transaction ends; says what there is to erase. No row: no such card.
CREATE FUNCTION vault.begin_erasure(victim text)
    RETURNS TABLE (card text, surrogate text, tokens text[], network_tokens text[], number bigint, previous bytea)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('vault.deletions'));
    -- Who gives the card a token now waits for us, and then finds no card.
    PERFORM 1 FROM vault.cards c WHERE c.token = victim FOR UPDATE;
    RETURN QUERY
        SELECT c.token,
               c.surrogate,
               ARRAY(SELECT t.id FROM vault.tokens t WHERE t.card = victim ORDER BY t.id),
               ARRAY(SELECT n.id FROM vault.network_tokens n WHERE n.card = victim ORDER BY n.id),
               coalesce((SELECT max(d.number) FROM vault.deletions d), 0) + 1,
               coalesce((SELECT d.digest FROM vault.deletions d ORDER BY d.number DESC LIMIT 1),
                        decode(repeat('00', 32), 'hex'))
          FROM vault.cards c WHERE c.token = victim;
END $$;

-- Erases what the record says, all of it or nothing.
CREATE FUNCTION vault.erase_card(record text, ids bytea[], seal bytea) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    facts         jsonb := record::jsonb;
    victim        text := facts ->> 'card';
    head_number   bigint;
    head_digest   bytea;
    tokens        bigint;
    tokens_beside bigint;
    cards         bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('vault.deletions'));
    SELECT d.number, d.digest INTO head_number, head_digest FROM vault.deletions d ORDER BY d.number DESC LIMIT 1;
    head_digest := coalesce(head_digest, decode(repeat('00', 32), 'hex'));
    DELETE FROM vault.tokens WHERE card = victim;
    GET DIAGNOSTICS tokens = ROW_COUNT;
    UPDATE vault.network_tokens
       SET card = NULL, state = 'deleted', merchant = '', channel = '', expiry = '', used_by = '',
           changed_at = clock_timestamp()
     WHERE card = victim;
    GET DIAGNOSTICS tokens_beside = ROW_COUNT;
    DELETE FROM vault.cards WHERE token = victim AND surrogate = facts ->> 'surrogate';
    GET DIAGNOSTICS cards = ROW_COUNT;
    IF cards <> 1 OR tokens <> (facts ->> 'tokens')::bigint OR tokens_beside <> (facts ->> 'network_tokens')::bigint
       OR coalesce(head_number, 0) + 1 <> (facts ->> 'number')::bigint THEN
        RAISE EXCEPTION 'the record does not say what is erased' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO vault.deletions (number, card, surrogate, erased, record, previous, digest, seal)
    VALUES ((facts ->> 'number')::bigint, victim, facts ->> 'surrogate', ids, record, head_digest,
            sha256(head_digest || convert_to(record, 'UTF8')), seal);
END $$;

-- Puts new ciphertexts of cards in place of those that were read, and only of those; returns how many.
CREATE FUNCTION vault.rewrap_cards(tokens text[], old_nonces bytea[], version text, nonces bytea[], texts bytea[])
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('vault.rewrap')); -- two of us would wait for each other's rows
    UPDATE vault.cards c SET key_version = version, nonce = u.nonce, ciphertext = u.text
      FROM unnest(tokens, old_nonces, nonces, texts) AS u (token, old_nonce, nonce, text)
     WHERE c.token = u.token AND c.nonce = u.old_nonce AND c.key_version <> version;
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done;
END $$;

CREATE FUNCTION vault.rewrap_network_tokens(
    ids text[], old_nonces bytea[], version text, nonces bytea[], texts bytea[]
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('vault.rewrap'));
    UPDATE vault.network_tokens n SET key_version = version, nonce = u.nonce, ciphertext = u.text
      FROM unnest(ids, old_nonces, nonces, texts) AS u (id, old_nonce, nonce, text)
     WHERE n.id = u.id AND n.nonce = u.old_nonce AND n.key_version <> version;
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vault.begin_erasure, vault.erase_card, vault.rewrap_cards, vault.rewrap_network_tokens
    TO cardswitch_vault;
GRANT SELECT ON vault.deletions TO cardswitch_vault;
GRANT SELECT, INSERT ON vault.network_tokens TO cardswitch_vault;
GRANT UPDATE (state, changed_at, issued, counter, used_by) ON vault.network_tokens TO cardswitch_vault;
