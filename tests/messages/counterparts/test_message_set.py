"""All that the switch serves, over the bytes of later versions and back, and functions that would become others."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.canonical import canonical_codec
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, EncodeError, RuleViolation
from messages.exchange import original_data
from messages.message import Message
from messages.mti import response_mti
from messages.reconciliation import COMPARED, FEES, agree
from messages.translation import to_canonical
from switch.message_set import SERVED, SERVED_FROM_ISSUERS

NOW = datetime(2026, 11, 25, 21, 0, 30, tzinfo=UTC)
MOMENT = "1125210000"
ORIGINAL = original_data("0100", "000041", "1125205900", "400100")
TOTALS = (74, 75, 76, 77, 78, 79, 86, 87, 88, 89)
LATER = ("iso93-ascii", "iso93-binary", "iso2003-ascii")
# 2003 has no room for these, see docs/translation.md; nor for a currency without its amount.
WITHOUT = {"iso2003-ascii": {43, *TOTALS}}
# Canonical type without its repeat digit → what its messages have besides DE 7, 11, 32, 41.
FORMS: dict[str, tuple[int, ...]] = {
    "0100": (2, 3, 4, 18, 22, 23, 25, 37, 42, 43, 48, 49, 52, 54, 55),
    "0120": (2, 3, 4, 22, 25, 38, 39, 42, 49),
    "0200": (2, 3, 4, 22, 25, 35, 42, 49, 54, 55),
    "0220": (2, 3, 4, 38, 39, 42, 49, 60, 90),
    "0302": (2, 91, 101),
    "0400": (2, 3, 4, 39, 49, 90),
    "0420": (2, 3, 4, 49, 90, 95),
    "0422": (2, 4, 49, 90),
    "0500": (15, 49, 97, *TOTALS),
    "0520": (15, 49, 97, *TOTALS),
    "0600": (48,),
    "0620": (48,),
    "0800": (15, 70),
    "0820": (15, 70),
}
VALUES = {
    2: "4242424242424242", 3: "000000", 11: "000042", 15: "1126", 18: "5411", 22: "020", 23: "001", 25: "08",
    32: "400100", 35: "4242424242424242=28122010000000000000", 37: "000000000042", 38: "A12345", 39: "00",
    41: "TERM0001", 42: "MERCHANT0000001", 43: "Corner shop            Hannover     NIDE", 48: "some text", 49: "978",
    50: "978", 52: "1122334455667788", 54: "0002978C000000000100", 55: "9F2608AABBCCDD11223344", 60: "P", 70: "201",
    90: ORIGINAL, 91: "1", 97: "C0000000000000100", 101: "NEGATIVE",
    **dict.fromkeys(TOTALS[:6], "0000000007"), **dict.fromkeys(TOTALS[6:], "0000000000000700"),
}  # fmt: skip


@cache
def codec(name: str) -> Codec:
    return canonical_codec(load_dialect(name), lambda: NOW)


@cache
def plain(name: str) -> Codec:
    return Codec(load_dialect(name))


def sent(mti: str, name: str, more: dict[int, str]) -> Message:
    original = mti[:3] + str(int(mti[3]) // 2 * 2)
    numbers = {7, 11, 32, 41, *FORMS[original]} - WITHOUT.get(name, set())
    known = VALUES | {7: MOMENT, 4: "000000001234", 95: "000000000400" + "0" * 12 + "C00000000" * 2} | more
    numbers |= {50} if 97 in numbers else set()
    if name == "iso2003-ascii" and 4 not in numbers:
        numbers.discard(49)
    return Message(mti, {number: known[number] for number in sorted(numbers)})


def test_each_type_that_is_served_is_tried_here() -> None:
    assert FORMS.keys() == {*SERVED.values(), *SERVED_FROM_ISSUERS.values()}


moments = st.datetimes(datetime(2026, 9, 1), datetime(2027, 2, 1)).map(lambda at: f"{at:%m%d%H%M%S}")


@given(
    mti=st.sampled_from(sorted({*SERVED, *SERVED_FROM_ISSUERS})), name=st.sampled_from(LATER), moment=moments,
    stan=st.text("0123456789", min_size=6, max_size=6), amount=st.integers(1, 10**12 - 1), left=st.integers(0, 10**12),
    currency=st.sampled_from(["978", "392", "414"]), code=st.sampled_from(["00", "05", "10", "51"]),
)  # fmt: skip
def test_requests_come_back_over_bytes(
    mti: str, name: str, moment: str, stan: str, amount: int, left: int, currency: str, code: str
) -> None:
    more = {7: moment, 11: stan, 4: f"{amount:012d}", 39: code, 49: currency}
    more |= {50: currency, 54: f"0002{currency}C{amount:012d}"}
    more[95] = f"{left % amount:012d}" + "0" * 12 + "C00000000" * 2
    message = sent(mti, name, more)
    came = codec(name).decode(codec(name).encode(message))
    assert came.mti == mti
    assert {number: came.elements.get(number) for number in message.elements} == message.elements


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("mti", sorted(FORMS))
@pytest.mark.parametrize("code", ["00", "51", "30", "94"])
def test_answers_come_back_over_bytes(name: str, mti: str, code: str) -> None:
    asked = sent(mti, name, {}).elements
    elements = {number: asked[number] for number in (3, 4, 7, 11, 15, 32, 41, 49, 70) if number in asked} | {39: code}
    if mti[1] == "5" and code == "00":
        elements[66] = "2"
    answer = Message(response_mti(mti), dict(sorted(elements.items())))
    came = codec(name).decode(codec(name).encode(answer))
    assert came.mti == answer.mti
    assert {number: came.elements.get(number) for number in elements} == elements


PLACE = "Corner shop\\\\Hannover\\          NI DEU"
# Type inside → type of 1993, and its elements; None: it has none.
NATIVE: dict[str, tuple[str, dict[int, str | None]]] = {
    "0100": ("1100", {12: "261125210000", 22: "200020213001", 24: "100", 26: "5411", 43: PLACE, 49: "978"}),
    "0422": ("1422", {24: "450", 56: "11000000412611252059000" + "6400100"}),
    "0520": ("1520", {24: "500", 28: "261126", 15: None}),
    "0620": ("1624", {24: "680"}),
    "0820": ("1824", {24: "821", 15: "261126", 70: None}),
    "0420": ("1420", {4: "000000000400", 24: "401", 25: "4001", 30: "000000001234" + "0" * 12, 95: None, 90: None}),
}


@pytest.mark.parametrize("mti", sorted(NATIVE))
def test_a_host_of_1993_gets_its_own_types_and_elements(mti: str) -> None:
    native = plain("iso93-ascii").decode(codec("iso93-ascii").encode(sent(mti, "iso93-ascii", {})))
    wanted, elements = NATIVE[mti]
    assert native.mti == wanted
    assert 25 not in native.elements or native.elements[25] == "4001"
    for number, value in elements.items():
        assert native.elements.get(number) == value, number


@pytest.mark.parametrize("number", COMPARED)
def test_each_total_of_1993_is_compared_but_those_that_are_other_numbers_there(number: int) -> None:
    link = plain("iso93-ascii")
    native = link.decode(codec("iso93-ascii").encode(sent("0520", "iso93-ascii", {})))
    ours = sent("0520", "iso93-ascii", {}).elements
    native.elements[number] = native.elements.get(number, "0" * 10)[:-1] + "5"
    came = codec("iso93-ascii").decode(link.encode(native))
    assert (came.mti, agree(ours, came.elements)) == ("0520", number in FEES)


def test_an_answer_of_1993_to_a_reversal_approves_by_its_own_code() -> None:
    link, native = codec("iso93-ascii"), {11: "000042", 12: "261125210000", 32: "400100", 39: "400"}
    came = link.decode(plain("iso93-ascii").encode(Message("1430", native)))
    assert (came.mti, came.elements[39], came.elements[7]) == ("0430", "00", MOMENT)
    assert plain("iso93-ascii").decode(link.encode(came)).elements[39] == "400"


@pytest.mark.parametrize(("name", "mti"), [("iso93-ascii", "1100"), ("iso2003-ascii", "2100")])
def test_an_increment_is_no_original_authorization(name: str, mti: str) -> None:
    first = sent("0100", name, {})
    more = Message("0100", dict(sorted({**first.elements, 90: ORIGINAL}.items())))
    natives = [plain(name).decode(codec(name).encode(message)) for message in (first, more)]
    assert [(native.mti, native.elements[24]) for native in natives] == [(mti, "100"), (mti, "106")]


REVERSAL_1993 = {
    4: "000000000400", 11: "000042", 12: "261125210000", 24: "401", 32: "400100", 49: "978",
    56: "110000004126112520590006400100",
}  # fmt: skip
REVERSAL_2003 = {
    4: "9782000000000400", 11: "000000000042", 12: "20261125210000", 24: "401", 32: "400100",
    56: "210000000000004120261125205900400100",
}  # fmt: skip
NOTHING_WAS = [
    ("iso93-ascii", "1420", REVERSAL_1993),
    ("iso93-ascii", "1401", REVERSAL_1993 | {30: "0" * 24}),
    ("iso2003-ascii", "2420", REVERSAL_2003),
    ("iso2003-ascii", "2420", REVERSAL_2003 | {30: "9782" + "0" * 28}),
]


@pytest.mark.parametrize(("name", "mti", "elements"), NOTHING_WAS)
def test_a_reversal_in_part_never_becomes_one_in_full(name: str, mti: str, elements: dict[int, str]) -> None:
    data = plain(name).encode(Message(mti, dict(sorted(elements.items()))))
    with pytest.raises(RuleViolation) as caught:
        codec(name).decode(data)
    assert caught.value.path == "DE 24" and caught.value.message.elements[1024] == "401"
    assert codec(name).decode(plain(name).encode(Message(mti, elements | {24: "400"}))).mti == "0" + mti[1:]


@pytest.mark.parametrize("number", [24, 30])
def test_an_acknowledgement_is_taken_whatever_it_carries_back(number: int) -> None:
    carried = {24: "401", 30: "000000001000" + "0" * 12}[number]
    native = {11: "000042", 12: "261125210000", 32: "400100", 39: "400", number: carried}
    came = codec("iso93-ascii").decode(plain("iso93-ascii").encode(Message("1430", dict(sorted(native.items())))))
    assert came.elements[39] == "00" and came.elements[1000 + number] == carried


REPRESENTMENTS = ("205", "206", "207", "211", "212", "213", "280", "281", "282", "283", "284", "285")


@pytest.mark.parametrize("function", REPRESENTMENTS)
def test_a_representment_is_booked_as_no_purchase(function: str) -> None:
    native = Message("1220", {**REVERSAL_1993, 24: function})
    with pytest.raises(RuleViolation) as caught:
        codec("iso93-ascii").decode(plain("iso93-ascii").encode(native))
    assert caught.value.path == "DE 24" and function not in caught.value.reason


@pytest.mark.parametrize("name", LATER)
def test_settlement_amounts_of_reversals_in_part_come_back(name: str) -> None:
    for left in ("0" * 12, "000000000500"):
        elements = {
            4: "000000001000", 5: "000000001100", 7: MOMENT, 11: "000042", 32: "1", 49: "978", 50: "840",
            90: original_data("0100", "000041", MOMENT, "1"), 95: f"000000000400{left}" + "C00000000" * 2,
        }  # fmt: skip
        for order in (elements, dict(reversed(elements.items()))):
            came = codec(name).decode(codec(name).encode(Message("0420", order)))
            assert {number: came.elements.get(number) for number in elements} == elements


@pytest.mark.parametrize(
    ("name", "mti"),
    [("iso93-ascii", "0100"), ("iso93-ascii", "2100"), ("iso93-binary", "0800"), ("iso2003-ascii", "1420")],
)
def test_a_type_of_another_version_is_no_message(name: str, mti: str) -> None:
    """Its elements would be read by the wrong numbers, and the rules of its dialect would not be asked."""
    with pytest.raises(DecodeError) as caught:
        codec(name).decode(plain(name).encode(Message(mti, {})))
    assert caught.value.path == "MTI" and not isinstance(caught.value, RuleViolation)


@pytest.mark.parametrize("number", TOTALS)
def test_totals_cannot_be_told_to_2003(number: int) -> None:
    with pytest.raises(EncodeError) as caught:
        codec("iso2003-ascii").encode(Message("0520", {7: MOMENT, 11: "000042", number: VALUES[number]}))
    assert caught.value.path == f"DE {number}"


COMPLETION = {3: "000000", 4: "000000000400", 11: "000042", 12: "261125210000", 32: "400100", 49: "978"}
HOLD_1993, HOLD_2003 = "110000004126112520590006400100", "210000000000004120261125205900400100"
# Type, DE 24, whether DE 56 names an original; the operation that 1987 would book in its place.
MISTAKEN = [
    ("1220", "201", False, "a purchase"), ("1220", "202", False, "a purchase"), ("1200", "201", True, "a purchase"),
    ("1200", "202", True, "a purchase"), ("1201", "202", True, "a purchase"), ("1100", "102", True, "an increment"),
    ("1120", "103", False, "another hold"),
    *(("1422", str(code), True, "one chargeback more") for code in range(490, 496)),
]  # fmt: skip


@pytest.mark.parametrize(("mti", "function", "named", "otherwise"), MISTAKEN)
def test_a_function_that_1987_would_book_as_another_is_refused(
    mti: str, function: str, named: bool, otherwise: str
) -> None:
    native = {**COMPLETION, 24: function, **({56: HOLD_1993} if named else {})}
    _, fault = to_canonical(Message(mti, native), load_dialect("iso93-ascii"))
    assert fault is not None and fault[0] == "DE 24", otherwise


@pytest.mark.parametrize(("name", "hold"), [("iso93-ascii", HOLD_1993), ("iso2003-ascii", HOLD_2003)])
@pytest.mark.parametrize("function", ["201", "202"])
@pytest.mark.parametrize("more", ["", "P", "F"])
def test_a_completion_means_the_same_from_a_later_version_and_back(
    name: str, hold: str, function: str, more: str
) -> None:
    """201 and 202 are about the amount; whether more will follow is DE 60's alone."""
    native = dict(sorted({**COMPLETION, 24: function, 56: hold, **({60: more} if more else {})}.items()))
    if name == "iso2003-ascii":
        native = {**native, 4: "9782" + native[4], 11: "000000000042", 12: "20261125210000"}
        del native[49]
    mti = "1220" if name == "iso93-ascii" else "2220"
    came = codec(name).decode(plain(name).encode(Message(mti, native)))
    assert (came.mti, came.elements.get(60, "")) == ("0220", more)
    back = plain(name).decode(codec(name).encode(came))
    assert (back.elements[24], back.elements.get(60, "")) == (function, more)


