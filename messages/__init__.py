"""Bytes and meaning of card messages: pure functions and data, imports nothing of ours."""
