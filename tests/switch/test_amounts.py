"""The money in messages: DE 4, 49, 54 and 95 of each form."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from switch.message_set import FROM_ACQUIRERS, FROM_ISSUERS, Form, form_of
from switch.stages.amounts import Amounts, amounts_of, withdrawn
from switch.stages.request import Decline

CASH = "0040978D000000000500"
FEE = "0042978D000000009900"  # another amount type

# MTI, elements on top of DE 3, 4 and 49 → amount, cash; or DE 39 and the reason of a decline.
CASES: list[tuple[str, dict[int, str], tuple[int, int] | tuple[str, str]]] = [
    ("0200", {}, (2_500, 0)),
    ("0200", {54: CASH}, (2_500, 0)),  # cash is DE 3 = 09
    ("0200", {3: "090000"}, (2_500, 0)),
    ("0200", {3: "090000", 54: CASH}, (2_500, 500)),
    ("0100", {3: "090000", 54: CASH}, (2_500, 500)),
    ("0200", {3: "090000", 54: CASH * 2}, (2_500, 1_000)),
    ("0200", {3: "090000", 54: FEE + CASH}, (2_500, 500)),
    ("0200", {3: "090000", 54: CASH * 5}, (2_500, 2_500)),
    ("0200", {3: "090000", 54: CASH * 6}, ("13", "amount")),
    ("0200", {3: "090000", 54: CASH.replace("978", "840")}, ("13", "amount")),
    ("0200", {3: "090000", 54: CASH[:-1]}, ("30", "element_invalid")),
    ("0200", {3: "090000", 54: CASH[:-1] + "X"}, ("30", "element_invalid")),
    ("0200", {4: "000000000000"}, ("13", "amount")),
    ("0100", {4: "000000000000"}, (0, 0)),
    ("0100", {3: "330000"}, ("13", "amount")),
    ("0100", {3: "330000", 4: "000000000000"}, (0, 0)),
    ("0100", {3: "310000"}, (0, 0)),  # an inquiry is about no amount, with any DE 4
    ("0200", {3: "310000"}, (0, 0)),
    ("0200", {49: "000"}, ("30", "currency")),
    ("0220", {90: "0" * 42, 4: "000000000000"}, ("13", "amount")),
    ("0400", {90: "0" * 42}, (2_500, 0)),
    ("0400", {90: "0" * 42, 95: "000000001000" + "0" * 30}, (1_000, 0)),
    ("0400", {90: "0" * 42, 95: "00000000100X" + "0" * 30}, ("13", "amount")),
]


@pytest.mark.parametrize(("mti", "changes", "expected"), CASES)
def test_what_a_message_says_about_money(
    mti: str, changes: dict[int, str], expected: tuple[int, int] | tuple[str, str]
) -> None:
    elements = {3: "000000", 4: "000000002500", 49: "978", **changes}
    form = form_of(mti, elements, FROM_ACQUIRERS)
    assert isinstance(form, Form)
    found = amounts_of(form, elements)
    if isinstance(found, Decline):
        assert (found.response_code, found.reason) == expected
    else:
        assert found == Amounts(int(expected[0]), "EUR", int(expected[1]))


LAST, NEXT = datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
OLD = {90: "0200" + "0" * 38}
# MTI, elements, when it arrives → whether it is taken in leva (975, withdrawn after 2025).
WITHDRAWALS: list[tuple[str, dict[int, str], datetime, bool]] = [
    ("0100", {}, LAST, True),
    ("0100", {}, NEXT, False),
    ("0100", OLD, NEXT, False),  # an increment is new money
    ("0200", {}, NEXT, False),
    ("0200", {3: "090000"}, NEXT, False),
    ("0200", {3: "200000"}, NEXT, False),  # a refund of nothing that was paid before
    ("0200", {3: "200000", **OLD}, NEXT, True),
    ("0220", {3: "200000", **OLD}, NEXT, True),
    ("0220", {}, NEXT, False),
    ("0220", {13: "0101"}, NEXT, False),
    ("0220", {13: "1231"}, NEXT, True),  # sold offline on the last day
    ("0200", {13: "1231"}, NEXT, False),  # a request is of the day on which it arrives
    ("0220", {13: "9999"}, NEXT, False),
    ("0120", {13: "1231"}, NEXT, True),
    ("0220", {13: "1231"}, datetime(2026, 1, 30, tzinfo=UTC), True),  # kept by its terminal for a month
    ("0220", {13: "1231"}, datetime(2026, 2, 15, tzinfo=UTC), False),  # no sale that late in any book
    ("0120", {13: "1230"}, datetime(2026, 12, 1, tzinfo=UTC), False),
    ("0220", {7: "1231235500"}, NEXT, True),  # without DE 13, of the day on which it was sent first
    ("0220", {7: "0101000100", 13: "1231"}, NEXT, True),
    ("0220", {7: "1231235500", 13: "0101"}, NEXT, False),
    ("0200", {7: "1231235500"}, NEXT, False),
    ("0220", {13: "1231", 1012: "20251231120000"}, NEXT, True),  # 2003, with a year
    ("0220", {13: "1231", 1012: "251231120000"}, NEXT, True),  # 1993
    ("0220", {13: "1231", 1012: "20241231120000"}, NEXT, False),
    ("0220", {3: "200000", 13: "1231"}, NEXT, True),  # a refund of nothing here, given on the last day
    ("0220", OLD, NEXT, True),
    ("0400", OLD, NEXT, True),
    ("0420", {95: "000000001000" + "0" * 30, **OLD}, NEXT, True),
    ("0422", OLD, NEXT, True),
    ("0200", {49: "978", 50: "975"}, NEXT, False),
    ("0200", {49: "978", 51: "975"}, NEXT, False),
    ("0200", {49: "978", 51: "975"}, LAST, True),
    ("0200", {49: "532"}, NEXT, True),  # XCG took the numeric code of ANG over
]


@pytest.mark.parametrize(("days", "taken"), [(10, False), (40, True)])
def test_how_old_a_sale_may_be_is_the_link_s(days: int, taken: bool) -> None:
    elements = {3: "000000", 4: "000000002500", 13: "1220", 49: "975"}
    form = form_of("0220", elements, FROM_ACQUIRERS)
    assert isinstance(form, Form)
    at = datetime(2026, 1, 15, tzinfo=UTC)
    assert (withdrawn(form, elements, at, days * 86_400.0) is None) is taken


@pytest.mark.parametrize(("mti", "changes", "at", "taken"), WITHDRAWALS)
def test_new_payments_in_a_withdrawn_currency_are_refused(
    mti: str, changes: dict[int, str], at: datetime, taken: bool
) -> None:
    elements = {3: "000000", 4: "000000002500", 49: "975", **changes}
    form = form_of(mti, elements, FROM_ISSUERS if mti == "0422" else FROM_ACQUIRERS)
    assert isinstance(form, Form)
    assert isinstance(amounts_of(form, elements), Amounts)
    refused = withdrawn(form, elements, at)
    if taken:
        assert refused is None
    else:
        assert refused is not None and (refused.response_code, refused.reason) == ("30", "currency")
        assert refused.detail.endswith(": BGN is not in use")
