-- The merchants' side: who they are, what they asked for, what was sent to the switch for it, what they were told.
-- No card data: a payment method is a surrogate from the vault with what a receipt may show.
CREATE SCHEMA IF NOT EXISTS gateway;

-- DE 11 is this number modulo 999,999: no two messages of one second share it, whichever process sends them.
CREATE SEQUENCE gateway.stan AS bigint;

CREATE TABLE gateway.accounts (
    id          text COLLATE "C" PRIMARY KEY,
    merchant    text NOT NULL UNIQUE CHECK (length(merchant) BETWEEN 1 AND 15),  -- DE 42
    name        text NOT NULL,
    city        text NOT NULL DEFAULT '',
    country     text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    mcc         text NOT NULL CHECK (mcc ~ '^[0-9]{4}$'),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE gateway.api_keys (
    id          text COLLATE "C" PRIMARY KEY,
    account_id  text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    kind        text NOT NULL CHECK (kind IN ('secret', 'publishable')),
    digest      bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ends_at     timestamptz          -- revoked, or rotated out with a grace
);

CREATE TABLE gateway.payment_methods (
    account_id      text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    id              text COLLATE "C" NOT NULL,
    created_at      timestamptz NOT NULL,
    surrogate       text NOT NULL,
    card            jsonb NOT NULL,
    billing_details jsonb NOT NULL,
    PRIMARY KEY (account_id, id)
);

CREATE TABLE gateway.payment_intents (
    id                      text COLLATE "C" PRIMARY KEY,
    account_id              text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    created_at              timestamptz NOT NULL,
    status                  text NOT NULL CHECK (status IN ('requires_payment_method', 'requires_confirmation',
                                'processing', 'requires_capture', 'succeeded', 'canceled')),
    amount_minor            bigint NOT NULL CHECK (amount_minor > 0),
    currency                text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    capture_method          text NOT NULL CHECK (capture_method IN ('automatic', 'automatic_async', 'manual')),
    amount_capturable_minor bigint NOT NULL DEFAULT 0 CHECK (amount_capturable_minor >= 0),
    amount_received_minor   bigint NOT NULL DEFAULT 0 CHECK (amount_received_minor BETWEEN 0 AND amount_minor),
    payment_method          text COLLATE "C",
    latest_charge           text COLLATE "C",
    client_secret           text NOT NULL,
    canceled_at             timestamptz,
    cancellation_reason     text,
    last_payment_error      jsonb,
    metadata                jsonb NOT NULL DEFAULT '{}',
    details                 jsonb NOT NULL DEFAULT '{}'   -- passed through: description, receipt_email, …
);
CREATE INDEX ON gateway.payment_intents (account_id, id);

CREATE TABLE gateway.charges (
    id                    text COLLATE "C" PRIMARY KEY,
    account_id            text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    payment_intent        text COLLATE "C" NOT NULL REFERENCES gateway.payment_intents,
    created_at            timestamptz NOT NULL,
    status                text NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    amount_minor          bigint NOT NULL CHECK (amount_minor > 0),
    currency              text NOT NULL,
    captured              boolean NOT NULL DEFAULT false,
    amount_captured_minor bigint NOT NULL DEFAULT 0 CHECK (amount_captured_minor BETWEEN 0 AND amount_minor),
    amount_refunded_minor bigint NOT NULL DEFAULT 0,
    disputed              boolean NOT NULL DEFAULT false,
    payment_method        text COLLATE "C" NOT NULL,
    card                  jsonb NOT NULL,
    billing_details       jsonb NOT NULL,
    auth_code             text NOT NULL DEFAULT '',
    response_code         text NOT NULL DEFAULT '',
    metadata              jsonb NOT NULL DEFAULT '{}',
    details               jsonb NOT NULL DEFAULT '{}',
    CHECK (amount_refunded_minor BETWEEN 0 AND amount_captured_minor)
);
CREATE INDEX ON gateway.charges (account_id, id);
CREATE INDEX ON gateway.charges (payment_intent);

CREATE TABLE gateway.refunds (
    id             text COLLATE "C" PRIMARY KEY,
    account_id     text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    payment_intent text COLLATE "C" NOT NULL REFERENCES gateway.payment_intents,
    charge         text COLLATE "C" NOT NULL REFERENCES gateway.charges,
    created_at     timestamptz NOT NULL,
    status         text NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    currency       text NOT NULL,
    reason         text,
    failure_reason text,
    metadata       jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON gateway.refunds (account_id, id);
CREATE INDEX ON gateway.refunds (charge);

-- One row for each message to the switch, durable before the message leaves. `elements` is the message without DE 2.
CREATE TABLE gateway.attempts (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id     text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    kind           text NOT NULL CHECK (kind IN ('authorization', 'purchase', 'capture', 'refund', 'reversal')),
    key            text NOT NULL UNIQUE,           -- messages.exchange.acquirer_key
    mti            text NOT NULL,
    stan           text NOT NULL,
    transmitted_at timestamptz NOT NULL,           -- DE 7
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    currency       text NOT NULL,
    final          boolean NOT NULL DEFAULT true,  -- a capture that closes the hold
    surrogate      text NOT NULL,
    elements       jsonb NOT NULL,
    payment_intent text COLLATE "C" NOT NULL REFERENCES gateway.payment_intents,
    charge         text COLLATE "C" NOT NULL REFERENCES gateway.charges,
    refund         text COLLATE "C" REFERENCES gateway.refunds,
    original_id    bigint REFERENCES gateway.attempts,
    trace_id       text NOT NULL,
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'declined', 'reversed')),
    response_code  text NOT NULL DEFAULT '',
    auth_code      text NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL,
    decided_at     timestamptz,
    claimed_by     text,
    claimed_until  timestamptz
);
CREATE INDEX ON gateway.attempts (id) WHERE state = 'pending';
CREATE INDEX ON gateway.attempts (stan, transmitted_at);
CREATE INDEX ON gateway.attempts (original_id);
CREATE INDEX ON gateway.attempts (charge);

