"""Amounts as the API writes them, Stripe's, and as messages and tables have them, minor units of ISO 4217.

Amounts enter through `charged` or `to_minor` and leave through `from_minor`. The two differ for ISK and UGX (two
decimals at the API, which must be 00) and MGA (none at the API, two in ISO 4217).

Source: Stripe's published page "Supported currencies" (special cases, minimum and maximum charge amounts), as of
September 2026, and its API reference of PaymentIntents; ISO 4217 for the exponents; ISO 8583:1987 DE 4, n 12.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from gateway.errors import invalid
from messages.errors import MoneyError
from messages.money import currency_exponent, not_in_use

_DIGITS_OF_DE_4 = 12
_DECIMALS = {"ISK": 2, "UGX": 2, "MGA": 0}  # at the API, where they are not ISO 4217's
_STEPS = {"ISK": 100, "UGX": 100, "BHD": 10, "JOD": 10, "KWD": 10, "OMR": 10, "TND": 10}  # amounts are multiples
# Stripe's sources differ: its reference of PaymentIntents has eight digits, its page eight with these exceptions for
# methods other than cards, and twelve for cards (nine for American Express), as far as the network allows. Eight are
# kept where they reach usual prices, since they stop an amount that was multiplied by a hundred twice.
_USUAL_DIGITS = 8
_STRIPE_S_DIGITS = {"INR": 9, "COP": 10, "IDR": 12}
# Twelve where a hundred units are worth less than a US dollar, so that eight would not reach the price of a car.
_CHEAP = """
AMD AOA ARS BIF CDF CLP CRC DJF DZD ETB GNF GYD HTG HUF IDR IQD IRR ISK JMD JPY KES KHR KMF KPW KRW KZT LAK LBP LKR LRD
MGA MMK MNT MWK NGN NPR PKR PYG RSD RWF SDG SOS SSD SYP TZS UGX UZS VES VND VUV XAF XOF XPF YER
"""
_DIGITS = dict.fromkeys(_CHEAP.split(), _DIGITS_OF_DE_4) | _STRIPE_S_DIGITS
_MINIMA = {
    "USD": "0.50", "AED": "2.00", "ARS": "0.50", "AUD": "0.50", "BRL": "0.50", "CAD": "0.50", "CHF": "0.50",
    "COP": "0.50", "CZK": "15.00", "DKK": "2.50", "EUR": "0.50", "GBP": "0.30", "HKD": "4.00", "HUF": "175.00",
    "IDR": "0.50", "ILS": "0.50", "INR": "0.50", "JPY": "50", "KRW": "50", "MXN": "10", "MYR": "2.00", "NOK": "3.00",
    "NZD": "0.50", "PHP": "0.50", "PLN": "2.00", "RON": "2.00", "RUB": "0.50", "SEK": "3.00", "SGD": "0.50",
    "THB": "10", "ZAR": "0.50",
}  # fmt: skip


def decimals(currency: str) -> int:
    """Decimal places of an amount at the API: EUR 2, JPY 0, KWD 3, ISK 2, MGA 0."""
    return _DECIMALS.get(currency, currency_exponent(currency))


def step(currency: str) -> int:
    """The smallest amount at the API; all others are multiples of it."""
    return _STEPS.get(currency, 1)


def minimum(currency: str) -> int:
    """The smallest amount that can be charged, in units of the API."""
    if currency not in _MINIMA:
        return step(currency)
    return int(Decimal(_MINIMA[currency]).scaleb(decimals(currency)))


def maximum(currency: str) -> int:
    """The largest amount that can be charged, in units of the API; in minor units it has twelve digits at most."""
    digits = min(_DIGITS.get(currency, _USUAL_DIGITS), _DIGITS_OF_DE_4 - max(0, _shift(currency)))
    most = int(10**digits) - 1
    return most - most % step(currency)


def charged(amount: int, currency: str, param: str = "amount") -> int:
    """Minor units of an amount that is to be charged.

    Args:
        amount: as the API has it, > 0. currency: ISO 4217 alpha-3.

    Raises:
        ApiError: `amount_too_small`, `amount_too_large`; `parameter_invalid_integer` for decimals that must be zeros.
    """
    if amount < minimum(currency):
        raise invalid(f"Amount must be at least {_text(minimum(currency), currency)}", param, "amount_too_small")
    if amount > maximum(currency):
        raise invalid(f"Amount must be no more than {_text(maximum(currency), currency)}", param, "amount_too_large")
    return to_minor(amount, currency, param)


def to_minor(amount: int, currency: str, param: str = "amount") -> int:
    """Minor units of ISO 4217 of an amount at the API. Raises ApiError for decimals that must be zeros."""
    if amount % step(currency):
        zeros = len(str(step(currency))) - 1
        raise invalid(
            f"Invalid integer: amounts in {currency.lower()} must end in {'0' * zeros}; "
            f"{_text(step(currency), currency)} is {step(currency)}",
            *(param, "parameter_invalid_integer"),
        )
    shift = _shift(currency)
    return amount * int(10**shift) if shift >= 0 else amount // int(10**-shift)


def from_minor(amount_minor: int, currency: str) -> int:
    """The amount at the API. MGA is rounded down to whole units: an issuer may charge back a part of one."""
    shift = _shift(currency)
    return amount_minor // int(10**shift) if shift >= 0 else amount_minor * int(10**-shift)


def chargeable_currency(given: str, today: date) -> str:
    """ISO 4217 alpha-3 in capitals, of a currency in which a payment can be made today. Raises ApiError for others."""
    currency = given.upper()
    try:
        currency_exponent(currency if given.isascii() else "")
    except MoneyError:
        raise invalid("Invalid currency: it must be a three-letter ISO 4217 code", "currency") from None
    require_in_use(currency, today)
    return currency


def require_in_use(currency: str, today: date) -> None:
    """Raise ApiError where no new payment can be made in that currency today."""
    if reason := not_in_use(currency, today):
        raise invalid(f"Invalid currency: {reason}", "currency")


def _shift(currency: str) -> int:
    """Zeros to add to an amount at the API for minor units: MGA 2, ISK -2."""
    return currency_exponent(currency) - decimals(currency)


def _text(amount: int, currency: str) -> str:
    """ "999,999.99 eur"."""
    return f"{Decimal(amount).scaleb(-decimals(currency)):,.{decimals(currency)}f} {currency.lower()}"
