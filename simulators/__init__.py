"""Issuers and acquirers that misbehave on demand, each with a book of its own."""
