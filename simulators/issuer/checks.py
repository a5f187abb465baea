"""Checks of an issuer before it approves: card, PIN, chip, card values, limits, money; a DE 39 comes out.

Called by the issuer's core for each request that it has not seen before. Wrong PINs and transaction counters are
remembered in the account; nothing else changes here.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

import msgspec

from hsm.algorithms.card_value import card_value, values_match
from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.errors import PinBlockError
from messages.card import pan_of
from messages.message import Message
from simulators.issuer.accounts import Account
from simulators.issuer.chip import Chip
from simulators.link_keys import LinkKeys

# The checks of a request, in their order: name → DE 39 when it fails.
CHECKS: dict[str, str] = {
    "reversed before it arrived": "12",
    "no such card": "14",
    "account blocked": "(the account's)",
    "card expired": "54",
    "PIN tries exceeded": "75",
    "wrong PIN": "55",
    "wrong cryptogram": "82",
    "transaction counter seen before": "05",
    "wrong card value": "82",
    "currency not of this account": "57",
    "payment of zero": "13",
    "over a limit": "61 (amount) or 65 (count)",
    "not enough money": "51",
}

CHIP_SERVICE = "999"


class Asked(msgspec.Struct, frozen=True):
    """The values of a request, read already.

    Args:
        amount_minor: DE 4, 0 where there is none. cashback_minor: of it in cash. sign: 1 takes money, −1 gives it.
        free: no money moves: a verification of the account or a balance inquiry.
    """

    message: Message
    amount_minor: int
    currency: str
    now: datetime
    sign: int = 1
    cashback_minor: int = 0
    free: bool = False


class Checks:
    """The checks of one issuer.

    Args:
        keys: of its link: PIN blocks are opened with them.
        pin_tries: wrong PINs in a row before 75; 0 for no limit.
        chip: verifies cryptograms; None: DE 55 is not looked at.
        cvk: verifies card values; b"": they are not looked at.
        noticed: called with the name of what was noticed, for the counters.
    """

    def __init__(
        self, keys: LinkKeys, pin_tries: int, chip: Chip | None, cvk: bytes, noticed: Callable[[str], None]
    ) -> None:
        self._keys = keys
        self._pin_tries = pin_tries
        self._chip = chip
        self._cvk = ClearTdesKey(cvk) if cvk else None
        self._noticed = noticed

    def judge(self, account: Account | None, asked: Asked) -> str:
        """DE 39 of a request; the order is that of `CHECKS`."""
        if account is None:
            return "14"
        if account.response_code:
            return account.response_code
        return self._card(account, asked) or self._money(account, asked) or "00"

    def answer_chip(self, account: Account, message: Message, response_code: str) -> dict[int, str]:
        """DE 55 of the answer, where the request had one and this issuer looks at it."""
        if self._chip is None or 55 not in message.elements:
            return {}
        answer = self._chip.answer(message.elements[55], pan_of(message), account.rule.psn, response_code)
        return {55: answer} if answer else {}

    def _card(self, account: Account, asked: Asked) -> str:
        """Is it the card, and its holder?"""
        elements = asked.message.elements
        expiry = elements.get(14) or _track_2(elements)[:4]
        if expiry and (expiry < _month(asked.now.year, asked.now.month) or account.rule.expiry not in ("", expiry)):
            return "54"
        if 52 in elements:
            if self._pin_tries and account.wrong_pins >= self._pin_tries:
                return "75"
            if not self._pin_is_right(account, asked.message):
                account.wrong_pins += 1
                return "55"
            account.wrong_pins = 0
        return self._chip_problem(account, asked.message) or self._card_value_problem(account, asked.message, expiry)

    def _money(self, account: Account, asked: Asked) -> str:
        rule = account.rule
        if rule.currency and rule.currency != asked.currency:
            return "57"
        if asked.free or asked.sign < 0:
            return "13" if asked.sign < 0 and not asked.amount_minor else ""
        if not asked.amount_minor:
            return "13"
        if account.over_cash(asked.currency, asked.cashback_minor):
            return "61"
        if limit := account.over_limit(asked.currency, asked.amount_minor, asked.now.date()):
            return limit
        available = account.available_minor(asked.currency)
        if available >= asked.amount_minor:
            return ""
        return "10" if rule.partial and available > 0 and not asked.cashback_minor else "51"

    def _pin_is_right(self, account: Account, message: Message) -> bool:
        if not self._keys.has_pin or not account.rule.pin:
            return False
        try:
            pin = self._keys.pin(bytes.fromhex(message.elements[52]), pan_of(message))
        except (PinBlockError, ValueError):
            return False
        return hmac.compare_digest(pin, account.rule.pin)

    def _chip_problem(self, account: Account, message: Message) -> str:
        if self._chip is None or 55 not in message.elements:
            return ""
        judged = self._chip.judge(message.elements[55], pan_of(message), account.rule.psn)
        if judged.problem:
            self._noticed(f"cryptogram {judged.problem}")
            return "82"
        if judged.atc <= account.last_atc:
            self._noticed("transaction counter seen before")
            return "05"
        account.last_atc = judged.atc
        return ""

    def _card_value_problem(self, account: Account, message: Message, expiry: str) -> str:
        """The value that was keyed (CVV2, over service code 000), that of the stripe (CVV) or of the chip (iCVV, 999).

        A stripe that was copied from chip data, or the other way round, has the wrong one of the two.
        """
        if self._cvk is None:
            return ""
        keyed = keyed_card_value(message)
        track = _track_2(message.elements)
        cases = [(keyed, "000")] if keyed else []
        if len(track) >= 15:  # expiry, service code, PVKI, PVV, CVV
            cases.append((track[12:15], CHIP_SERVICE if 55 in message.elements else track[4:7]))
        for given, service_code in cases:
            try:
                right = values_match(card_value(self._cvk, pan_of(message), expiry, service_code), given)
            except ValueError:
                right = False
            if not right:
                self._noticed("wrong card value")
                return "82"
        return ""


def keyed_card_value(message: Message) -> str:
    """The CVV2 in DE 48, "" where there is none.

    Source: inferred from public Mastercard specifications: subelement 92, 3 digits, behind an optional category code.
    """
    text = message.elements.get(48, "")
    at = 1 if text[:1].isalpha() else 0
    while len(text) >= at + 4 and text[at : at + 4].isdecimal():
        tag, size = text[at : at + 2], int(text[at + 2 : at + 4])
        if tag == "92":
            return text[at + 4 : at + 4 + size]
        at += 4 + size
    return ""


@lru_cache(maxsize=24)
def _month(year: int, month: int) -> str:
    """YYMM; asked for each request, and strftime is slow."""
    return f"{year % 100:02d}{month:02d}"


def _track_2(elements: dict[int, str]) -> str:
    """The characters after the PAN in DE 35, "" where there are none."""
    track = elements.get(35, "").replace("D", "=")
    return track.partition("=")[2]
