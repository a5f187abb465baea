"""Fees by currency: captures and chargebacks in currencies of no, two and three decimals, and what a file may say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ledger.config import FeesConfig, FeeTable, MerchantConfig, fee_problems
from ledger.errors import FeeError
from ledger.journal import Kind, Posting
from ledger.lifecycle import Event
from ledger.posting import postings
from messages.money import Money
from tests.ledger.samples import original

FIXED = {"EUR": 30, "JPY": 45, "KWD": 100}
DISPUTE = {"EUR": 1_500, "JPY": 2_500, "KWD": 5_000}
FEES = FeesConfig(fixed_minor=FIXED, dispute_fee_minor=DISPUTE, other_currencies="rate-only")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "fee"),
    [
        (10_000, "EUR", "3.20 EUR"),
        (10_000, "JPY", "335 JPY"),
        (10_000, "KWD", "0.390 KWD"),
        (10_000, "HUF", "2.90 HUF"),  # no amount of its own
        (40, "JPY", "40 JPY"),  # never more than the amount
        (99, "KWD", "0.099 KWD"),
        (31, "EUR", "0.31 EUR"),
    ],
)
def test_a_capture_has_the_fixed_fee_of_its_currency(amount_minor: int, currency: str, fee: str) -> None:
    schedule = FeeTable(FEES).schedule("SHOP")
    assert Money(schedule.capture_fee_minor(amount_minor, currency), currency).format() == fee


@pytest.mark.parametrize(("currency", "fee"), [("EUR", 1_500), ("JPY", 2_500), ("KWD", 5_000), ("HUF", 0)])
def test_a_chargeback_costs_the_dispute_fee_of_the_payments_currency(currency: str, fee: int) -> None:
    def made(event: Event, amount_minor: int, named: str, of: Any = None) -> tuple[Posting, ...]:
        return postings(
            event,
            amount_minor=amount_minor,
            currency=named,
            issuer="alpha",
            merchant="SHOP",
            fees=FeeTable(FEES).schedule("SHOP"),
            original=of,
        )

    paid = original(Kind.PURCHASE, currency=currency, postings=made(Event.PURCHASED, 10_000, currency))
    lines = made(Event.CHARGED_BACK, 10_000, "USD", paid)
    assert {line.currency for line in lines} == {currency}
    assert -sum(line.amount_minor for line in lines if line.account == "platform:dispute_fees") == fee


def test_terms_of_a_merchant_lie_over_the_common_ones_currency_by_currency() -> None:
    table = FeeTable(
        FEES,
        [
            MerchantConfig("OWN", country="DE", rate=Decimal(0), fixed_minor={"EUR": 10, "HUF": 7_000}),
            MerchantConfig("FREE", rate=Decimal(0), fixed_minor=0),
            MerchantConfig("CHEAP", rate=Decimal("0.01")),
        ],
    )
    fixed = {
        merchant: [table.schedule(merchant).fixed_minor.get(currency) for currency in ("EUR", "JPY", "HUF")]
        for merchant in ("OWN", "FREE", "CHEAP", "OTHER")
    }
    assert fixed == {
        "OWN": [10, 45, 7_000],
        "FREE": [None, None, None],
        "CHEAP": [30, 45, None],
        "OTHER": [30, 45, None],
    }
    assert table.schedule("OWN").dispute_fee_minor == table.schedule("FREE").dispute_fee_minor == DISPUTE
    assert table.schedule("OWN").rate == 0
    assert table.schedule("CHEAP").rate == Decimal("0.01")
    assert (table.country("OWN"), table.country("OTHER")) == ("DE", "")


@pytest.mark.parametrize(
    ("fees", "merchant", "fixed"),
    [
        ({}, {}, [30, None, None]),  # the default
        ({"fixed_minor": 25}, {}, [25, None, None]),
        ({"fixed_minor": 0}, {}, [None, None, None]),
        ({"fixed_minor": 25}, {"fixed_minor": {"EUR": 10, "JPY": 40}}, [10, 40, None]),
        ({"fixed_minor": FIXED}, {"fixed_minor": 20}, [20, 45, 100]),
        ({"fixed_minor": FIXED}, {"fixed_minor": 0}, [None, None, None]),
    ],
)
def test_a_number_alone_is_hundredths_and_holds_where_there_are_any(
    fees: dict[str, Any], merchant: dict[str, Any], fixed: list[int | None]
) -> None:
    schedule = FeeTable(FeesConfig(**fees), [MerchantConfig("SHOP", **merchant)]).schedule("SHOP")
    assert [schedule.fixed_minor.get(currency) for currency in ("EUR", "JPY", "KWD")] == fixed


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"rate": Decimal("1.5")}, "rate is 1.5"),
        ({"rate": Decimal("NaN")}, "rate is NaN"),
        ({"international_rate": Decimal(-1)}, "international_rate is -1"),
        ({"fixed_minor": -1}, "fixed_minor = -1 must be 0 to 999999999999"),
        ({"dispute_fee_minor": 10**12}, "dispute_fee_minor = 1000000000000 must be 0 to"),
        ({"fixed_minor": {"EUX": 30}}, "fixed_minor: 'EUX' is no currency of ISO 4217"),
        ({"fixed_minor": {"EUR": -1}}, "fixed_minor: EUR = -1 must be 0 to 999999999999"),
        ({"dispute_fee_minor": {"EUR": 10**12}}, "dispute_fee_minor: EUR = 1000000000000 must be 0 to"),
    ],
)
def test_terms_that_are_wrong_are_named_with_the_section(terms: dict[str, Any], named: str) -> None:
    (problem,) = fee_problems(FeesConfig(**terms))
    assert problem.startswith("[fees]: ") and named in problem
    (problem,) = fee_problems(FeesConfig(), [MerchantConfig("SHOP", **terms)])
    assert problem.startswith("[[merchant]] SHOP: ") and named in problem
    with pytest.raises(FeeError, match=r"\[fees\]"):
        FeeTable(FeesConfig(**terms))


@pytest.mark.parametrize(
    ("terms", "missing"),
    [
        ({}, set()),
        ({"fixed_minor": FIXED}, {"fixed_minor"}),
        ({"fixed_minor": FIXED, "dispute_fee_minor": DISPUTE}, {"fixed_minor", "dispute_fee_minor"}),
        ({"fixed_minor": FIXED | {"HUF": 9_000}, "dispute_fee_minor": DISPUTE}, {"dispute_fee_minor"}),
        ({"fixed_minor": 30}, set()),
        ({"fixed_minor": 0, "dispute_fee_minor": {"EUR": 1_500, "KWD": 5_000}}, {"dispute_fee_minor"}),
        ({"fixed_minor": 0, "dispute_fee_minor": 0}, set()),
        ({"fixed_minor": FIXED | {"HUF": 0}, "dispute_fee_minor": DISPUTE | {"HUF": 0}}, set()),
        ({"other_currencies": "rate-only"}, set()),
    ],
)
def test_a_currency_that_a_link_may_send_has_an_amount_or_the_file_says_that_it_has_none(
    terms: dict[str, Any], missing: set[str]
) -> None:
    problems = fee_problems(FeesConfig(**terms), accepted={"pos": ("EUR", "HUF"), "north": ("EUR", "HUF", "KWD")})
    assert {problem.split()[1] for problem in problems} == missing and len(problems) == len(missing)
    assert all("HUF (link pos); " in problem and "HUF" in problem.split("; ")[1] for problem in problems)
    assert all('other_currencies = "rate-only"' in problem for problem in problems)
    assert fee_problems(FeesConfig(**terms)) == [], "nothing is known of any link"


def test_each_link_is_named_with_the_currencies_that_have_no_amount() -> None:
    accepted = {
        "pos": ("EUR", "HUF"),
        "north": ("EUR", "JPY"),
        "south": ("EUR", "HUF", "CZK", "DKK", "PLN", "SEK", "USD"),
    }
    (problem,) = fee_problems(FeesConfig(fixed_minor=FIXED, dispute_fee_minor=0), accepted=accepted)
    assert ": HUF (link pos); CZK, DKK, HUF, PLN, SEK and 1 more (link south). Name them" in problem
