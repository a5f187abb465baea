"""Messages of the load generator: card, with or without PIN, as PAN or surrogate, amount.

A fixed pattern of turns, shuffled once by a seed, so that the shares are exact at any moment; called by
`simulators.load` for each transaction.
"""

from __future__ import annotations

import random

import msgspec

from hsm.algorithms.pinblock import encrypt_pin_block
from simulators.load.lane import Lane
from simulators.load.population import POOR, population

PATTERN = 600  # turns until the pattern starts again
MERCHANTS = 50


class MixConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of all transactions.

    Args:
        pin_share: with a PIN. surrogate_share: over the gateway's link, by surrogate.
        decline_share: cards without money (see `simulators.load.population.POOR`), never among the surrogates.
        cards: number of different PANs; poor_cards: those without money.
        pin: the cards' PIN. country: of the shops.
    """

    pin_share: float = 1 / 3
    surrogate_share: float = 1 / 3
    decline_share: float = 0.05
    cards: int = 20_000
    poor_cards: int = 2_000
    pin: str = "1234"
    country: str = "DE"
    seed: int = 0


class Mix:
    """An endless sequence of (lane, card template, amount).

    Args:
        lanes: the link for cards, then the one for surrogates if there is one.
        surrogates: of which cards the gateway pays; none: that share goes to the first lane.
    """

    def __init__(self, config: MixConfig, lanes: list[Lane], surrogates: tuple[str, ...]) -> None:
        source = random.Random(config.seed)
        pos = lanes[0]
        cards = population(config.cards)
        half = len(cards) // 2
        with_pin = cards[:half] if pos.pin_key else []
        poor = population(config.poor_cards, POOR)
        self._pools: dict[str, tuple[int, list[dict[int, str]]]] = {
            "pin": (0, [_template(pos, number, pan, config) for number, pan in enumerate(with_pin)]),
            "plain": (0, [_template(pos, number, pan, config, pin=False) for number, pan in enumerate(cards[half:])]),
            "poor": (0, [_template(pos, number, pan, config, pin=False) for number, pan in enumerate(poor)]),
        }
        if len(lanes) > 1 and surrogates:
            pool = [_template(lanes[1], number, pan, config, pin=False) for number, pan in enumerate(surrogates)]
            self._pools["surrogate"] = (1, pool)
        self._pattern = _pattern(config, self._pools, source)
        self._at = dict.fromkeys(self._pools, 0)
        self._number = 0

    def __len__(self) -> int:
        return len(self._pattern)

    def next(self) -> tuple[int, dict[int, str], int]:
        """The lane's index, the card's template and an amount of 1.00 to 100.00."""
        number = self._number
        self._number = number + 1
        name = self._pattern[number % PATTERN]
        lane, pool = self._pools[name]
        at = self._at[name]
        self._at[name] = at + 1
        # The amount moves at another pace than the card: the same pair comes back after millions.
        return lane, pool[at % len(pool)], 100 + number * 7 % 9_901


def _pattern(config: MixConfig, pools: dict[str, tuple[int, list[dict[int, str]]]], source: random.Random) -> list[str]:
    turns = {
        "pin": round(config.pin_share * PATTERN) if pools["pin"][1] else 0,
        "surrogate": round(config.surrogate_share * PATTERN) if "surrogate" in pools else 0,
        "poor": round(config.decline_share * PATTERN) if pools["poor"][1] else 0,
    }
    pattern = [name for name, count in turns.items() for _ in range(count)][:PATTERN]
    pattern += ["plain"] * (PATTERN - len(pattern))
    source.shuffle(pattern)
    return pattern


def _template(lane: Lane, number: int, pan: str, config: MixConfig, *, pin: bool = True) -> dict[int, str]:
    block = encrypt_pin_block(config.pin, pan, lane.pin_key).hex().upper() if pin else ""
    turn = number % MERCHANTS
    return lane.template(pan, block, f"LOADSHOP{turn:04d}", f"LT{turn:06d}", config.country)
