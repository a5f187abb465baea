"""Each kind of payment over real sockets, to real PostgreSQL, PKCS#11 token and issuers; the books agree after each."""

from __future__ import annotations

import pytest

from simulators.acquirer import Card
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

VISA = Card("4242424242424242", pin="1234")
MASTERCARD = Card("5555555555554444", pin="1234")
POOR = Card("4000000000009995")


@pytest.mark.parametrize("card", [VISA, MASTERCARD], ids=["ascii issuer", "bcd issuer"])
def test_purchase_with_pin(shop: Shop, card: Card) -> None:
    request, answer = shop.pos.buy(card, 1250)
    assert (answer.mti, answer.elements[39]) == ("0210", "00")
    assert len(answer.elements[38]) == 6
    assert shop.standing(request) == (0, 1250)
    shop.agree()


@pytest.mark.parametrize("card", [VISA, MASTERCARD], ids=["ascii issuer", "bcd issuer"])
def test_wrong_pin_is_declined_by_the_issuer(shop: Shop, card: Card) -> None:
    request, answer = shop.pos.buy(Card(card.pan, pin="4321"), 1251)
    assert answer.elements[39] == "55"
    assert shop.standing(request) == (0, 0)
    shop.agree()


def test_insufficient_funds_books_nothing(shop: Shop) -> None:
    request, answer = shop.pos.authorize(POOR, 990)
    assert answer.elements[39] == "51"
    assert shop.entries(request) == []
    shop.agree()


def test_authorization_holds_and_capture_posts(shop: Shop) -> None:
    request, answer = shop.pos.authorize(MASTERCARD, 10_000)
    assert answer.elements[39] == "00"
    assert shop.standing(request) == (10_000, 0)
    _, answer = shop.pos.capture(request, 10_000)
    assert (answer.mti, answer.elements[39]) == ("0230", "00")
    assert shop.standing(request) == (0, 10_000)
    # DEMOSHOP pays 2.9 % and nothing fixed: the table of the design
    posted = shop.posted(request)
    assert posted["merchant:DEMOSHOP:pending"] == -9_710
    assert posted["platform:revenue"] == -290
    shop.agree()


def test_a_card_from_abroad_costs_the_merchant_one_percent_more(shop: Shop) -> None:
    held, _ = shop.pos.authorize(VISA, 10_000)
    shop.pos.capture(held, 10_000)
    assert shop.posted(held)["platform:revenue"] == -390
    bought, _ = shop.pos.buy(VISA, 10_000)
    assert shop.posted(bought)["platform:revenue"] == -390


def test_partial_captures_then_the_rest_is_released(shop: Shop) -> None:
    request, _ = shop.pos.authorize(MASTERCARD, 5_000)
    assert shop.pos.capture(request, 2_000, final=False)[1].elements[39] == "00"
    assert shop.standing(request) == (3_000, 2_000)
    assert shop.pos.capture(request, 1_500, final=True)[1].elements[39] == "00"
    assert shop.standing(request) == (0, 3_500)
    shop.agree()


def test_more_than_the_hold_cannot_be_captured(shop: Shop) -> None:
    request, _ = shop.pos.authorize(VISA, 700)
    _, answer = shop.pos.capture(request, 701)
    assert answer.elements[39] != "00"
    assert shop.standing(request) == (700, 0)
    shop.agree()


def test_partial_refund_gives_the_fee_back_in_proportion(shop: Shop) -> None:
    purchase, _ = shop.pos.buy(MASTERCARD, 10_001)
    refund, answer = shop.pos.refund(MASTERCARD, 5_000, purchase)
    assert answer.elements[39] == "00"
    assert shop.standing(refund) == (0, -5_000)
    posted = shop.posted(refund)
    assert posted["merchant:DEMOSHOP:pending"] == 4_855
    assert posted["platform:revenue"] == 145
    shop.agree()


def test_more_than_was_paid_cannot_be_refunded(shop: Shop) -> None:
    purchase, _ = shop.pos.buy(VISA, 3_000)
    assert shop.pos.refund(VISA, 2_000, purchase)[1].elements[39] == "00"
    refund, answer = shop.pos.refund(VISA, 1_001, purchase)
    assert answer.elements[39] != "00"
    assert shop.standing(refund) == (0, 0)
    shop.agree()


@pytest.mark.parametrize("advice", [False, True], ids=["0400", "0420"])
def test_reversal_gives_the_hold_back(shop: Shop, advice: bool) -> None:
    request, _ = shop.pos.authorize(VISA, 4_200)
    _, answer = shop.pos.reverse(request, advice=advice)
    assert (answer.mti, answer.elements[39]) == ("0430" if advice else "0410", "00")
    assert shop.standing(request) == (0, 0)
    shop.agree()


def test_reversal_of_a_purchase_gives_the_money_back(shop: Shop) -> None:
    request, _ = shop.pos.buy(MASTERCARD, 4_300)
    assert shop.pos.reverse(request)[1].elements[39] == "00"
    assert shop.standing(request) == (0, 0)
    shop.agree()


def test_chargeback_from_the_issuer_reaches_ledger_and_acquirer(shop: Shop) -> None:
    request, _ = shop.pos.buy(VISA, 6_400)
    shop.chargeback("alpha", request)
    advice = shop.pos.wait_unasked("0422")
    assert advice.elements[90].startswith("0200" + request.message.elements[11])
    assert shop.standing(request) == (0, 0)
    shop.agree()


def test_money_never_appears_or_vanishes(shop: Shop) -> None:
    """Runs the auditor's commands on all that the tests before have booked."""
    verified = shop.command("ledger", "verify", "--all", "--json")
    assert verified["whole"] is True and verified["token_asked"] is True
    again = shop.command("ledger", "verify", "--json", "--head", f"{verified['head']}:{verified['digest']}")
    assert again["whole"] is True and again["since"] >= verified["head"]
    seals = shop.sql(
        "SELECT count(*) AS seals, count(m.mac) AS macs FROM ledger.seals s LEFT JOIN ledger.seal_macs m"
        " ON m.number = s.number WHERE s.number <= $1",
        verified["head"],
    )
    assert seals == [{"seals": verified["head"], "macs": verified["head"]}]
    balance = shop.command("ledger", "trial-balance", "--json")
    assert balance["lines"]
    totals = balance["totals"]
    assert totals and all(row["debit_minor"] == row["credit_minor"] for row in totals)
