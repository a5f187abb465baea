"""Messages as a terminal makes them: a card, an amount or an earlier request in, elements out; called by the core.

Numbers (DE 7, 11, 12, 13, 37) are given here, PIN blocks are made under the link's key. Time is an argument.

Source: ISO 8583:1987 table 4; DE 3 (00 purchase, 09 with cash, 20 return, 31 balance inquiry); DE 54, DE 60 (F, P:
final or partial, by agreement), 90, 95.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from messages.exchange import de7, original_data
from messages.message import Message
from messages.money import numeric_currency
from simulators.acquirer.profile import AcquirerProfile, Card
from simulators.link_keys import LinkKeys

PURCHASE, CASH_BACK, REFUND, INQUIRY = "000000", "090000", "200000", "310000"
CASH_PART = "40"  # amount type of DE 54
KEPT = (2, 3, 4, 14, 18, 22, 23, 32, 35, 41, 42, 43, 49)  # in messages about an earlier one, from it
OF_A_CARD = (2, 14, 23, 35, 36, 45, 52, 53, 55)
TOO_MUCH = "9" * 12  # DE 4 that no payment has
NO_FEES = "C00000000C00000000"
CHIP, PIN_TYPED, TYPED, SWIPED = "051", "051", "012", "021"


class Till:
    """Makes the messages of one acquirer."""

    def __init__(self, profile: AcquirerProfile, keys: LinkKeys) -> None:
        self._profile = profile
        self._keys = keys
        self._stan = (profile.first_stan - 1) % 999_999

    def numbers(self, now: datetime) -> dict[int, str]:
        """DE 7, 11, 12, 13 and 37; the terminal's local time is taken to be UTC."""
        self._stan = self._stan % 999_999 + 1
        stan = f"{self._stan:06d}"
        moment = de7(now)
        return {7: moment, 11: stan, 12: moment[4:], 13: moment[:4], 37: f"{now:%y%j%H}"[1:] + stan}

    def payment(
        self,
        processing_code: str,
        card: Card,
        amount_minor: int,
        currency: str,
        now: datetime,
        fields: Mapping[str, str],
        original: Message | None = None,
    ) -> dict[int, str]:
        """Elements of a request with a card. `fields`: terminal, merchant, mcc, country to replace the profile's."""
        profile = self._profile
        country = fields.get("country", profile.country)
        elements = {
            3: processing_code,
            4: f"{amount_minor:012d}",
            **self.numbers(now),
            18: fields.get("mcc", profile.mcc),
            22: _entry_mode(card),
            32: profile.acquirer_id,
            41: fields.get("terminal", profile.terminal).ljust(8),
            42: fields.get("merchant", profile.merchant).ljust(15),
            43: profile.place[:38].ljust(38) + country,
            49: numeric_currency(currency),
            **self._card(card),
        }
        if original is not None:
            elements[90] = reference(original)
        if "trace_id" in fields and profile.trace_element:
            elements[profile.trace_element] = fields["trace_id"]
        return elements

    def about(self, original: Message, now: datetime) -> dict[int, str]:
        """The elements of a message about an earlier one: the card, the amount and the place are the original's."""
        given = original.elements
        elements = {number: given[number] for number in KEPT if number in given}
        elements.update(self.numbers(now))
        elements[37] = given[37]
        elements[90] = reference(original)
        return elements

    def management(self, code: str, now: datetime) -> dict[int, str]:
        numbers = self.numbers(now)
        return {7: numbers[7], 11: numbers[11], 32: self._profile.acquirer_id, 70: code}

    def _card(self, card: Card) -> dict[int, str]:
        elements = {35: card.track2} if card.track2 else {2: card.pan, 14: card.expiry}
        if card.sequence:
            elements[23] = card.sequence
        if card.icc_data:
            elements[55] = card.icc_data
        if card.pin:
            block, ksn = self._keys.pin_block(card.pin, card.pan)
            elements[52] = block.hex().upper()
            if ksn:
                elements[self._profile.ksn_element] = ksn.hex().upper()
        return elements


def reference(original: Message) -> str:
    """DE 90 of a message about `original`."""
    given = original.elements
    return original_data(original.mti, given[11], given[7], given.get(32, ""))


def cash(currency: str, cashback_minor: int) -> str:
    """DE 54 of a purchase with cash: the part of DE 4 that the cardholder gets in notes."""
    return f"00{CASH_PART}{numeric_currency(currency)}D{cashback_minor:012d}"


def replacement(left_minor: int) -> str:
    """DE 95: the rest of the transaction; no fees."""
    return f"{left_minor:012d}{0:012d}{NO_FEES}"


def _entry_mode(card: Card) -> str:
    if card.icc_data:
        return CHIP
    if card.track2:
        return SWIPED
    return PIN_TYPED if card.pin else TYPED
