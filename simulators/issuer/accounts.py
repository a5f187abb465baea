"""Cardholders' accounts at a simulated issuer: which card, how much, which PIN, which answer.

PANs go in, accounts come out; the issuer's core asks before each approval. Cards that no rule names get an account
from the scenario's default on first use.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from messages.card import luhn_valid

MAX_ACCOUNTS = 1_000_000

# Well-known test numbers and the DE 39 that they always get.
# Source: ISO 8583:1987 response codes; the numbers are the public test cards of card processors.
TEST_CARDS: dict[str, str] = {
    "4000000000000002": "05",  # do not honour
    "4000000000009995": "51",  # insufficient funds
    "4000000000009987": "41",  # lost card
    "4000000000009979": "43",  # stolen card
    "4000000000000069": "54",  # expired card
    "4000000000000127": "82",  # card verification value wrong
    "4000000000000119": "96",  # system malfunction
    "4000000000006975": "65",  # exceeds the frequency limit
    "4100000000000019": "59",  # suspected fraud
    "5555555555550004": "05",
    "5555555555559997": "51",
}


class AccountRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[account]]: one card by `pan`, or all cards that start with `prefix`; the longest prefix wins.

    Args:
        balance_minor: what may be spent, in minor units of each currency that the card is used in.
        currency: ISO 4217 alphabetic; "" for any.
        pin: 4–12 digits; "" where the card has none.
        response_code: DE 39 that every request gets; "" for an open account.
    """

    pan: str = ""
    prefix: str = ""
    balance_minor: int = 500_000
    currency: str = ""
    pin: str = "1234"
    response_code: str = ""

    def __repr__(self) -> str:
        return f"AccountRule(balance_minor={self.balance_minor}, response_code={self.response_code!r})"


class Account:
    """One card's account; `used` is what is held and posted, by currency."""

    __slots__ = ("balance_minor", "currency", "pin", "response_code", "used", "wrong_pins")

    def __init__(self, rule: AccountRule, response_code: str) -> None:
        self.balance_minor = rule.balance_minor
        self.currency = rule.currency
        self.pin = rule.pin
        self.response_code = response_code
        self.used: dict[str, int] = {}
        self.wrong_pins = 0

    def available_minor(self, currency: str) -> int:
        """What may still be spent in `currency`; negative after a force-posted capture."""
        return self.balance_minor - self.used.get(currency, 0)

    def use(self, currency: str, amount_minor: int) -> None:
        """Add to what is held and posted; negative gives back."""
        self.used[currency] = self.used.get(currency, 0) + amount_minor


class Accounts:
    """All accounts of one issuer.

    Args:
        prefixes: the issuer's BINs; () for any.
        rules: named accounts.
        default: what an unnamed card of these BINs gets; None where only named cards exist.
    """

    def __init__(
        self, prefixes: Sequence[str] = (), rules: Sequence[AccountRule] = (), default: AccountRule | None = None
    ) -> None:
        self._prefixes = tuple(prefixes)
        self._by_pan = {rule.pan: rule for rule in rules if rule.pan}
        self._by_prefix = sorted((rule for rule in rules if rule.prefix), key=lambda rule: -len(rule.prefix))
        self._default = default
        self._open: dict[str, Account] = {}

    def __len__(self) -> int:
        return len(self._open)

    def find(self, pan: str) -> Account | None:
        """The account behind a PAN; None where this issuer has no such card (DE 39 = 14)."""
        account = self._open.get(pan)
        if account is None:
            rule = self._rule(pan)
            if rule is None or len(self._open) >= MAX_ACCOUNTS:
                return None
            account = self._open[pan] = Account(rule, rule.response_code or TEST_CARDS.get(pan, ""))
        return account

    def set(self, rule: AccountRule) -> None:
        """Add or replace the account of `rule.pan`, or the rule of `rule.prefix` for cards not used yet."""
        if rule.pan:
            self._by_pan[rule.pan] = rule
            used = self._open.pop(rule.pan, None)
            account = self.find(rule.pan)
            if used is not None and account is not None:
                account.used = used.used
        else:
            self._by_prefix = [held for held in self._by_prefix if held.prefix != rule.prefix]
            self._by_prefix = sorted([*self._by_prefix, rule], key=lambda held: -len(held.prefix))

    def items(self) -> list[tuple[str, Account]]:
        """(PAN, account) of every card used so far; mask the PAN before it goes anywhere."""
        return list(self._open.items())

    def _rule(self, pan: str) -> AccountRule | None:
        rule = self._by_pan.get(pan)
        if rule is not None:
            return rule
        if not luhn_valid(pan) or not (not self._prefixes or pan.startswith(self._prefixes)):
            return None
        for rule in self._by_prefix:
            if pan.startswith(rule.prefix):
                return rule
        return self._default
