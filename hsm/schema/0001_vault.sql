-- The card vault. Only the role cardswitch_vault sees it; card numbers and expiry dates are in `ciphertext` alone.
CREATE SCHEMA vault;

CREATE TABLE vault.cards (
    token          text PRIMARY KEY CHECK (token LIKE 'card\_%'),
    fingerprint    bytea NOT NULL UNIQUE CHECK (octet_length(fingerprint) = 16),
    surrogate      text NOT NULL UNIQUE CHECK (surrogate ~ '^990000[0-9]{10}$'),
    key_version    text NOT NULL,
    nonce          bytea NOT NULL CHECK (octet_length(nonce) = 12),
    ciphertext     bytea NOT NULL,
    leading_digits text NOT NULL CHECK (leading_digits ~ '^[0-9]{6,8}$'),
    last4          text NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
    digits         smallint NOT NULL CHECK (digits BETWEEN 12 AND 19),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (length(leading_digits) + 4 <= digits - 2)
);

-- What merchants hold: tok_… pays once, pm_… may be used again.
CREATE TABLE vault.tokens (
    id         text PRIMARY KEY CHECK (id ~ '^(tok|pm)_'),
    card       text NOT NULL REFERENCES vault.cards (token),
    exp_month  smallint NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
    exp_year   smallint NOT NULL CHECK (exp_year BETWEEN 2000 AND 2099),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at    timestamptz,
    used_by    text NOT NULL DEFAULT ''
);
CREATE INDEX tokens_card ON vault.tokens (card);

REVOKE ALL ON SCHEMA vault FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO cardswitch_vault;
GRANT SELECT, INSERT ON vault.cards, vault.tokens TO cardswitch_vault;
GRANT UPDATE (used_at, used_by) ON vault.tokens TO cardswitch_vault;
