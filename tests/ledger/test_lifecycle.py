"""ledger.lifecycle: each row of the table is reached, and says what it says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import structs

from ledger.journal import Change, Decision, Kind, Original
from ledger.lifecycle import RULES, Event, Situation, rule, situation, standing
from switch.stages.contradiction import FOLLOW_UPS
from tests.ledger.samples import original

AUTH, PURCHASE, REFUND = Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND

HELD = original(AUTH)
PART = original(AUTH, changes=(Change(Kind.CAPTURE, 4_000, final=False),))
CAPTURED = original(AUTH, changes=(Change(Kind.CAPTURE, 10_000, final=True),))
LESS = original(AUTH, changes=(Change(Kind.CAPTURE, 6_000, final=True),))
VOIDED = original(AUTH, changes=(Change(Kind.REVERSAL, 10_000, final=True),))
PART_VOIDED = original(
    AUTH, changes=(Change(Kind.CAPTURE, 4_000, final=False), Change(Kind.REVERSAL, 10_000, final=True))
)
PURCHASED = original(PURCHASE)
UNDONE = original(PURCHASE, changes=(Change(Kind.REVERSAL, 10_000, final=True),))
PART_REFUNDED = original(PURCHASE, changes=(Change(REFUND, 4_000, final=True),))
ALL_REFUNDED = original(PURCHASE, changes=(Change(REFUND, 4_000, final=True), Change(REFUND, 6_000, final=True)))
CHARGED_BACK = original(PURCHASE, changes=(Change(Kind.CHARGEBACK, 10_000, final=True),))
REFUND_UNDONE = original(PURCHASE, changes=(Change(REFUND, 0, final=True),))
THE_REFUND = original(REFUND)
UNDECIDED = original(AUTH, decision=None)
DECLINED = original(AUTH, decision=Decision.DECLINED)
REVERSED = original(AUTH, decision=Decision.REVERSED)
TOMBSTONE = original(Kind.TOMBSTONE, decision=Decision.REVERSED)
CAPTURE = original(Kind.CAPTURE)
VERIFIED = original(AUTH, amount_minor=0)
INCREMENT = original(Kind.INCREMENT, amount_minor=5_000)
ENLARGED = original(AUTH, changes=(Change(Kind.INCREMENT, 5_000, final=False),))
SHRUNK = original(
    AUTH, changes=(Change(Kind.INCREMENT, 5_000, final=False), Change(Kind.REDUCTION, 4_000, final=False))
)


def in_part_of(whole: Original, amount_minor: int) -> Original:
    """The same, approved with less."""
    assert whole.outcome is not None
    return structs.replace(whole, outcome=structs.replace(whole.outcome, amount_minor=amount_minor))


IN_PART, BOUGHT_IN_PART = in_part_of(HELD, 6_000), in_part_of(PURCHASED, 6_000)

S = Situation

CASES: list[tuple[Kind, Original | None, int, str, Situation]] = [
    (Kind.LATE_APPROVAL, None, 10_000, "EUR", S.UNKNOWN),
    (Kind.LATE_APPROVAL, UNDECIDED, 10_000, "EUR", S.UNDECIDED),
    (Kind.LATE_APPROVAL, DECLINED, 10_000, "EUR", S.DECLINED),
    (Kind.LATE_APPROVAL, REVERSED, 10_000, "EUR", S.REVERSED),
    (Kind.LATE_APPROVAL, HELD, 10_000, "EUR", S.HELD),
    (Kind.LATE_APPROVAL, VERIFIED, 10_000, "EUR", S.VERIFIED),
    (Kind.LATE_APPROVAL, CAPTURED, 10_000, "EUR", S.CAPTURED),
    (Kind.LATE_APPROVAL, PURCHASED, 10_000, "EUR", S.PURCHASED),
    (Kind.LATE_APPROVAL, THE_REFUND, 10_000, "EUR", S.REFUND),
    (Kind.LATE_APPROVAL, CAPTURE, 10_000, "EUR", S.OTHER_KIND),
    (Kind.LATE_APPROVAL, UNDONE, 10_000, "EUR", S.REVERSED),
    (AUTH, None, 10_000, "EUR", S.NEW),
    (AUTH, None, 0, "EUR", S.ZERO),
    (PURCHASE, None, 10_000, "EUR", S.NEW),
    (PURCHASE, None, 0, "EUR", S.ZERO),
    (Kind.CAPTURE, HELD, 10_000, "EUR", S.HELD),
    (Kind.CAPTURE, HELD, 1, "EUR", S.HELD),
    (Kind.CAPTURE, PART, 6_000, "EUR", S.HELD),
    (Kind.CAPTURE, PART, 6_001, "EUR", S.TOO_MUCH),
    (Kind.CAPTURE, HELD, 10_001, "EUR", S.TOO_MUCH),
    (Kind.CAPTURE, HELD, 0, "EUR", S.ZERO),
    (Kind.CAPTURE, HELD, 100, "USD", S.WRONG_CURRENCY),
    (Kind.CAPTURE, None, 100, "EUR", S.UNKNOWN),
    (Kind.CAPTURE, UNDECIDED, 100, "EUR", S.UNDECIDED),
    (Kind.CAPTURE, DECLINED, 100, "EUR", S.DECLINED),
    (Kind.CAPTURE, REVERSED, 100, "EUR", S.REVERSED),
    (Kind.CAPTURE, VOIDED, 100, "EUR", S.REVERSED),
    (Kind.CAPTURE, PART_VOIDED, 100, "EUR", S.REVERSED),
    (Kind.CAPTURE, CAPTURED, 100, "EUR", S.CAPTURED),
    (Kind.CAPTURE, LESS, 100, "EUR", S.CAPTURED),
    (Kind.CAPTURE, PURCHASED, 100, "EUR", S.PURCHASED),
    (Kind.CAPTURE, THE_REFUND, 100, "EUR", S.REFUND),
    (Kind.CAPTURE, CAPTURE, 100, "EUR", S.OTHER_KIND),
    (Kind.CAPTURE, VERIFIED, 100, "EUR", S.VERIFIED),
    (Kind.CAPTURE, ENLARGED, 15_000, "EUR", S.HELD),
    (Kind.CAPTURE, ENLARGED, 15_001, "EUR", S.TOO_MUCH),
    (Kind.CAPTURE, SHRUNK, 11_000, "EUR", S.HELD),
    (Kind.CAPTURE, SHRUNK, 11_001, "EUR", S.TOO_MUCH),
    (Kind.CAPTURE, IN_PART, 6_000, "EUR", S.HELD),
    (Kind.CAPTURE, IN_PART, 6_001, "EUR", S.TOO_MUCH),
    (Kind.CAPTURE, INCREMENT, 100, "EUR", S.OTHER_KIND),
    (Kind.INQUIRY, None, 0, "EUR", S.NEW),
    (Kind.INCREMENT, HELD, 20_000, "EUR", S.HELD),
    (Kind.INCREMENT, PART, 20_000, "EUR", S.HELD),
    (Kind.INCREMENT, ENLARGED, 1, "EUR", S.HELD),
    (Kind.INCREMENT, HELD, 0, "EUR", S.ZERO),
    (Kind.INCREMENT, HELD, 10**12 - 1 - 10_000, "EUR", S.HELD),
    (Kind.INCREMENT, HELD, 10**12 - 10_000, "EUR", S.TOO_MUCH),  # a hold of 13 digits fits no DE 4
    (Kind.INCREMENT, ENLARGED, 10**12 - 15_000, "EUR", S.TOO_MUCH),
    (Kind.INCREMENT, HELD, 100, "USD", S.WRONG_CURRENCY),
    (Kind.INCREMENT, None, 100, "EUR", S.UNKNOWN),
    (Kind.INCREMENT, UNDECIDED, 100, "EUR", S.UNDECIDED),
    (Kind.INCREMENT, DECLINED, 100, "EUR", S.DECLINED),
    (Kind.INCREMENT, REVERSED, 100, "EUR", S.REVERSED),
    (Kind.INCREMENT, VOIDED, 100, "EUR", S.REVERSED),
    (Kind.INCREMENT, PART_VOIDED, 100, "EUR", S.REVERSED),
    (Kind.INCREMENT, CAPTURED, 100, "EUR", S.CAPTURED),
    (Kind.INCREMENT, VERIFIED, 100, "EUR", S.VERIFIED),
    (Kind.INCREMENT, PURCHASED, 100, "EUR", S.PURCHASED),
    (Kind.INCREMENT, THE_REFUND, 100, "EUR", S.REFUND),
    (Kind.INCREMENT, CAPTURE, 100, "EUR", S.OTHER_KIND),
    (Kind.INCREMENT, INCREMENT, 100, "EUR", S.OTHER_KIND),
    (Kind.REDUCTION, HELD, 9_999, "EUR", S.HELD),
    (Kind.REDUCTION, ENLARGED, 12_000, "EUR", S.HELD),
    (Kind.REDUCTION, PART, 5_999, "EUR", S.HELD),
    (Kind.REDUCTION, PART, 6_000, "EUR", S.SAME),
    (Kind.REDUCTION, PART, 6_001, "EUR", S.TOO_MUCH),
    (Kind.REDUCTION, HELD, 100, "USD", S.WRONG_CURRENCY),
    (Kind.REDUCTION, HELD, 10_000, "USD", S.WRONG_CURRENCY),
    (Kind.REDUCTION, HELD, 0, "EUR", S.ZERO),
    (Kind.REDUCTION, None, 100, "EUR", S.UNKNOWN),
    (Kind.REDUCTION, UNDECIDED, 100, "EUR", S.UNDECIDED),
    (Kind.REDUCTION, DECLINED, 100, "EUR", S.DECLINED),
    (Kind.REDUCTION, REVERSED, 100, "EUR", S.REVERSED),
    (Kind.REDUCTION, VOIDED, 100, "EUR", S.REVERSED),
    (Kind.REDUCTION, VERIFIED, 100, "EUR", S.VERIFIED),
    (Kind.REDUCTION, CAPTURED, 100, "EUR", S.CAPTURED),
    (Kind.REDUCTION, PURCHASED, 100, "EUR", S.PURCHASED),
    (Kind.REDUCTION, THE_REFUND, 100, "EUR", S.REFUND),
    (Kind.REDUCTION, INCREMENT, 100, "EUR", S.OTHER_KIND),
    (REFUND, VERIFIED, 100, "EUR", S.VERIFIED),
    (REFUND, BOUGHT_IN_PART, 6_001, "EUR", S.TOO_MUCH),
    (Kind.REVERSAL, VERIFIED, 0, "EUR", S.VERIFIED),
    (Kind.REVERSAL, SHRUNK, 0, "EUR", S.HELD),
    (Kind.CHARGEBACK, VERIFIED, 100, "EUR", S.VERIFIED),
    (Kind.CHARGEBACK, BOUGHT_IN_PART, 6_001, "EUR", S.TOO_MUCH),
    (REFUND, CAPTURED, 10_000, "EUR", S.CAPTURED),
    (REFUND, PART, 4_000, "EUR", S.CAPTURED),
    (REFUND, PART_VOIDED, 4_000, "EUR", S.CAPTURED),
    (REFUND, LESS, 6_001, "EUR", S.TOO_MUCH),
    (REFUND, PURCHASED, 10_000, "EUR", S.PURCHASED),
    (REFUND, PART_REFUNDED, 6_000, "EUR", S.PURCHASED),
    (REFUND, PART_REFUNDED, 6_001, "EUR", S.TOO_MUCH),
    (REFUND, REFUND_UNDONE, 10_000, "EUR", S.PURCHASED),
    (REFUND, ALL_REFUNDED, 1, "EUR", S.NOTHING_LEFT),
    (REFUND, CHARGED_BACK, 1, "EUR", S.NOTHING_LEFT),
    (REFUND, PURCHASED, 0, "EUR", S.ZERO),
    (REFUND, PURCHASED, 1, "USD", S.WRONG_CURRENCY),
    (REFUND, None, 1, "EUR", S.UNKNOWN),
    (REFUND, UNDECIDED, 1, "EUR", S.UNDECIDED),
    (REFUND, DECLINED, 1, "EUR", S.DECLINED),
    (REFUND, UNDONE, 1, "EUR", S.REVERSED),
    (REFUND, HELD, 1, "EUR", S.HELD),
    (REFUND, THE_REFUND, 1, "EUR", S.REFUND),
    (REFUND, CAPTURE, 1, "EUR", S.OTHER_KIND),
    (Kind.REVERSAL, HELD, 0, "", S.HELD),
    (Kind.REVERSAL, PART, 0, "", S.HELD),
    (Kind.REVERSAL, PURCHASED, 0, "", S.PURCHASED),
    (Kind.REVERSAL, PART_REFUNDED, 0, "", S.TOUCHED),
    (Kind.REVERSAL, CHARGED_BACK, 0, "", S.TOUCHED),
    (Kind.REVERSAL, REFUND_UNDONE, 0, "", S.PURCHASED),
    (Kind.REVERSAL, THE_REFUND, 0, "", S.REFUND),
    (Kind.REVERSAL, UNDECIDED, 0, "", S.UNDECIDED),
    (Kind.REVERSAL, None, 0, "", S.UNKNOWN),
    (Kind.REVERSAL, DECLINED, 0, "", S.DECLINED),
    (Kind.REVERSAL, REVERSED, 0, "", S.REVERSED),
    (Kind.REVERSAL, TOMBSTONE, 0, "", S.REVERSED),
    (Kind.REVERSAL, VOIDED, 0, "", S.REVERSED),
    (Kind.REVERSAL, UNDONE, 0, "", S.REVERSED),
    (Kind.REVERSAL, PART_VOIDED, 0, "", S.REVERSED),
    (Kind.REVERSAL, CAPTURED, 0, "", S.CAPTURED),
    (Kind.REVERSAL, CAPTURE, 0, "", S.OTHER_KIND),
    (Kind.CHARGEBACK, CAPTURED, 10_000, "EUR", S.CAPTURED),
    (Kind.CHARGEBACK, PURCHASED, 10_000, "EUR", S.PURCHASED),
    (Kind.CHARGEBACK, PART_REFUNDED, 6_000, "EUR", S.PURCHASED),
    (Kind.CHARGEBACK, PART_REFUNDED, 10_000, "EUR", S.TOO_MUCH),
    (Kind.CHARGEBACK, ALL_REFUNDED, 1, "EUR", S.NOTHING_LEFT),
    (Kind.CHARGEBACK, None, 1, "EUR", S.UNKNOWN),
    (Kind.CHARGEBACK, UNDECIDED, 1, "EUR", S.UNDECIDED),
    (Kind.CHARGEBACK, DECLINED, 1, "EUR", S.DECLINED),
    (Kind.CHARGEBACK, REVERSED, 1, "EUR", S.REVERSED),
    (Kind.CHARGEBACK, HELD, 1, "EUR", S.HELD),
    (Kind.CHARGEBACK, THE_REFUND, 1, "EUR", S.REFUND),
    (Kind.CHARGEBACK, CAPTURE, 1, "EUR", S.OTHER_KIND),
    (Kind.CHARGEBACK, PURCHASED, 1, "USD", S.WRONG_CURRENCY),
    (Kind.CHARGEBACK, PURCHASED, 0, "EUR", S.ZERO),
    (Kind.TOMBSTONE, None, 10_000, "EUR", S.NEW),
]


@pytest.mark.parametrize(("kind", "of", "amount_minor", "currency", "expected"), CASES)
def test_situation(kind: Kind, of: Original | None, amount_minor: int, currency: str, expected: Situation) -> None:
    assert situation(kind, of, amount_minor, currency) is expected
    assert rule(kind, of, amount_minor, currency) == RULES[kind, expected]


def test_every_row_is_reached_by_a_case() -> None:
    reached = {(kind, expected) for kind, _, _, _, expected in CASES}
    special = {(kind, S.EXPIRED) for kind in (Kind.CAPTURE, Kind.INCREMENT)}  # these in the tests below
    # these in tests/switch/test_contradiction.py
    special |= {(kind, at) for kind in FOLLOW_UPS for at in (S.OTHER_CARD, S.OTHER_AMOUNT)}
    special |= {(Kind.REVERSAL, S.WRONG_CURRENCY), (Kind.INCREMENT, S.OVER_LIMIT)}
    special |= {(REFUND, S.NEW), (Kind.REVERSAL, S.INCREMENT)}
    special |= {(kind, S.REFUSED) for kind in (AUTH, PURCHASE, REFUND)}
    assert set(RULES) == reached | special


@pytest.mark.parametrize(
    ("kind", "original", "amount", "said", "code"),
    [
        (Kind.CAPTURE, HELD, 10_000, 10_000, "00"),
        (Kind.CAPTURE, HELD, 9_000, 9_000, "13"),
        (Kind.CAPTURE, HELD, 9_000, None, "00"),
        (Kind.CAPTURE, ENLARGED, 15_000, 15_000, "00"),
        (Kind.CAPTURE, ENLARGED, 10_000, 10_000, "13"),
        (Kind.CAPTURE, None, 9_000, 9_000, "25"),
    ],
)
def test_a_stated_amount_of_the_original_must_be_its_amount(
    kind: Kind, original: Original | None, amount: int, said: int | None, code: str
) -> None:
    ruling = rule(kind, original, amount, "EUR", said_minor=said)
    assert (ruling.response_code, ruling.reason == "wrong_original_amount") == (code, code == "13")


@pytest.mark.parametrize("kind", [AUTH, PURCHASE, REFUND])
def test_what_was_declined_elsewhere_is_noted_and_books_nothing(kind: Kind) -> None:
    ruling = rule(kind, None, 10_000, "EUR", refused=True)
    assert (ruling.response_code, ruling.event, ruling.reason) == ("00", None, "declined_elsewhere")


def test_a_hold_expires() -> None:
    assert rule(Kind.CAPTURE, HELD, 100, "EUR", age=timedelta(days=8)).reason == "hold_expired"
    assert rule(Kind.CAPTURE, HELD, 100, "EUR", age=timedelta(days=6)).event is Event.CAPTURED
    assert rule(Kind.REVERSAL, HELD, 0, "", age=timedelta(days=8)).event is Event.VOIDED


def test_refund_without_an_original_only_where_it_is_allowed() -> None:
    assert rule(REFUND, None, 100, "EUR").response_code == "25"
    assert rule(REFUND, None, 100, "EUR", unreferenced_refunds=True).event is Event.REFUNDED
    assert rule(REFUND, None, 0, "EUR", unreferenced_refunds=True).response_code == "13"


@pytest.mark.parametrize(("kind", "at"), RULES)
def test_only_approvals_book_and_only_what_undoes_closes(kind: Kind, at: Situation) -> None:
    ruling = RULES[kind, at]
    assert ruling.event is None or ruling.response_code == "00"
    undoes = kind in (Kind.REVERSAL, Kind.LATE_APPROVAL)
    assert not ruling.close_original or (undoes and ruling.event is None)


def test_standing_sums_up() -> None:
    now = standing(
        original(
            AUTH,
            changes=(
                Change(Kind.CAPTURE, 4_000, final=False),
                Change(Kind.CAPTURE, 3_000, final=True),
                Change(REFUND, 1_000, final=True),
                Change(Kind.CHARGEBACK, 2_000, final=True),
            ),
        )
    )
    assert (now.held_minor, now.captured_minor, now.refunded_minor, now.charged_back_minor) == (0, 7_000, 1_000, 2_000)
    assert now.left_minor == 4_000


def test_an_increment_is_undone_once_and_only_while_it_is_on_hold() -> None:
    key = INCREMENT.stored.intent.key

    def ruled(under: Original | None, kind: Kind = Kind.REVERSAL, increment: Original = INCREMENT) -> tuple[str, str]:
        ruling = rule(kind, under, 0, "EUR", increment=increment)
        return ruling.response_code, ruling.reason

    enlarged = Change(Kind.INCREMENT, 5_000, final=False)
    undone = original(AUTH, changes=(enlarged, Change(Kind.REVERSAL, 5_000, final=False, undoes=key)))
    used = original(AUTH, changes=(enlarged, Change(Kind.CAPTURE, 10_001, final=False)))
    void = original(AUTH, changes=(enlarged, Change(Kind.REVERSAL, 0, final=True)))
    assert standing(undone).held_minor == 10_000
    assert not standing(undone).reversed
    assert ruled(ENLARGED) == ("00", "reverse_increment")
    assert ruled(undone) == ("00", "already_reversed")
    assert ruled(void) == ("00", "already_reversed")
    assert ruled(used) == ("12", "captured_refund_instead")
    emptied = original(
        AUTH,
        changes=(enlarged, Change(Kind.CAPTURE, 10_000, final=False), Change(Kind.REVERSAL, 0, final=True, undoes=key)),
    )
    assert not standing(emptied).reversed  # the hold was used up, not given up
    assert ruled(emptied) == ("00", "already_reversed")
    assert ruled(emptied, increment=original(Kind.INCREMENT, amount_minor=5_000)) == ("12", "captured_refund_instead")
    given_up = original(
        AUTH,
        changes=(
            enlarged,
            Change(Kind.REDUCTION, 10_000, final=False),
            Change(Kind.REVERSAL, 0, final=True, undoes=key),
        ),
    )
    assert rule(Kind.REVERSAL, given_up, 0, "").reason == "already_reversed"
    assert ruled(given_up, increment=original(Kind.INCREMENT, amount_minor=5_000)) == ("00", "already_reversed")
    assert ruled(ENLARGED, Kind.CAPTURE) == ("12", "not_an_authorization")
    assert ruled(used, increment=in_part_of(INCREMENT, 4_999)) == ("00", "reverse_increment")
