-- What the tokenizer may know of API keys: whose a digest is and until when. Hints, names and everything else stay here.
CREATE VIEW gateway.key_digests WITH (security_barrier) AS
    SELECT digest, account_id, kind, ends_at FROM gateway.api_keys;

GRANT USAGE ON SCHEMA gateway TO cardswitch_tokenizer;
GRANT SELECT ON gateway.key_digests TO cardswitch_tokenizer;
