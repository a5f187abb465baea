"""Money: integer minor units with a currency, always; pure. Called by everything that books or shows amounts."""

from __future__ import annotations

from datetime import date

import msgspec

from messages.currencies import BY_NUMERIC, CURRENCIES, SINCE, WITHDRAWN
from messages.errors import MoneyError


class Money(msgspec.Struct, frozen=True):
    """An amount.

    Args:
        amount_minor: in the currency's minor unit (cents, yen, fils); negative where money goes back.
        currency: ISO 4217 alpha-3; a withdrawn one is still what an old amount was in.

    Raises:
        MoneyError: an amount that is no integer, or an unknown currency.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:
            raise MoneyError("an amount must be an integer of minor units")
        currency_exponent(self.currency)

    def format(self) -> str:
        """ "12.34 EUR", "-5 JPY", "1.250 KWD"."""
        exponent = currency_exponent(self.currency)
        sign = "-" if self.amount_minor < 0 else ""
        digits = str(abs(self.amount_minor)).rjust(exponent + 1, "0")
        if exponent:
            digits = f"{digits[:-exponent]}.{digits[-exponent:]}"
        return f"{sign}{digits} {self.currency}"


def currency_exponent(alpha: str) -> int:
    """Decimal places of the minor unit: EUR 2, JPY 0, KWD 3.

    Raises:
        MoneyError: unknown currency.
    """
    return _entry(alpha)[1]


def currencies_with(exponent: int) -> list[str]:
    """All currencies, withdrawn ones too, whose minor unit has so many decimal places."""
    return [code for code in CURRENCIES if currency_exponent(code) == exponent]


def alpha_currency(numeric: str) -> str:
    """DE 49 "978" → "EUR".

    Raises:
        MoneyError: unknown currency.
    """
    try:
        return BY_NUMERIC[numeric]
    except KeyError:
        raise MoneyError(f"unknown numeric currency code {numeric[:8]!r}") from None


def numeric_currency(alpha: str) -> str:
    """ "EUR" → "978", as in DE 49.

    Raises:
        MoneyError: unknown currency.
    """
    return _entry(alpha)[0]


def not_in_use(alpha: str, day: date) -> str:
    """Why no new payment can be made in a known currency on that day; "" where one can.

    Refunds, reversals and chargebacks of older payments are not new payments.
    """
    if alpha in WITHDRAWN:
        until, successor = WITHDRAWN[alpha]
        return f"{alpha} was withdrawn after {until}, its successor is {successor}" if day > until else ""
    since = SINCE.get(alpha)
    return f"{alpha} is not in use before {since}" if since is not None and day < since else ""


def _entry(alpha: str) -> tuple[str, int]:
    try:
        return CURRENCIES[alpha]
    except KeyError:
        raise MoneyError(f"unknown currency {alpha[:8]!r}") from None
