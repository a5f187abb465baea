"""Requests for money at the issuer: limits, parts, cash, more of a hold, and what costs nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from messages.message import Message
from simulators.issuer import Issuer, Send
from simulators.issuer.accounts import STATUSES, AccountRule
from simulators.issuer.money import additional
from tests.simulators.samples import NOW, PAN, about, answer, issuer, request, standing, told


def with_account(**rule: object) -> Issuer:
    return issuer(account=(AccountRule(pan=PAN, **rule),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "code"), sorted(STATUSES.items()))
def test_the_status_of_a_card(status: str, code: str) -> None:
    assert told(with_account(status=status), request(1)) == (code or "00")


def test_expiry() -> None:
    core = issuer(account=(AccountRule(pan=PAN, expiry="3012"),))
    assert told(core, request(1, e14="3012")) == "00"
    assert told(core, request(2, e14="3011")) == "54"
    assert told(core, request(3, e2="", e35=f"{PAN}=3011201")) == "54"
    assert told(core, request(4)) == "00"
    assert told(issuer(), request(5, e14="2602")) == "54"
    assert told(issuer(), request(6, e14="2603")) == "00"  # good through the month that is printed


def test_limits_of_one_transaction_and_of_a_day() -> None:
    core = with_account(balance_minor=100_000, max_amount_minor=500, daily_amount_minor=1_000, daily_count=4)
    assert told(core, request(1, 501)) == "61"
    assert told(core, request(2, 500)) == "00"
    assert told(core, request(3, 400, "0200")) == "00"
    assert told(core, request(4, 101)) == "61"
    assert told(core, request(5, 100, e49="840")) == "00"  # a limit in each currency
    assert told(core, request(6, 100)) == "00"
    assert told(core, request(7, 1, e49="840")) == "65"
    assert told(core, request(8, 1, "0200", e3="200000")) == "00"  # a refund is no use of the card
    [action] = core.receive(request(9, 500), NOW + timedelta(days=1))
    assert isinstance(action, Send)
    assert action.message.elements[39] == "00"


def test_wrong_pins_in_a_row_until_the_right_one() -> None:
    core = issuer(pin_tries=3)
    right = core.keys.pin_block("1234", PAN)[0].hex().upper()
    wrong = core.keys.pin_block("9999", PAN)[0].hex().upper()
    codes = [told(core, request(number, 1, e52=block)) for number, block in enumerate((wrong, wrong, right, wrong), 1)]
    assert codes == ["55", "55", "00", "55"]
    codes = [told(core, request(number, 1, e52=block)) for number, block in enumerate((wrong, wrong, right, right), 5)]
    assert codes == ["55", "55", "75", "75"]
    assert told(core, request(20, 1)) == "00"  # without a PIN nobody counts


def test_a_repeat_does_not_count_a_wrong_pin_twice() -> None:
    core = issuer(pin_tries=2)
    wrong = request(1, 1, e52=core.keys.pin_block("9999", PAN)[0].hex().upper())
    assert [told(core, wrong) for _ in range(3)] == ["55"] * 3
    assert told(core, request(2, 1, e52=core.keys.pin_block("1234", PAN)[0].hex().upper())) == "00"


def test_what_is_left_is_approved_in_part() -> None:
    core = with_account(balance_minor=1_000, partial=True)
    assert told(core, request(1, 400)) == "00"
    given = answer(core, request(2, 700, "0200"))
    assert (given[39], given[4]) == ("10", f"{600:012d}")
    assert given[54] == "0057978D000000000700"  # the requested amount
    assert answer(core, request(2, 700, "0201")) == given
    assert standing(core) == [(400, 0), (0, 600)]
    assert told(core, request(3, 1)) == "51"
    assert told(core, about(request(2, 700, "0200"), 4, "0420")) == "00"
    assert told(core, request(5, 600)) == "00"


def test_nothing_is_approved_in_part_unless_the_account_says_so() -> None:
    core = with_account(balance_minor=1_000)
    assert told(core, request(1, 1_001)) == "51"
    assert told(with_account(balance_minor=1_000, partial=True), cash(1, 1_001, 100)) == "51"  # nor is cash


def cash(stan: int, amount: int, cash_minor: int) -> Message:
    return request(stan, amount, "0200", e3="090000", e54=f"0040978D{cash_minor:012d}")


def test_cash_back_has_a_limit_of_its_own() -> None:
    core = with_account(balance_minor=10_000, cashback_minor=500)
    assert told(core, cash(1, 2_000, 500)) == "00"
    assert told(core, cash(2, 2_000, 501)) == "61"
    assert standing(core) == [(0, 2_000), (0, 0)]


@pytest.mark.parametrize("de54", ["0040978D", "0040978D00000000000x", "0040978D000000002001"])
def test_cash_that_makes_no_sense_is_refused(de54: str) -> None:
    core = issuer()
    assert told(core, request(1, 2_000, "0200", e3="090000", e54=de54)) == "13"
    assert core.transactions == 0


def test_a_hold_grows_and_is_one_line() -> None:
    core = issuer()
    held = request(1, 1_000)
    told(core, held)
    more = about(held, 2, "0100", 500)
    assert told(core, more) == "00"
    assert told(core, about(held, 2, "0101", 500)) == "00"  # the repeat of the increment
    assert standing(core) == [(1_500, 0)]
    assert told(core, about(more, 3, "0100", 200)) == "00"  # of the hold, whichever message it names
    assert standing(core) == [(1_700, 0)]
    assert told(core, about(held, 4, "0220", 1_600, e60="F")) == "00"
    assert standing(core) == [(0, 1_600)]
    assert told(core, about(held, 5, "0100", 1)) == "12"  # there is no hold any more


def test_an_increment_may_be_reversed_by_itself() -> None:
    core = issuer()
    held = request(1, 1_000)
    told(core, held)
    more = about(held, 2, "0100", 500)
    told(core, more)
    assert told(core, about(more, 3, "0420")) == "00"
    assert told(core, about(more, 4, "0420")) == "00"
    assert standing(core) == [(1_000, 0)]
    assert told(core, about(held, 5, "0420")) == "00"
    assert standing(core) == [(0, 0)]
    assert told(core, request(6, 10_000)) == "00"


def test_an_increment_is_approved_in_full_or_not_at_all() -> None:
    core = with_account(balance_minor=1_000, partial=True)
    held = request(1, 800)
    told(core, held)
    assert told(core, about(held, 2, "0100", 201)) == "51"
    assert told(core, about(held, 3, "0100", 200)) == "00"
    assert standing(core) == [(1_000, 0), (0, 0)]


@pytest.mark.parametrize("state", ["unknown", "declined", "reversed"])
def test_nothing_grows_that_is_not_held(state: str) -> None:
    core = issuer()
    held = request(1, 20_000 if state == "declined" else 1_000)
    if state != "unknown":
        told(core, held)
    if state == "reversed":
        told(core, about(held, 2, "0420"))
    assert told(core, about(held, 3, "0100", 100)) == "12"
    assert all(line == (0, 0) for line in standing(core))


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_balance_inquiry_tells_and_books_nothing(mti: str) -> None:
    core = issuer()
    told(core, request(1, 2_500))
    given = answer(core, request(2, 0, mti, e3="310000"))
    assert given[39] == "00"
    assert given[54] == "0001978C000000010000" + "0002978C000000007500"
    assert standing(core) == [(2_500, 0), (0, 0)]


def test_an_overdrawn_account_says_so() -> None:
    assert additional("02", "EUR", -5) == "0002978D000000000005"
    assert additional("02", "EUR", 5) == "0002978C000000000005"


@pytest.mark.parametrize(("code", "processing_code"), [("00", "000000"), ("85", "000000"), ("85", "330000")])
def test_a_verification_of_the_account_is_free(code: str, processing_code: str) -> None:
    core = with_account(verification_code=code, balance_minor=0)
    given = answer(core, request(1, 0, e3=processing_code))
    assert (given[39], 54 in given, 38 in given) == (code, False, True)
    assert standing(core) == [(0, 0)]
    assert told(with_account(status="stolen", verification_code=code), request(2, 0)) == "43"


def test_a_refund_needs_an_amount_and_no_money() -> None:
    core = with_account(balance_minor=0)
    assert told(core, request(1, 0, "0200", e3="200000")) == "13"
    assert told(core, request(2, 500, "0200", e3="200000")) == "00"
    assert told(core, request(3, 500)) == "00"
