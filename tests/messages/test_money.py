"""Minor units and currencies."""

from __future__ import annotations

import pytest

from messages.currencies import BY_NUMERIC, CURRENCIES
from messages.errors import MoneyError
from messages.money import Money, alpha_currency, currency_exponent, numeric_currency


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (1234, "EUR", "12.34 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (0, "USD", "0.00 USD"),
        (1234, "JPY", "1234 JPY"),
        (-1, "JPY", "-1 JPY"),
        (1250, "KWD", "1.250 KWD"),
        (7, "KWD", "0.007 KWD"),
        (12345, "CLF", "1.2345 CLF"),
    ],
)
def test_the_exponent_is_the_currency_s(amount_minor: int, currency: str, shown: str) -> None:
    assert Money(amount_minor, currency).format() == shown


@pytest.mark.parametrize(
    ("alpha", "numeric", "exponent"),
    [("EUR", "978", 2), ("USD", "840", 2), ("JPY", "392", 0), ("KWD", "414", 3), ("ALL", "008", 2), ("ISK", "352", 0)],
)
def test_codes(alpha: str, numeric: str, exponent: int) -> None:
    assert numeric_currency(alpha) == numeric
    assert alpha_currency(numeric) == alpha
    assert currency_exponent(alpha) == exponent


def test_the_table_is_a_bijection_of_well_formed_codes() -> None:
    assert len(CURRENCIES) == len(BY_NUMERIC) > 150
    for alpha, (numeric, exponent) in CURRENCIES.items():
        assert len(alpha) == 3 and alpha.isupper()
        assert len(numeric) == 3 and numeric.isdigit()
        assert BY_NUMERIC[numeric] == alpha
        assert exponent in (0, 2, 3, 4)


def test_unknown_currencies_and_amounts_that_are_none_are_refused() -> None:
    for wrong in ("eur", "XXX", "", "HRK"):
        with pytest.raises(MoneyError, match="unknown currency"):
            Money(1, wrong)
        with pytest.raises(MoneyError):
            numeric_currency(wrong)
    for numeric in ("", "97", "999", "EUR"):
        with pytest.raises(MoneyError, match="unknown numeric"):
            alpha_currency(numeric)
    for amount in (1.0, "1", True, None):
        with pytest.raises(MoneyError, match="integer"):
            Money(amount, "EUR")  # type: ignore[arg-type]
