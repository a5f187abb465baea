"""Dialects, routing and scenario samples, as data."""