@pytest.mark.parametrize("name", ["iso93-ascii", "iso2003-ascii"])
@pytest.mark.parametrize("said", ["", "201", "202"])
@pytest.mark.parametrize("more", ["", "P", "F"])
def test_a_completion_means_the_same_to_a_later_version_and_back(name: str, said: str, more: str) -> None:
    asked = sent("0220", name, {}).elements
    elements = {**{n: asked[n] for n in (3, 4, 7, 11, 32, 41, 49) if n in asked}, 90: ORIGINAL}
    elements |= ({60: more} if more else {}) | ({1024: said} if said else {})
    message = Message("0220", dict(sorted(elements.items())))
    native = plain(name).decode(codec(name).encode(message))
    assert native.elements[24] == (said or "202")  # 201 would claim an amount that nobody knows here
    came = codec(name).decode(codec(name).encode(message))
    assert (came.mti, came.elements.get(60, ""), came.elements[90][:20]) == ("0220", more, ORIGINAL[:20])


@pytest.mark.parametrize(("authorized", "function"), [("000000000400", "201"), ("000000001000", "202"), ("", "202")])
def test_a_completion_is_of_the_same_amount_only_where_the_authorized_amount_is_known(
    authorized: str, function: str
) -> None:
    native = {**COMPLETION, 56: HOLD_1993, **({30: authorized + "0" * 12} if authorized else {})}
    came, fault = to_canonical(Message("1220", native), load_dialect("iso93-ascii"))
    assert fault is None and 1024 not in came.elements
    back = plain("iso93-ascii").decode(codec("iso93-ascii").encode(came))
    assert back.elements[24] == function


def test_a_refund_that_names_its_payment_is_no_completion() -> None:
    asked = sent("0220", "iso93-ascii", {}).elements
    elements = {**{n: asked[n] for n in (4, 7, 11, 32, 41, 49) if n in asked}, 3: "200000", 90: ORIGINAL}
    native = plain("iso93-ascii").decode(codec("iso93-ascii").encode(Message("0220", dict(sorted(elements.items())))))
    assert native.elements[24] == "200"
