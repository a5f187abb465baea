"""Chip cards at a simulated terminal: an amount in, DE 55 with a true cryptogram out; called by traffic and tests.

The issuer's side is `simulators.issuer.chip`, which also has the data that a card puts under its cryptogram.

Source: EMV 4.3 Book 3, annex A (tags), 6.5.5 (GENERATE AC); the terminal's own tags are those of a usual online POS.
"""

from __future__ import annotations

import random
from datetime import datetime

import msgspec

from messages.money import numeric_currency
from simulators.acquirer.profile import Card
from simulators.issuer.chip import Chip

# Issuer application data of each scheme, as its cards have it: key index 1, a cryptogram version, verification results.
ISSUER_DATA: dict[str, str] = {
    "visa-cvn10": "06010A03A0B800",
    "visa-cvn18": "06011203A0B800",
    "visa-cvn22": "06011603A0B800",
    "mchip": "0110A00003220000000000000000000000FF",
    "mchip-csk": "0114A00003220000000000000000000000FF",
    "interac-cvn133": "0F0185036020000000",
    "emv-csk": "0FA501030000000000",
}
VERIFIED, INTERCHANGE, TERMINAL_COUNTRY = "8000048000", "1800", "0276"
PURCHASE, WITH_CASH = "00", "09"
MAX_ATC = 0xFFFF


class ChipCard:
    """One card with a chip; each presentation counts its transaction counter up.

    Args:
        card: as without a chip. imk: its issuer's master key for cryptograms; scheme: its scheme.
        psn: card sequence number, 2 digits. atc: of the transaction before the first.
        seed: of unpredictable numbers.
    """

    def __init__(
        self, card: Card, imk: bytes, scheme: str = "emv-csk", *, psn: str = "00", atc: int = 0, seed: int = 0
    ) -> None:
        self.card = card
        self.atc = atc
        self._chip = Chip(imk, scheme)
        self._scheme = scheme
        self._psn = psn
        self._random = random.Random(seed)

    def __repr__(self) -> str:
        return f"ChipCard(atc={self.atc})"

    def presented(self, amount_minor: int, currency: str, now: datetime, *, cashback_minor: int = 0) -> Card:
        """The card with DE 55 and DE 23 of its next transaction, an authorization or a purchase."""
        self.atc = self.atc % MAX_ATC + 1
        tags = {
            "9F02": f"{amount_minor:012d}",
            "9F03": f"{cashback_minor:012d}",
            "9F1A": TERMINAL_COUNTRY,
            "95": VERIFIED,
            "5F2A": numeric_currency(currency).zfill(4),
            "9A": f"{now:%y%m%d}",
            "9C": WITH_CASH if cashback_minor else PURCHASE,
            "9F37": self._random.randbytes(4).hex(),
            "82": INTERCHANGE,
            "9F36": f"{self.atc:04X}",
            "9F10": ISSUER_DATA[self._scheme],
        }
        data = {tag: bytes.fromhex(value) for tag, value in tags.items()}
        icc_data = self._chip.card_data(data, self.card.pan, self._psn)
        return msgspec.structs.replace(self.card, icc_data=icc_data, sequence=self._psn.zfill(3))
