"""The double-entry ledger and the journal of card messages on PostgreSQL."""
