"""Amounts by currency in scenarios: balances, limits, stand-in, traffic; currencies of no, two and three decimals."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simulators.acquirer.scenario import acquirer_scenario_from
from simulators.acquirer.traffic import Traffic
from simulators.errors import ScenarioError
from simulators.issuer.accounts import AccountRule, account_problems
from simulators.network import Network
from simulators.network.scenario import MemberScenario
from tests.simulators.samples import NOW, PAN, issuer, request
from tests.simulators.test_acquirer_traffic import TABLE
from tests.simulators.test_issuer_money import told, with_account
from tests.simulators.test_network import MASTER, network

EUR, JPY, KWD = "978", "392", "414"


@pytest.mark.parametrize(
    ("rule", "currency", "most", "above"),
    [
        ({"balance_minor": {"EUR": 5_000, "JPY": 9_000}}, EUR, 5_000, "51"),
        ({"balance_minor": {"EUR": 5_000, "JPY": 9_000}}, JPY, 9_000, "51"),
        ({"balance_minor": {"EUR": 5_000, "JPY": 9_000}}, KWD, 0, "51"),
        ({"balance_minor": 7_000}, KWD, 7_000, "51"),
        ({"max_amount_minor": {"EUR": 5_000, "KWD": 800}}, KWD, 800, "61"),
        ({"max_amount_minor": {"EUR": 5_000, "KWD": 800}}, JPY, 500_000, "51"),
        ({"daily_amount_minor": {"EUR": 5_000, "JPY": 9_000}}, JPY, 9_000, "61"),
        ({"daily_amount_minor": {"EUR": 5_000, "JPY": 9_000}}, KWD, 500_000, "51"),
    ],
)
def test_an_account_has_an_amount_in_each_currency(rule: dict[str, Any], currency: str, most: int, above: str) -> None:
    assert told(with_account(**rule), request(1, most + 1, "0200", e49=currency)) == above
    if most:
        assert told(with_account(**rule), request(1, most, "0200", e49=currency)) == "00"


@pytest.mark.parametrize(("currency", "cash", "code"), [(EUR, 100, "00"), (EUR, 101, "61"), (JPY, 5_000, "00")])
def test_cash_has_a_limit_in_each_currency(currency: str, cash: int, code: str) -> None:
    part = f"0040{currency}D{cash:012d}"
    message = request(1, 10_000, "0200", e3="090000", e49=currency, e54=part)
    assert told(with_account(cashback_minor={"EUR": 100}), message) == code


def test_a_balance_is_told_in_the_currency_that_is_asked_for() -> None:
    core = issuer(default=AccountRule(balance_minor={"EUR": 5_000, "JPY": 9_000}))
    told(core, request(1, 2_000, "0200", e49=JPY))
    answers = []
    for number, currency in enumerate((EUR, JPY, KWD), 2):
        [sent] = core.receive(request(number, 0, e3="310000", e49=currency), NOW)
        parts = sent.message.elements[54]  # type: ignore[union-attr]
        answers.append((int(parts[8:20]), int(parts[28:40])))
    assert answers == [(5_000, 5_000), (9_000, 7_000), (0, 0)]


@pytest.mark.parametrize(
    ("currency", "amount", "code"),
    [(EUR, 1_000, "00"), (EUR, 1_001, "91"), (JPY, 1_800, "00"), (JPY, 1_801, "91"), (KWD, 1, "91"), ("000", 1, "91")],
)
def test_a_network_stands_in_up_to_an_amount_in_each_currency(currency: str, amount: int, code: str) -> None:
    member = MemberScenario(
        name="south", prefixes=("5",), default=AccountRule(), stand_in_minor={"EUR": 1_000, "JPY": 1_800}
    )
    core: Network = network(member)
    core.set_available("south", False)
    assert told(core, request(1, amount, e2=MASTER, e49=currency)) == code


def test_customers_draw_amounts_of_the_currency_that_they_pay_in() -> None:
    bounds = {"from_minor": {"EUR": 10, "JPY": 5_000}, "to_minor": {"EUR": 20, "JPY": 6_000}}
    scenario = acquirer_scenario_from({**TABLE, **bounds, "currencies": ["EUR", "JPY"]})
    traffic = Traffic.__new__(Traffic)
    traffic._scenario, traffic._cards, traffic._card_weights = scenario, [PAN], [1]  # type: ignore[list-item]
    dice = random.Random(1)
    drawn = [traffic._draw(dice)[1:] for _ in range(100)]
    assert {currency for _, currency in drawn} == {"EUR", "JPY"}
    assert all(bounds["from_minor"][code] <= amount <= bounds["to_minor"][code] for amount, code in drawn)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"from_minor": {"EUR": 1}}, "from_minor has no amount for JPY"),
        ({"cashback_minor": {"JPY": 1}}, "cashback_minor has no amount for EUR"),
        ({"to_minor": {"EUR": 200, "JPY": 99}}, r"in this order \(JPY\)"),
        ({"to_minor": {"EUR": 200, "JPY": 10**12}}, "JPY = 1000000000000 must be 0 to"),
        ({"to_minor": {"EUR": 200, "JPX": 200}}, "to_minor: 'JPX' is no currency"),
    ],
)
def test_traffic_in_a_currency_without_amounts_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        acquirer_scenario_from({**TABLE, "currencies": ["EUR", "JPY"], **changes})


def test_tables_of_an_account_are_checked() -> None:
    rule = AccountRule(pan=PAN, balance_minor={"EUX": 1}, cashback_minor={"EUR": -1}, max_amount_minor=-1)
    assert account_problems(rule) == [
        "limits must be >= 0",
        "balance_minor: 'EUX' is no currency of ISO 4217",
        "cashback_minor: EUR = -1 must be 0 to 999999999999",
    ]