CREATE TABLE gateway.disputes (
    id             text COLLATE "C" PRIMARY KEY,
    account_id     text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    payment_intent text COLLATE "C" NOT NULL REFERENCES gateway.payment_intents,
    charge         text COLLATE "C" NOT NULL REFERENCES gateway.charges,
    attempt_id     bigint NOT NULL REFERENCES gateway.attempts,
    advice_key     text NOT NULL UNIQUE,           -- of the 0422, so that repeats are one
    created_at     timestamptz NOT NULL,
    status         text NOT NULL,
    reason         text NOT NULL,
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    currency       text NOT NULL,
    metadata       jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON gateway.disputes (account_id, id);
CREATE INDEX ON gateway.disputes (attempt_id);

-- `continuation` commits together with the first effect of the request; a retry after a crash goes on from there.
CREATE TABLE gateway.idempotency (
    account_id    text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    key           text COLLATE "C" NOT NULL,
    digest        bytea NOT NULL,                  -- of method, path and parameters
    holder        text NOT NULL,
    held_until    timestamptz NOT NULL,
    continuation  jsonb,
    status        int,
    body          text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
CREATE INDEX ON gateway.idempotency (created_at);

CREATE TABLE gateway.webhook_endpoints (
    id             text COLLATE "C" PRIMARY KEY,
    account_id     text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    created_at     timestamptz NOT NULL,
    url            text NOT NULL,
    secret         text NOT NULL,
    enabled_events text[] NOT NULL,
    description    text,
    metadata       jsonb NOT NULL DEFAULT '{}',
    deleted_at     timestamptz
);
CREATE INDEX ON gateway.webhook_endpoints (account_id, id);

CREATE TABLE gateway.events (
    id              text COLLATE "C" PRIMARY KEY,
    account_id      text COLLATE "C" NOT NULL REFERENCES gateway.accounts,
    created_at      timestamptz NOT NULL,
    type            text NOT NULL,
    object          jsonb NOT NULL,
    request_id      text,
    idempotency_key text
);
CREATE INDEX ON gateway.events (account_id, id);

CREATE TABLE gateway.deliveries (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      text COLLATE "C" NOT NULL REFERENCES gateway.events,
    endpoint_id   text COLLATE "C" NOT NULL REFERENCES gateway.webhook_endpoints,
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    tries         int NOT NULL DEFAULT 0,
    next_at       timestamptz NOT NULL,
    last_result   text NOT NULL DEFAULT '',
    UNIQUE (event_id, endpoint_id)
);
CREATE INDEX ON gateway.deliveries (next_at) WHERE state = 'waiting';

GRANT USAGE ON SCHEMA gateway TO cardswitch_gateway;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA gateway TO cardswitch_gateway;
GRANT DELETE ON gateway.idempotency TO cardswitch_gateway;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA gateway TO cardswitch_gateway;
