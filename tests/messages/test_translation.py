"""Values that survive a round trip between versions, values that are lost, and values that cannot be expressed."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.dialect import Dialect, load_dialect
from messages.dictionary.iso1987 import ENTRY_MODES, PIN_CAPABILITIES, RESPONSE_CODES
from messages.errors import EncodeError
from messages.exchange import original_data
from messages.message import Message
from messages.translation import DROPPED, READERS, SAME, WRITERS, canonical_numbers, from_canonical, to_canonical

NOW = datetime(2026, 11, 25, 21, 0, 30, tzinfo=UTC)
MOMENT = "1125210000"


@cache
def dialect(name: str) -> Dialect:
    return load_dialect(name)


def there(message: Message, name: str = "iso93-ascii", identification: str = "local") -> Message:
    spoken = msgspec.structs.replace(dialect(name), identification=identification)
    return from_canonical(message, spoken, lambda: NOW)


def back(message: Message, name: str = "iso93-ascii", identification: str = "local") -> Message:
    came, fault = to_canonical(message, msgspec.structs.replace(dialect(name), identification=identification))
    assert fault is None
    return came


digits = st.text("0123456789", min_size=6, max_size=6)
moments = st.datetimes(datetime(2026, 9, 1), datetime(2027, 2, 1)).map(lambda at: f"{at:%m%d%H%M%S}")


@given(
    stan=digits, moment=moments, local=moments, original=moments, amount=st.integers(0, 10**12 - 1),
    mode=st.sampled_from(sorted(ENTRY_MODES)), pin=st.sampled_from(sorted(PIN_CAPABILITIES)),
    condition=st.sampled_from(["00", "01", "02", "05", "08", "59"]),
    code=st.sampled_from(["00", "05", "10", "14", "30", "51", "54", "55", "75", "91", "94", "96"]),
    identification=st.sampled_from(["local", "transmission"]), mti=st.sampled_from(["0100", "0210", "0421", "0220"]),
    currency=st.sampled_from(["978", "392", "414"]),
)  # fmt: skip
def test_what_the_switch_uses_comes_back_from_1993(
    stan: str, moment: str, local: str, original: str, amount: int, mode: str, pin: str, condition: str, code: str,
    identification: str, mti: str, currency: str,
) -> None:  # fmt: skip
    elements = {
        2: "4242424242424242", 3: "000000", 4: f"{amount:012d}", 7: moment, 11: stan, 18: "5411", 22: mode + pin,
        25: condition, 32: "400100", 37: "000000000042", 39: code, 41: "TERM0001", 42: "MERCHANT0000001",
        43: "Corner shop            Hannover     NIDE", 49: currency, 52: "1122334455667788",
        55: "9F2608AABBCCDD11223344", 90: original_data("0100", stan, original, "400100"),
    }  # fmt: skip
    if identification == "transmission":
        elements |= {12: local[4:], 13: local[:4]}
    sent = Message(mti, elements)
    for name in ("iso93-ascii", "iso93-binary"):
        native = there(sent, name, identification)
        came = back(native, name, identification)
        assert {number: came.elements.get(number) for number in elements} == elements and came.mti == mti
        assert native.elements[55] == elements[55]
        again = there(came, name, identification)
        assert again == native


@pytest.mark.parametrize("code", sorted(RESPONSE_CODES))
def test_no_refusal_becomes_an_approval_on_the_way(code: str) -> None:
    for name in ("iso93-ascii", "iso2003-ascii"):
        told = back(there(Message("0110", {7: MOMENT, 11: "000001", 39: code}), name), name).elements[39]
        assert (told in ("00", "08", "10", "11", "16", "85")) is (code in ("00", "08", "10", "11", "16", "85"))


TYPES = {
    ("0800", 70, "001"): ("1804", 24, "801"),
    ("0800", 70, "301"): ("1804", 24, "831"),
    ("0820", 70, "201"): ("1824", 24, "821"),
    ("0302", 91, "1"): ("1304", 24, "301"),
    ("0520", 15, "1124"): ("1520", 28, "261124"),
    ("0422", 4, "000000000100"): ("1422", 24, "450"),
    ("0620", 63, "note"): ("1624", 63, "note"),
    ("0110", 39, "51"): ("1110", 39, "116"),
    ("0430", 39, "00"): ("1430", 39, "400"),
    ("0530", 66, "1"): ("1530", 39, "500"),
    ("0100", 18, "5411"): ("1100", 26, "5411"),
}


@pytest.mark.parametrize(("mti", "number", "value"), sorted(TYPES))
def test_types_and_codes_have_counterparts(mti: str, number: int, value: str) -> None:
    elements = {7: MOMENT, 11: "000001", number: value} | ({39: "00"} if number == 66 else {})
    sent = Message(mti, elements)
    native = there(sent)
    assert (native.mti, native.elements[TYPES[mti, number, value][1]]) == TYPES[mti, number, value][::2]
    came = back(native)
    assert came.mti == mti and came.elements[number] == value


@pytest.mark.parametrize(("code", "told"), [("112", "55"), ("129", "59"), ("918", "96"), ("007", "00")])
def test_an_action_code_goes_back_to_its_own_version_as_it_came(code: str, told: str) -> None:
    """1987 has one DE 39 for several of them."""
    came = back(Message("1110", {11: "000001", 12: "261125210000", 39: code}))
    assert came.elements[39] == told
    assert there(came).elements[39] == code
    other = Message(came.mti, {**came.elements, 39: "51"})
    assert there(other).elements[39] == "116", "an invalid value is translated"


@pytest.mark.parametrize(("code", "balance"), [("500", "1"), ("501", "2"), ("502", "2"), ("503", "3"), ("504", "2")])
def test_whether_totals_are_in_balance_is_an_action_code(code: str, balance: str) -> None:
    came = back(Message("1510", {11: "000001", 12: "261125210000", 39: code}))
    assert came.elements[66] == balance


def test_a_peer_that_answers_with_its_own_transmission_time_is_paired_by_local_time() -> None:
    request = there(Message("0100", {7: MOMENT, 11: "000001", 32: "1"}))
    answer = Message("1110", {7: "1125999999", 11: "000001", 12: request.elements[12], 32: "1", 39: "000"})
    assert back(answer).elements[7] == MOMENT
    assert back(answer, identification="transmission").elements[7] == "1125999999"


def test_a_year_that_a_peer_has_wrong_goes_back_as_it_came() -> None:
    came = back(Message("1100", {11: "000001", 12: "190301120000"}))
    assert came.elements[7] == "0301120000"
    answer = Message("0110", {number: came.elements[number] for number in (7, 11, 1012)} | {39: "00"})
    assert there(answer).elements[12] == "190301120000"


def test_a_long_trace_number_of_2003_goes_back_as_it_came() -> None:
    came = back(Message("2100", {11: "987654000042", 12: "20261125210000"}), "iso2003-ascii")
    assert came.elements[11] == "000042"
    answer = Message("0110", {number: came.elements[number] for number in (7, 11, 1011)} | {39: "00"})
    assert there(answer, "iso2003-ascii").elements[11] == "987654000042"


def test_what_one_later_version_said_is_not_told_to_another() -> None:
    positions = back(Message("1100", {11: "000001", 12: "261125210000", 22: "M1010151M00C"})).elements
    native = there(Message("0100", positions), "iso2003-ascii")
    assert len(native.elements[22]) == 32 and native.elements[12] == "20261125210000"
    bits = back(
        Message("2100", {11: "000000000001", 12: "20261125210000", 22: "20" + "0" * 30}), "iso2003-ascii"
    ).elements
    assert len(there(Message("0100", bits)).elements[22]) == 12


def test_a_partial_reversal_says_what_remains() -> None:
    remains = "000000000400" + "0" * 12 + "C00000000" * 2
    sent = Message("0420", {4: "000000001000", 7: MOMENT, 11: "000001", 49: "978", 95: remains})
    native = there(sent)
    assert (native.elements[4], native.elements[30], native.elements[24]) == (
        "000000000400", "000000001000" + "0" * 12, "401",
    )  # fmt: skip
    for name in ("iso93-ascii", "iso2003-ascii"):
        came = back(there(sent, name), name).elements
        assert (came[4], came[95]) == ("000000001000", remains)


def test_a_reversal_in_part_of_which_all_remains_is_not_one_in_full() -> None:
    amounts = {4: "000000001000", 30: "000000001000" + "0" * 12, 49: "978"}
    contradiction = to_canonical(
        Message("1420", {**amounts, 4: "000000000400", 11: "000001", 12: "261125210000", 24: "400"}),
        dialect("iso93-ascii"),
    )[1]
    assert contradiction == ("DE 30", "is another amount than DE 4, and DE 24 says that all is reversed")
    in_part = back(Message("1420", {**amounts, 11: "000001", 12: "261125210000", 24: "401"})).elements
    assert (in_part[4], in_part[95][:12]) == ("000000001000", "000000001000")
    in_full = back(Message("1420", {**amounts, 11: "000001", 12: "261125210000", 24: "400"})).elements
    assert 95 not in in_full


def test_a_reversal_in_part_of_2003_has_one_currency() -> None:
    amounts = {4: "9782000000000400", 11: "000000000001", 12: "20261125210000", 24: "401"}
    for was, fault in (("9782", None), ("8402", ("DE 30", "is in another currency than DE 4"))):
        given = {**amounts, 30: was + "000000001000" + "0" * 16}
        assert to_canonical(Message("2420", given), load_dialect("iso2003-ascii"))[1] == fault


@pytest.mark.parametrize("final", ["P", "F", ""])
def test_a_capture_claims_no_amount_of_its_hold(final: str) -> None:
    elements = {4: "000000001000", 7: MOMENT, 11: "000001", 49: "978", 60: final}
    elements[90] = original_data("0100", "000041", "1125205900", "400100")
    sent = Message("0220", {number: value for number, value in elements.items() if value})
    assert there(sent).elements[24] == "202"


def test_an_action_code_goes_back_as_it_came_only_where_it_still_says_the_same() -> None:
    came = back(Message("1110", {11: "000001", 12: "261125210000", 39: "101"})).elements
    assert there(Message("0110", came)).elements[39] == "101"
    assert there(Message("0110", {**came, 39: "51"})).elements[39] == "116"


def test_the_merchant_category_is_that_of_the_business_where_both_are_given() -> None:
    came = back(Message("1100", {11: "000001", 12: "261125210000", 18: "6011", 26: "5411"})).elements
    assert came[18] == "5411"
    assert back(Message("1100", {11: "000001", 12: "261125210000", 18: "6011"})).elements[18] == "6011"


BROKEN = {
    ("1100", 49, "XQQ"): "iso93-ascii",
    ("1420", 56, "11"): "iso93-ascii",
    ("1420", 56, "1100000041261125205900" + "07400100"): "iso93-ascii",
    ("1420", 56, "9999000001261125210000"): "iso93-ascii",
    ("2100", 4, "9780000000000100"): "iso2003-ascii",
    ("2100", 42, "M" * 16): "iso2003-ascii",
    ("2110", 54, "0001"): "iso2003-ascii",
}


@pytest.mark.parametrize(("mti", "number", "value"), sorted(BROKEN))
def test_a_value_that_is_none_is_named_and_kept_apart(mti: str, number: int, value: str) -> None:
    came, fault = to_canonical(Message(mti, {11: "000001", number: value}), dialect(BROKEN[mti, number, value]))
    assert fault is not None and fault[0] == f"DE {number}" and value not in fault[1]
    assert came.elements[1000 + number] == value


UNSAYABLE = {
    (70, "999"): "DE 70",
    (90, "9" * 42): "DE 90",
    (95, "0" * 42): "DE 95",
    (91, "7"): "DE 91",
    (105, "reserved"): "DE 105",
    (15, "1399"): "DE 15",
}


@pytest.mark.parametrize(("number", "value"), sorted(UNSAYABLE))
def test_what_has_no_counterpart_is_an_error_with_its_path(number: int, value: str) -> None:
    with pytest.raises(EncodeError) as caught:
        there(Message("0800", {7: MOMENT, 11: "000001", number: value}))
    assert caught.value.path == UNSAYABLE[number, value] and value not in caught.value.reason


@pytest.mark.parametrize("name", ["iso93-ascii", "iso2003-ascii"])
def test_each_element_has_one_fate(name: str) -> None:
    version = dialect(name).version
    assert not SAME[version] & READERS[version].keys()
    assert not SAME[version] & WRITERS[version].keys()
    assert not DROPPED[version].keys() & (SAME[version] | WRITERS[version].keys())
    for number in (2, 11, 32, 39, 41, 49):
        assert canonical_numbers(dialect(name), number, "0110") in ((number,), (1049,))
    assert canonical_numbers(dialect(name), 12, "0110") == (7,)
    assert canonical_numbers(dialect(name), 24, "0810") == (70,)
