-- An approval that an issuer gives after it has declined the same request is an intent: its outcome has the reversal.

ALTER TABLE ledger.intents DROP CONSTRAINT intents_kind_check;
ALTER TABLE ledger.intents
    ADD CONSTRAINT intents_kind_check CHECK (kind IN (
        'authorization', 'increment', 'purchase', 'capture', 'refund', 'inquiry', 'reversal', 'reduction', 'chargeback',
        'tombstone', 'file_update', 'reconciliation', 'administrative', 'cut_over', 'late_approval')) NOT VALID;
ALTER TABLE ledger.intents VALIDATE CONSTRAINT intents_kind_check;
