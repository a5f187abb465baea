"""The card vault in PostgreSQL."""
