"""A card as the vault keeps it, its numbers, and the bounded cache in front of the table.

PANs go in as digits for the length of a call; `Card` holds ciphertext, fingerprint, token and the digits that may be
shown. Called by the engine and the vault.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from hsm.commands import HsmRefused
from hsm.vault_commands import CardToken
from messages.card import luhn_digit

SURROGATE_BIN = "990000"
SURROGATE_DIGITS = 16
_FORGOTTEN = 10_000
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_DIGITS = 22  # 62**22 > 2**128


class Card(msgspec.Struct, frozen=True, gc=False):
    """A row of `vault.cards`.

    `fingerprint` is 16 bytes. `ciphertext` holds PAN and expiry under data key `key_version` with `nonce` (12 bytes)
    and the token as associated data. `bin` is the first 8 digits where the PAN has 16 or more, else the first 6, so
    that `bin` and `last4` never make up a number.
    """

    token: str
    fingerprint: bytes
    surrogate: str
    key_version: str
    nonce: bytes
    ciphertext: bytes
    bin: str
    last4: str
    digits: int

    @property
    def masked_pan(self) -> str:
        """First six and last four digits."""
        return f"{self.bin[:6]}{'*' * (self.digits - 10)}{self.last4}"

    def __repr__(self) -> str:
        return f"Card({self.token!r})"


def shown_digits(pan: str) -> tuple[str, str]:
    """Return the leading digits that may be shown and the last four.

    Source: PCI DSS 4.0.1, 3.4.1, and PCI SSC FAQ 1091 (8 and 4 for 16 digits, 6 and 4 for fewer).
    """
    return pan[: 8 if len(pan) >= 16 else 6], pan[-4:]


def valid_pan(pan: str) -> bool:
    """Whether `pan` has the shape of a PAN, 12–19 digits; the check digit is the issuer's matter."""
    return 12 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()


def check_expiry(expiry: str) -> None:
    """Raise HsmRefused `malformed` unless `expiry` is YYMM."""
    if not (len(expiry) == 4 and expiry.isascii() and expiry.isdigit() and "01" <= expiry[2:] <= "12"):
        raise HsmRefused("malformed", "expiry is YYMM")


def card_token(card: Card, expiry: str, token: str = "", created_at: int = 0) -> CardToken:
    """Return what may be known of a card, under the name `token` where it has one."""
    return CardToken(
        id=token,
        surrogate=card.surrogate,
        fingerprint=card.fingerprint.hex(),
        bin=card.bin,
        last4=card.last4,
        expiry=expiry,
        created_at=created_at,
    )


class Numbers:
    """Makes tokens and surrogates.

    Args:
        random_bytes: returns that many random bytes; `secrets.token_bytes`, or a seeded one in a simulation.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.random_bytes = random_bytes
        self.now_ms = now_ms

    def identifier(self, prefix: str) -> str:
        """Return `prefix` and 22 letters and digits that sort by time: 48 bits of milliseconds, 80 random ones."""
        number = (self.now_ms() << 80) | int.from_bytes(self.random_bytes(10), "big")
        digits = []
        for _ in range(_ID_DIGITS):
            number, digit = divmod(number, 62)
            digits.append(_BASE62[digit])
        return prefix + "".join(reversed(digits))

    def surrogate(self) -> str:
        """Return a PAN-shaped number of our own range: 16 digits, Luhn-valid; the vault sees to uniqueness."""
        return self.number(SURROGATE_BIN)

    def number(self, leading: str) -> str:
        """Return 16 random digits that begin with `leading` and end with a check digit."""
        free = SURROGATE_DIGITS - len(leading) - 1
        middle = int.from_bytes(self.random_bytes(8), "big") % 10**free
        partial = f"{leading}{middle:0{free}d}"
        return partial + luhn_digit(partial)


class CardCache:
    """The cards used last, found by fingerprint, token or surrogate.

    Args:
        capacity: cards kept; the one unused longest leaves first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_token: OrderedDict[str, Card] = OrderedDict()
        self._by_fingerprint: dict[bytes, Card] = {}
        self._by_surrogate: dict[str, Card] = {}
        self._forgotten: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_token)

    def by_token(self, token: str) -> Card | None:
        return self._used(self._by_token.get(token))

    def by_fingerprint(self, fingerprint: bytes) -> Card | None:
        return self._used(self._by_fingerprint.get(fingerprint))

    def by_surrogate(self, surrogate: str) -> Card | None:
        return self._used(self._by_surrogate.get(surrogate))

    def add(self, card: Card) -> None:
        """Remember a card, unless it was erased: an answer may have been under way meanwhile."""
        if card.token in self._forgotten:
            return
        self._by_token[card.token] = card
        self._by_token.move_to_end(card.token)
        self._by_fingerprint[card.fingerprint] = card
        self._by_surrogate[card.surrogate] = card
        if len(self._by_token) > self._capacity:
            _, oldest = self._by_token.popitem(last=False)
            self._by_fingerprint.pop(oldest.fingerprint, None)
            self._by_surrogate.pop(oldest.surrogate, None)

    def forget(self, token: str) -> None:
        """Drop a card that was erased, for good."""
        self._forgotten[token] = None
        if len(self._forgotten) > _FORGOTTEN:
            self._forgotten.popitem(last=False)
        self.drop(token)

    def drop_version(self, key_version: str) -> None:
        """Drop the cards that are here as ciphertexts of a data key; takes 5 ms for 100,000 cards."""
        for token in [card.token for card in self._by_token.values() if card.key_version == key_version]:
            self.drop(token)

    def drop(self, token: str) -> None:
        """Drop a card; the vault is asked for it next time."""
        card = self._by_token.pop(token, None)
        if card is None:
            return
        self._by_surrogate.pop(card.surrogate, None)
        if self._by_fingerprint.get(card.fingerprint) is card:  # a new card may have the same number
            del self._by_fingerprint[card.fingerprint]

    def _used(self, card: Card | None) -> Card | None:
        if card is not None:
            self._by_token.move_to_end(card.token)
        return card
