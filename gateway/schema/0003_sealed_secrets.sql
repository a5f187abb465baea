-- Webhook secrets and stored answers at rest are ciphertexts, AES-256-GCM under a key of a file (gateway/sealing.py).
-- A gateway seals what is still in clear when it starts: this migration has no key.
ALTER TABLE gateway.webhook_endpoints
    ALTER COLUMN secret DROP NOT NULL,
    ADD COLUMN sealed_secret bytea,
    ADD COLUMN key_version int,
    ADD CHECK (num_nonnulls(secret, sealed_secret) = 1),
    ADD CHECK (num_nonnulls(sealed_secret, key_version) <> 1);

ALTER TABLE gateway.idempotency
    ADD COLUMN sealed_body bytea,
    ADD COLUMN key_version int,
    ADD CHECK (num_nonnulls(body, sealed_body) <= 1),
    ADD CHECK (num_nonnulls(sealed_body, key_version) <> 1);

-- By these a gateway finds out at its start whether its file has the right keys. A check value tells nothing of its key.
CREATE TABLE gateway.sealing_keys (
    version     int PRIMARY KEY CHECK (version BETWEEN 1 AND 1000000),
    check_value bytea NOT NULL CHECK (length(check_value) = 16),
    created_at  timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT, DELETE ON gateway.sealing_keys TO cardswitch_gateway;
