"""ledger.posting, ledger.fees, ledger.accounts: bookings sum to zero and mean what the table says."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.accounts import CHART, AccountType, account_type, merchant_pending
from ledger.change import ChangeRow, fold_changes
from ledger.errors import FeeError, PostingError
from ledger.fees import FeeSchedule, returned_fee_minor
from ledger.journal import Change, Kind, Layer, Original, Posting, StoredIntent
from ledger.lifecycle import Event
from ledger.posting import (
    POSTING_RULES,
    REVERSING_EVENTS,
    cash_minor,
    check_postings,
    fee_minor,
    held_minor,
    postings,
)
from tests.ledger.samples import FEES, intent, original

ISSUER, MERCHANT = "issuer:alpha:receivable", "merchant:DEMOSHOP:pending"


def book(event: Event, amount_minor: int, of: Original | None = None, final: bool = True) -> tuple[Posting, ...]:
    return postings(
        event,
        amount_minor=amount_minor,
        currency="EUR",
        issuer="alpha",
        merchant="DEMOSHOP",
        fees=FEES,
        original=of,
        final=final,
    )


def lines(of: tuple[Posting, ...]) -> list[tuple[str, str, int]]:
    return [(line.layer.value, line.account, line.amount_minor) for line in of]


def captured(amount_minor: int = 10_000) -> Original:
    fee = FEES.capture_fee_minor(amount_minor, "EUR")
    return original(changes=(Change(Kind.CAPTURE, amount_minor, True, fee),), amount_minor=amount_minor)


def test_authorization() -> None:
    assert lines(book(Event.AUTHORIZED, 10_000)) == [
        ("pending", ISSUER, 10_000),
        ("pending", "settlement:pending", -10_000),
    ]


def test_capture_releases_the_hold_and_pays_the_merchant() -> None:
    assert lines(book(Event.CAPTURED, 10_000, original())) == [
        ("pending", "settlement:pending", 10_000),
        ("pending", ISSUER, -10_000),
        ("posted", ISSUER, 10_000),
        ("posted", "settlement:pending", -10_000),
        ("posted", "settlement:pending", 10_000),
        ("posted", MERCHANT, -9_710),
        ("posted", "platform:revenue", -290),
    ]


def test_partial_capture_leaves_the_rest_on_hold_and_a_final_one_does_not() -> None:
    assert held_minor(book(Event.CAPTURED, 4_000, original(), final=False)) == -4_000
    assert held_minor(book(Event.CAPTURED, 4_000, original(), final=True)) == -10_000


def test_refund_returns_its_share_of_the_fee() -> None:
    assert lines(book(Event.REFUNDED, 5_000, captured())) == [
        ("posted", MERCHANT, 4_855),
        ("posted", ISSUER, -5_000),
        ("posted", "platform:revenue", 145),
    ]


def test_refund_returns_the_fee_that_was_taken_not_todays() -> None:
    at_another_price = original(changes=(Change(Kind.CAPTURE, 10_000, True, 1_000),))
    assert fee_minor(book(Event.REFUNDED, 10_000, at_another_price)) == -1_000


def test_chargeback_costs_the_merchant_amount_and_dispute_fee() -> None:
    assert lines(book(Event.CHARGED_BACK, 10_000, captured())) == [
        ("posted", MERCHANT, 11_500),
        ("posted", ISSUER, -10_000),
        ("posted", "platform:dispute_fees", -1_500),
    ]


def test_void_releases_what_is_left() -> None:
    part = original(changes=(Change(Kind.CAPTURE, 4_000, False),))
    assert lines(book(Event.VOIDED, 0, part)) == [
        ("pending", "settlement:pending", 6_000),
        ("pending", ISSUER, -6_000),
    ]


@pytest.mark.parametrize("named", ["", "USD"])
def test_a_void_is_booked_in_the_currency_of_the_hold_whatever_it_names(named: str) -> None:
    released = postings(
        Event.VOIDED,
        amount_minor=0,
        currency=named,
        issuer="",
        merchant="",
        fees=FeeSchedule(),
        original=original(),
    )
    assert {line.currency for line in released} == {"EUR"}


@pytest.mark.parametrize(
    ("event", "done", "kind"),
    [
        (Event.PURCHASE_REVERSED, Event.PURCHASED, Kind.PURCHASE),
        (Event.REFUND_REVERSED, Event.REFUNDED, Kind.REFUND),
    ],
)
def test_reversal_books_the_reverse(event: Event, done: Event, kind: Kind) -> None:
    first = book(done, 7_000, captured() if done is Event.REFUNDED else None)
    second = book(event, 0, original(kind, postings=first))
    assert [(p.account, p.amount_minor) for p in second] == [(p.account, -p.amount_minor) for p in first]


def test_the_originals_merchant_and_issuer_are_booked() -> None:
    made = postings(
        Event.CAPTURED,
        amount_minor=100,
        currency="EUR",
        issuer="beta",
        merchant="SOMEBODY",
        fees=FEES,
        original=original(),
    )
    assert {p.account for p in made} >= {ISSUER, MERCHANT}


def test_every_event_has_a_row() -> None:
    assert set(POSTING_RULES) | REVERSING_EVENTS == set(Event)


@pytest.mark.parametrize(
    ("event", "amount_minor", "of"),
    [
        (Event.CAPTURED, 10_001, original()),
        (Event.CAPTURED, 1, None),
        (Event.REFUNDED, 10_001, captured()),
        (Event.VOIDED, 0, None),
        (Event.PURCHASE_REVERSED, 0, None),
        (Event.AUTHORIZED, 0, None),
    ],
)
def test_what_does_not_fit_is_refused(event: Event, amount_minor: int, of: Original | None) -> None:
    with pytest.raises(PostingError):
        book(event, amount_minor, of)


amounts = st.integers(1, 10**12)
CURRENCIES = ("EUR", "JPY", "KWD")  # of two, no and three decimals
currencies = st.sampled_from((*CURRENCIES, "HUF"))
STANDARD = FeeSchedule(fixed_minor={"EUR": 30, "JPY": 45, "KWD": 100})
schedules = st.builds(
    FeeSchedule,
    rate=st.decimals(0, Decimal("0.2"), places=4),
    fixed_minor=st.dictionaries(st.sampled_from(CURRENCIES), st.integers(0, 10_000)),
    international_rate=st.decimals(0, Decimal("0.05"), places=4),
    conversion_rate=st.decimals(0, Decimal("0.05"), places=4),
    dispute_fee_minor=st.dictionaries(st.sampled_from(CURRENCIES), st.integers(0, 10_000)),
)


@given(
    event=st.sampled_from(Event),
    amount=amounts,
    currency=currencies,
    fees=schedules,
    abroad=st.booleans(),
    final=st.booleans(),
)
def test_lines_of_every_event_sum_to_zero(
    event: Event, amount: int, currency: str, fees: FeeSchedule, abroad: bool, final: bool
) -> None:
    def made(event: Event, amount: int, of: Original | None) -> tuple[Posting, ...]:
        return postings(
            event,
            amount_minor=amount,
            currency=currency,
            issuer="a",
            merchant="m",
            fees=fees,
            original=of,
            final=final,
            international=abroad,
            converted=abroad,
        )

    if event in (Event.AUTHORIZED, Event.PURCHASED):
        of = None
    elif event in (Event.CAPTURED, Event.VOIDED, Event.INCREMENTED, Event.INCREMENT_REVERSED, Event.REDUCED):
        of = original(amount_minor=amount * 2, currency=currency)
    else:
        of = original(
            Kind.PURCHASE, amount_minor=amount, currency=currency, postings=made(Event.PURCHASED, amount, None)
        )
    check_postings(made(event, amount, of))


@given(fees=schedules, parts=st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_any_split_of_a_full_refund_returns_exactly_the_fee(fees: FeeSchedule, parts: list[int]) -> None:
    captured_minor, before, returned_minor = sum(parts), 0, 0
    fee = fees.capture_fee_minor(captured_minor, "JPY")
    for part in parts:
        share = returned(fee, returned_minor, captured_minor, before, part)
        assert 0 <= share <= part
        before, returned_minor = before + part, returned_minor + share
    assert returned_minor == fee


def returned(taken: int, before: int, captured_minor: int, refunded: int, refund: int) -> int:
    return returned_fee_minor(
        taken_minor=taken,
        returned_minor=before,
        captured_minor=captured_minor,
        refunded_minor=refunded,
        refund_minor=refund,
    )


def test_a_refund_between_two_captures_gives_no_fee_back_twice() -> None:
    assert returned(33, 0, 100, 0, 100) == 33
    # Another 900 were captured at a fee of 56: of 89 in all, 33 have gone back.
    assert returned(89, 33, 1_000, 100, 450) == 16  # 89 × 550 ÷ 1000 = 48.95
    assert returned(89, 33, 1_000, 100, 900) == 56


def test_a_reversed_refund_leaves_the_fee_that_is_still_out_to_the_next_one() -> None:
    assert [returned(3, 0, 100, 0, 50), returned(3, 2, 100, 50, 50)] == [2, 1]
    assert returned(3, 1, 100, 50, 50) == 2  # the first of them was reversed


def test_a_fee_that_fills_the_rest_goes_back_before_it_would_exceed_the_last_refund() -> None:
    # 999 of 1,000 went back without a fee; then 3 were captured at a fee of 3. 3 of the 4 that are left are fee.
    assert [returned(3, 0, 1_003, 999, 2), returned(3, 2, 1_003, 1_001, 2)] == [2, 1]


def test_books_in_which_too_much_went_back_return_no_more() -> None:
    assert returned(3, 5, 100, 50, 50) == 0


def test_a_refund_of_more_than_was_captured_has_no_share() -> None:
    with pytest.raises(FeeError, match="exceeds the captured 100"):
        returned(3, 2, 100, 50, 51)


def test_a_capture_that_states_no_cash_has_what_is_left_of_its_holds() -> None:
    hold = original(changes=(Change(Kind.CAPTURE, 20, False), Change(Kind.CAPTURE, 40, False, cashback_minor=4)))
    hold = msgspec.structs.replace(
        hold, stored=StoredIntent(1, intent(kind=Kind.AUTHORIZATION, amount_minor=100, cashback_minor=30))
    )
    assert cash_minor(intent(kind=Kind.CAPTURE, amount_minor=30), hold, 30) == 30 - 20 - 4
    assert cash_minor(intent(kind=Kind.CAPTURE, amount_minor=5), hold, 5) == 5
    assert cash_minor(intent(kind=Kind.CAPTURE, amount_minor=30, cashback_minor=3), hold, 30) == 3
    assert cash_minor(intent(kind=Kind.PURCHASE, amount_minor=30, cashback_minor=20), None, 10) == 10


@given(amount=amounts, currency=currencies, fees=schedules)
def test_a_fee_is_never_more_than_the_amount(amount: int, currency: str, fees: FeeSchedule) -> None:
    assert 0 <= fees.capture_fee_minor(amount, currency, international=True, converted=True) <= amount


@pytest.mark.parametrize(("amount", "fee"), [(10_000, 320), (1_000, 59), (500, 45), (50, 31), (17, 17), (0, 0)])
def test_fee_of_the_standard_schedule_rounds_half_up(amount: int, fee: int) -> None:
    assert STANDARD.capture_fee_minor(amount, "EUR") == fee


def test_surcharges() -> None:
    assert STANDARD.capture_fee_minor(10_000, "EUR", international=True, converted=True) == 520


@pytest.mark.parametrize(
    "bad",
    [
        (Posting(Layer.POSTED, ISSUER, 1, "EUR"),),
        (Posting(Layer.POSTED, ISSUER, 1, "EUR"), Posting(Layer.PENDING, MERCHANT, -1, "EUR")),
        (Posting(Layer.POSTED, ISSUER, 1, "EUR"), Posting(Layer.POSTED, MERCHANT, -1, "USD")),
        (Posting(Layer.POSTED, ISSUER, 0, "EUR"),),
        (Posting(Layer.POSTED, "nobody:knows", 1, "EUR"), Posting(Layer.POSTED, MERCHANT, -1, "EUR")),
        (Posting(Layer.POSTED, ISSUER, 1, "eur"), Posting(Layer.POSTED, MERCHANT, -1, "eur")),
    ],
)
def test_bad_lines_are_refused(bad: tuple[Posting, ...]) -> None:
    with pytest.raises(PostingError):
        check_postings(bad)


def test_account_types_and_names() -> None:
    assert account_type("issuer:alpha:receivable") is AccountType.ASSET
    assert account_type(merchant_pending("A:B%")) is AccountType.LIABILITY
    assert merchant_pending("A:B%") == "merchant:A%3AB%25:pending"
    assert merchant_pending("") == "merchant:-:pending"
    assert all(account_type(f"{first}:x:{last}") is kind for (first, last), (kind, _) in CHART.items())
    for wrong in ("", "issuer", "issuer::receivable", "issuer:alpha:pending", "merchant:" + "x" * 300 + ":pending"):
        with pytest.raises(PostingError):
            account_type(wrong)


def test_changes_are_folded_over_the_hold() -> None:
    rows = [
        ChangeRow(Kind.CAPTURE, 4_000, False, -4_000, 116),
        ChangeRow(Kind.CAPTURE, 1_000, False, -6_000, 29),
        ChangeRow(Kind.REFUND, 500, True, 0, -14),
    ]
    assert fold_changes(10_000, rows) == (
        Change(Kind.CAPTURE, 4_000, False, 116),
        Change(Kind.CAPTURE, 1_000, True, 29),
        Change(Kind.REFUND, 0, True, 0),
    )
