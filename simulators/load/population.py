"""Cards for load tests: many numbers in well-known test ranges, valid by Luhn, so that no velocity rule trips.

Called by the load generator and by the maker of its surrogates.
"""

from __future__ import annotations

from messages.card import luhn_digit

# Ranges of the two simulated issuers (specs/scenario-alpha.toml, scenario-beta.toml): with money, and without.
RICH = ("42424242", "55555555")
POOR = ("42424251", "55555551")


def population(count: int, prefixes: tuple[str, ...] = RICH, start: int = 0) -> list[str]:
    """`count` different PANs of 16 digits, taking turns among `prefixes` of 8 digits.

    Args:
        count: up to 10 million for each prefix.
        start: number of cards to skip, for a second, disjoint population.
    """
    pans = []
    for number in range(start, start + count):
        serial, turn = divmod(number, len(prefixes))
        partial = f"{prefixes[turn]}{serial:07d}"
        pans.append(partial + luhn_digit(partial))
    return pans
