"""Fraud rules: each condition, their order, and that limits count the present request."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.journal import History, Intent, Kind
from messages.money import currency_exponent
from switch.config import FraudRule, switch_config
from switch.errors import ConfigError
from switch.fraud_settings import Rates, limits_by_currency
from switch.stages.fraud import FraudRules
from tests.switch.desk import NOW


def intent(**changes: Any) -> Intent:
    values: dict[str, Any] = {
        "key": "k", "kind": Kind.PURCHASE, "link": "pos", "mti": "0200", "processing_code": "000000",
        "transmitted_at": NOW, "created_at": NOW, "deadline_at": NOW, "trace_id": "t", "amount_minor": 2500,
        "currency": "EUR", "country": "DE",
    }  # fmt: skip
    return Intent(**{**values, **changes})


@pytest.mark.parametrize(
    ("rule", "history", "expected"),
    [
        ({"bin": ("4242",)}, History(), "decline"),
        ({"bin": ("5", "42424242")}, History(), "decline"),
        ({"bin": ("5",)}, History(), "allow"),
        ({"amount_over_minor": {"EUR": 2499}}, History(), "decline"),
        ({"amount_over_minor": {"EUR": 2500}}, History(), "allow"),
        ({"currency": "EUR", "amount_over_minor": 2499}, History(), "decline"),
        ({"amount_over_minor": {"USD": 0}, "other_currencies": "skip"}, History(), "allow"),
        ({"amount_over_minor": {"USD": 9999}, "other_currencies": "match"}, History(), "decline"),
        ({"sum_1h_over_minor": {"USD": 9999}, "other_currencies": "match"}, History(), "decline"),
        ({"sum_24h_over_minor": {"USD": 0}, "other_currencies": "skip"}, History(), "allow"),
        ({"currency": "USD", "amount_over_minor": 0}, History(), "allow"),
        ({"count_1h_over": 3}, History(count_1h=3), "decline"),
        ({"count_1h_over": 3}, History(count_1h=2), "allow"),
        ({"sum_1h_over_minor": {"EUR": 5000}}, History(sum_1h_minor=2501), "decline"),
        ({"sum_1h_over_minor": {"EUR": 5000}}, History(sum_1h_minor=2500), "allow"),
        ({"count_24h_over": 1}, History(count_24h=1), "decline"),
        ({"sum_24h_over_minor": {"EUR": 2500}}, History(sum_24h_minor=1), "decline"),
        ({"merchants_24h_over": 2}, History(merchants_24h=3), "decline"),
        ({"same_5m_over": 1}, History(same_5m=1), "decline"),
        ({"same_5m_over": 1}, History(same_5m=0), "allow"),
        ({"abroad": True}, History(), "decline"),
        ({"abroad": False}, History(), "allow"),
        ({"abroad": True, "amount_over_minor": {"EUR": 9999}}, History(), "allow"),
    ],
)
def test_each_condition(rule: dict[str, Any], history: History, expected: str) -> None:
    rules = FraudRules([FraudRule(name="r", action="decline", **rule)])
    assert rules.judge(intent(), history, "42424242", "US").action == expected


def test_a_country_that_is_not_known_is_not_abroad() -> None:
    rules = FraudRules([FraudRule(name="r", action="decline", abroad=True)])
    assert rules.judge(intent(), History(), "42424242", "").action == "allow"
    assert rules.judge(intent(country=""), History(), "42424242", "US").action == "allow"


def test_the_first_rule_that_matches_decides() -> None:
    rules = FraudRules(
        [
            FraudRule(name="friend", action="allow", bin=("4242",)),
            FraudRule(name="all", action="decline"),
        ]
    )
    assert rules.judge(intent(), History(), "42424242", "").rule == "friend"
    assert rules.judge(intent(), History(), "55555555", "").rule == "all"


RATES = Rates(
    reference="EUR", worth={"USD": Decimal("0.80"), "JPY": Decimal("0.0057"), "KWD": Decimal("2.80"), "GBP": Decimal(3)}
)


@pytest.mark.parametrize(
    ("currency", "limit"),
    [
        ("EUR", 1_000_000),
        ("USD", 1_250_000),  # 10,000 EUR at 0.80
        ("JPY", 1_754_385),  # 1,754,385.96, rounded down
        ("KWD", 3_571_428),  # 3,571.4285…, three decimals
        ("GBP", 5),  # named itself: no rate is looked at
        ("IDR", None),
    ],
)
def test_a_limit_in_the_reference_currency_holds_in_every_currency_with_a_rate(
    currency: str, limit: int | None
) -> None:
    amounts = {"EUR": 1_000_000, "GBP": 5}
    assert limits_by_currency(amounts, "", RATES).get(currency) == limit
    for other_currencies, beyond in (("skip", "allow"), ("match", "decline")):
        rule = FraudRule(name="r", action="decline", amount_over_minor=amounts, other_currencies=other_currencies)
        rules = FraudRules([rule], RATES)
        if limit is None:
            assert rules.judge(intent(currency=currency, amount_minor=1), History(), "", "").action == beyond
        else:
            at_it, over = (intent(currency=currency, amount_minor=limit + more) for more in (0, 1))
            assert rules.judge(at_it, History(), "", "").action == "allow"
            assert rules.judge(over, History(), "", "").action == "decline"


@given(
    st.integers(0, 10**12),
    st.decimals("0.0001", "10000", places=6),
    st.sampled_from(["USD", "JPY", "KWD", "CLF", "ISK"]),
)
def test_a_converted_limit_is_worth_no_more_than_the_reference_s(amount: int, worth: Decimal, currency: str) -> None:
    rates = Rates(reference="EUR", worth={currency: worth})
    limit = limits_by_currency({"EUR": amount}, "", rates)[currency]
    unit = Decimal(1).scaleb(-currency_exponent(currency)) * worth
    whole = Decimal(amount).scaleb(-2)
    assert limit * unit <= whole * (1 + Decimal("1e-20")) and (limit + 1) * unit > whole * (1 - Decimal("1e-20"))


@pytest.mark.parametrize(
    ("fraud", "rates", "problem"),
    [
        ({"amount_over_minor": 1000}, {}, "same number in every currency"),
        ({"sum_1h_over_minor": 1000}, {}, "same number in every currency"),
        ({"sum_24h_over_minor": 1000}, {}, "same number in every currency"),
        ({"amount_over_minor": {"EUR": 1000}}, {}, "other_currencies"),
        ({"amount_over_minor": {"EUX": 1000}, "other_currencies": "skip"}, {}, "'EUX' is no currency"),
        ({"amount_over_minor": {"EUR": -1}, "other_currencies": "skip"}, {}, "must be 0 to"),
        ({"amount_over_minor": -1, "currency": "EUR"}, {}, "0 or more"),
        ({"currency": "eur", "amount_over_minor": 1}, {}, "'eur' is no currency"),
        ({}, {"reference": "EUR", "worth": {"USX": "1"}}, "'USX' is no currency"),
        ({}, {"reference": "EUR", "worth": {"USD": "0"}}, "above 0"),
        ({}, {"reference": "EUR", "worth": {"USD": "NaN"}}, "above 0"),
        ({}, {"reference": "EUR", "worth": {"EUR": "2"}}, "worth 1"),
        ({}, {"worth": {"USD": "1"}}, "reference"),
    ],
)
def test_rules_whose_amounts_mean_nothing_are_refused(
    fraud: dict[str, Any], rates: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        switch_config({"fraud": [{"name": "r", "action": "decline", **fraud}], "rates": rates})
    assert problem in str(refused.value)


def test_rules_with_amounts_by_currency_are_taken() -> None:
    config = switch_config(
        {
            "fraud": [
                {"name": "a", "action": "decline", "currency": "EUR", "amount_over_minor": 1000},
                {"name": "b", "action": "decline", "amount_over_minor": {"EUR": 1}, "other_currencies": "match"},
            ],
            "rates": {"reference": "EUR", "worth": {"USD": "0.87"}},
        }
    )
    assert config.rates.worth == {"USD": Decimal("0.87")}
