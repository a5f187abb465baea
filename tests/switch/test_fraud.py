"""Fraud rules: each condition, their order, and that limits count the present request."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.journal import History, Intent, Kind
from switch.config import FraudRule
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
        ({"amount_over_minor": 2499}, History(), "decline"),
        ({"amount_over_minor": 2500}, History(), "allow"),
        ({"currency": "USD", "amount_over_minor": 0}, History(), "allow"),
        ({"count_1h_over": 3}, History(count_1h=3), "decline"),
        ({"count_1h_over": 3}, History(count_1h=2), "allow"),
        ({"sum_1h_over_minor": 5000}, History(sum_1h_minor=2501), "decline"),
        ({"sum_1h_over_minor": 5000}, History(sum_1h_minor=2500), "allow"),
        ({"count_24h_over": 1}, History(count_24h=1), "decline"),
        ({"sum_24h_over_minor": 2500}, History(sum_24h_minor=1), "decline"),
        ({"merchants_24h_over": 2}, History(merchants_24h=3), "decline"),
        ({"same_5m_over": 1}, History(same_5m=1), "decline"),
        ({"same_5m_over": 1}, History(same_5m=0), "allow"),
        ({"abroad": True}, History(), "decline"),
        ({"abroad": False}, History(), "allow"),
        ({"abroad": True, "amount_over_minor": 9999}, History(), "allow"),
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
