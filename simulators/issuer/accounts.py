"""Cardholders' accounts at a simulated issuer: which card, how much, which PIN, which answer.

PANs go in, accounts come out; the issuer's core asks before each approval. Cards that no rule names get an account
from the scenario's default on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Protocol

import msgspec

from messages.amounts_by_currency import AmountsByCurrency, amount_in, is_currency, table_problems
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


# Faults of a card itself: status → DE 39.
# Source: ISO 8583:1987 response codes.
STATUSES: dict[str, str] = {
    "open": "",
    "lost": "41",
    "stolen": "43",
    "pick-up": "04",
    "blocked": "62",
    "expired": "54",
    "suspected": "59",
    "closed": "14",
}


class AccountRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[account]]: one card by `pan`, or all cards that start with `prefix`; the longest prefix wins.

    Amounts are tables by currency, `{ EUR = 5_000, JPY = 9_000 }`, or a number of minor units in each currency.

    Args:
        balance_minor: amount that may be spent; nothing in a currency that its table does not name.
        currency: ISO 4217 alphabetic; "" for any.
        pin: 4–12 digits; "" where the card has none.
        response_code: DE 39 that every request gets; "" for an open account.
        status: one of `STATUSES`; `response_code` counts more.
        expiry: YYMM; a request with another DE 14 gets 54; "" for any.
        max_amount_minor: of one transaction (61 above it). daily_amount_minor: of a calendar day, UTC, in each
            currency (61). daily_count: approved requests for money a day (65). 0 each for no limit, as in a currency
            that a table does not name.
        cashback_minor: most cash of one purchase (61 above it); None for no limit of its own, as in a currency that
            its table does not name.
        partial: approve what is left (DE 39 = 10) where more is asked.
        verification_code: answer to a verification of the account: 00 or 85.
        psn: card sequence number of the chip, 2 digits.
    """

    pan: str = ""
    prefix: str = ""
    balance_minor: AmountsByCurrency = 500_000
    currency: str = ""
    pin: str = "1234"
    response_code: str = ""
    status: str = "open"
    expiry: str = ""
    max_amount_minor: AmountsByCurrency = 0
    daily_amount_minor: AmountsByCurrency = 0
    daily_count: int = 0
    cashback_minor: AmountsByCurrency | None = None
    partial: bool = False
    verification_code: str = "00"
    psn: str = "00"

    def __repr__(self) -> str:
        return f"AccountRule(balance_minor={self.balance_minor}, response_code={self.response_code!r})"


def account_problems(rule: AccountRule) -> list[str]:
    """The faults of a rule, one line each; for scenario files and the control socket."""
    problems = []
    digits = rule.pan or rule.prefix
    if bool(rule.pan) == bool(rule.prefix) or not (digits.isascii() and digits.isdigit()):
        problems.append("expected either pan or prefix, digits only")
    elif rule.pan and not 12 <= len(rule.pan) <= 19:
        problems.append("pan must have 12–19 digits")
    return problems + _field_problems(rule)


def _field_problems(rule: AccountRule) -> list[str]:
    problems = []
    if rule.status not in STATUSES:
        problems.append(f"status must be one of {', '.join(STATUSES)}")
    if rule.response_code and len(rule.response_code) != 2:
        problems.append("response_code must have 2 characters")
    if rule.verification_code not in ("00", "85"):
        problems.append("verification_code must be 00 or 85")
    if rule.expiry and (len(rule.expiry) != 4 or not rule.expiry.isdecimal()):
        problems.append("expiry must be YYMM")
    limits = (rule.max_amount_minor, rule.daily_amount_minor, rule.cashback_minor or 0, rule.daily_count)
    if any(limit < 0 for limit in limits if isinstance(limit, int)):
        problems.append("limits must be >= 0")
    for name in ("balance_minor", "max_amount_minor", "daily_amount_minor", "cashback_minor"):
        amounts: AmountsByCurrency | None = getattr(rule, name)
        problems += table_problems(name, amounts) if isinstance(amounts, dict) else []
    if len(rule.psn) != 2 or not rule.psn.isdecimal():
        problems.append("psn must have 2 digits")
    if rule.pin and not (4 <= len(rule.pin) <= 12 and rule.pin.isascii() and rule.pin.isdigit()):
        problems.append("pin must be 4–12 digits")
    if rule.currency and not is_currency(rule.currency):
        problems.append("currency must be of ISO 4217, three letters")
    return problems


