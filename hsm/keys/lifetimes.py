"""Cryptoperiods: the time that a version of a key may be in force, by role, and the resulting state of a key now.

Roles, times and settings go in; the end of the period and a verdict come out. Called by the key store for lists, by the
keyring where expired keys are refused, and by `hsm.key_watch`.

Source: NIST SP 800-57 part 1 rev. 5, 5.3.6, table 1: originator-usage period of symmetric authentication, data
encryption and key wrapping keys, two years at most. The stricter year for zone PIN keys, and the five years of keys
whose results are on cards or in terminals for as long as those are used, are inferred from practice: neither PCI PIN
3.1 nor X9.24 states a number.
"""

from __future__ import annotations

from collections.abc import Mapping

DAY_S = 86_400
LIFETIME_DAYS: dict[str, int] = {
    "pin": 365,
    "mac": 730,
    "zmk": 730,
    "data": 730,
    "token-cryptogram": 730,
    "bdk": 1826,
    "cvk": 1826,
    "pvk": 1826,
    "ibm3624": 1826,
    "imk-ac": 1826,
    "imk-smc": 1826,
    "imk-smi": 1826,
    "imk-dcvv": 1826,
}
MAX_LIFETIME_DAYS = 3653
# Never refused, for any setting: without it no card could be stored or paid with.
ALWAYS_USED = frozenset({"data"})


def lifetimes(configured: Mapping[str, int]) -> dict[str, int]:
    """Return the days by role: the table, with what the configuration replaces; 0: without end."""
    return LIFETIME_DAYS | dict(configured)


def expiry(days: Mapping[str, int], role: str, active_from: int, created_at: int) -> int:
    """Return when a version's period ends, in seconds since 1970; 0: it has none, or its start is not known.

    A version that has not been in force yet has none.
    """
    start = active_from or created_at
    return start + days.get(role, 0) * DAY_S if start and days.get(role, 0) else 0


def left_days(expires_at: int, now: float) -> int:
    """Return the whole days that are left, below 0 once it is over."""
    return int((expires_at - now) // DAY_S)
