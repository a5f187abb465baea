"""The load generator: its links, its mix of payments, the cards for it, and a bare relay to measure against."""

from __future__ import annotations

from simulators.load.generator import LoadConfig, LoadResult, run_load

__all__ = ["LoadConfig", "LoadResult", "run_load"]