def default_problems(rule: AccountRule | None) -> list[str]:
    """The same for a [default], which names no card."""
    return [] if rule is None else _field_problems(rule)


class Account:
    """One card's account.

    Attributes:
        rule: the rule that it was made with. response_code: DE 39 of a card that is not open; "" where it is.
        used: held and posted amounts, by currency.
        wrong_pins: in a row. last_atc: the highest transaction counter of its chip, -1 before the first.
    """

    __slots__ = ("_day", "_days_amount", "_days_count", "last_atc", "response_code", "rule", "used", "wrong_pins")

    def __init__(self, rule: AccountRule, response_code: str) -> None:
        self.rule = rule
        self.response_code = response_code
        self.used: dict[str, int] = {}
        self.wrong_pins = 0
        self.last_atc = -1
        self._day: date | None = None
        self._days_amount: dict[str, int] = {}
        self._days_count = 0

    @property
    def balance_minor(self) -> AmountsByCurrency:
        return self.rule.balance_minor

    def ledger_minor(self, currency: str) -> int:
        """The amount that may be spent in `currency` in all."""
        return amount_in(self.rule.balance_minor, currency) or 0

    def available_minor(self, currency: str) -> int:
        """The amount that may still be spent in `currency`; negative after a force-posted capture."""
        return self.ledger_minor(currency) - self.used.get(currency, 0)

    def use(self, currency: str, amount_minor: int) -> None:
        """Add to what is held and posted; negative gives back."""
        self.used[currency] = self.used.get(currency, 0) + amount_minor

    def over_limit(self, currency: str, amount_minor: int, today: date) -> str:
        """DE 39 of the limit that an approval of this amount would break: 61 or 65; "" for none."""
        rule = self.rule
        most_minor, day_minor = (
            amount_in(amounts, currency) or 0 for amounts in (rule.max_amount_minor, rule.daily_amount_minor)
        )
        if most_minor and amount_minor > most_minor:
            return "61"
        if today != self._day:
            return "61" if day_minor and amount_minor > day_minor else ""
        if day_minor and self._days_amount.get(currency, 0) + amount_minor > day_minor:
            return "61"
        return "65" if rule.daily_count and self._days_count >= rule.daily_count else ""

    def over_cash(self, currency: str, cash_minor: int) -> bool:
        """Whether this is more cash than one purchase may have."""
        most_minor = None if self.rule.cashback_minor is None else amount_in(self.rule.cashback_minor, currency)
        return most_minor is not None and cash_minor > most_minor

    def count(self, currency: str, amount_minor: int, today: date) -> None:
        """An approval, for the daily limits; reversals do not give it back."""
        if today != self._day:
            self._day, self._days_amount, self._days_count = today, {}, 0
        self._days_amount[currency] = self._days_amount.get(currency, 0) + amount_minor
        self._days_count += 1


class Cards(Protocol):
    """The accounts of a party: `Accounts`, or those of all issuers behind a network."""

    def __len__(self) -> int: ...
    def find(self, pan: str) -> Account | None: ...
    def set(self, rule: AccountRule) -> None: ...
    def items(self) -> list[tuple[str, Account]]: ...


class Accounts:
    """All accounts of one issuer.

    Args:
        prefixes: the issuer's BINs; () for any.
        rules: named accounts.
        default: the rule for an unnamed card of these BINs; None where only named cards exist.
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
            code = rule.response_code or STATUSES[rule.status] or TEST_CARDS.get(pan, "")
            account = self._open[pan] = Account(rule, code)
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
