"""Minor units and currencies."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from messages.currencies import BY_NUMERIC, CURRENCIES, SINCE, WITHDRAWN
from messages.errors import MoneyError
from messages.money import Money, alpha_currency, currency_exponent, not_in_use, numeric_currency


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
    reused = {"ANG": "XCG"}  # ISO gave the successor the same numeric code
    assert len(CURRENCIES) == len(BY_NUMERIC) + len(reused) > 150
    for alpha, (numeric, exponent) in CURRENCIES.items():
        assert len(alpha) == 3 and alpha.isupper()
        assert len(numeric) == 3 and numeric.isdigit()
        assert BY_NUMERIC[numeric] == reused.get(alpha, alpha)
        assert exponent in (0, 2, 3, 4)
    assert SINCE.keys() <= CURRENCIES.keys() - WITHDRAWN.keys()
    assert all(successor in CURRENCIES.keys() - WITHDRAWN.keys() for _, successor in WITHDRAWN.values())


# Source: ISO 4217 list three and its amendments 154 to 180.
@pytest.mark.parametrize(
    ("alpha", "until", "successor"),
    [
        ("BGN", date(2025, 12, 31), "EUR"),
        ("HRK", date(2022, 12, 31), "EUR"),
        ("SLL", date(2023, 12, 31), "SLE"),
        ("ZWL", date(2024, 8, 31), "ZWG"),
        ("ANG", date(2025, 3, 30), "XCG"),
        ("CUC", date(2021, 6, 30), "CUP"),
        ("MRO", date(2017, 12, 31), "MRU"),
        ("STD", date(2017, 12, 31), "STN"),
        ("VEF", date(2018, 8, 19), "VES"),
        ("BYR", date(2016, 12, 31), "BYN"),
    ],
)
def test_a_withdrawn_currency_is_in_use_until_its_last_day(alpha: str, until: date, successor: str) -> None:
    assert not_in_use(alpha, until) == ""
    assert not_in_use(alpha, until + timedelta(days=1)) == (
        f"{alpha} was withdrawn after {until}, its successor is {successor}"
    )
    assert Money(1, alpha).format().endswith(alpha)  # an old amount is still shown
    assert numeric_currency(alpha) == CURRENCIES[alpha][0]


def test_a_currency_is_in_use_from_its_first_day() -> None:
    assert not_in_use("SLE", date(2022, 3, 31)) == "SLE is not in use before 2022-04-01"
    assert not_in_use("SLE", date(2022, 4, 1)) == ""
    assert not_in_use("EUR", date(1999, 1, 1)) == ""
    assert not_in_use("EUR", date(2026, 1, 1)) == ""


def test_unknown_currencies_and_amounts_that_are_none_are_refused() -> None:
    for wrong in ("eur", "XXX", "", "DEM"):
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
