"""Keys of exchanges, DE 7 against the calendar, DE 90."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.errors import DecodeError, EncodeError
from messages.exchange import (
    CLOCK_SLACK,
    OriginalData,
    acquirer_key,
    de7,
    nearest_time,
    network_key,
    original_data,
    original_time,
    pairing_key,
    parse_original_data,
    transmission_time,
    unmarked_key,
)
from messages.message import Message


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("1122154500", datetime(2026, 11, 22, 15, 45, 9, tzinfo=UTC), datetime(2026, 11, 22, 15, 45, tzinfo=UTC)),
        ("1231235959", datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0101000000", datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("0229120000", datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("0229120000", datetime(2029, 1, 2, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("0229120000", datetime(2027, 12, 2, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)),
        # 00:30 on 1 January in Berlin is still last year in UTC
        (
            "1231233000",
            datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 12, 31, 23, 30, tzinfo=UTC),
        ),
    ],
)
def test_the_year_is_the_nearest(text: str, now: datetime, expected: datetime) -> None:
    assert nearest_time(text, now) == expected
    assert nearest_time(text, now).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "112215450", "11221545000", "112215450x", "1322154500", "1122250000", "0230120000"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="DE 7"):
        nearest_time(text, datetime(2026, 11, 22, tzinfo=UTC))


def test_29_february_needs_a_leap_year_near_by() -> None:
    with pytest.raises(DecodeError, match="no such date"):
        nearest_time("0229120000", datetime(2026, 2, 28, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("1122154500", datetime(2026, 11, 22, 15, 45, 9, tzinfo=UTC), datetime(2026, 11, 22, 15, 45, tzinfo=UTC)),
        ("0101000000", datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("1231235959", datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0501120000", datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("0101120000", datetime(2026, 12, 31, 20, 59, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("0229120000", datetime(2027, 12, 2, tzinfo=UTC), datetime(2024, 2, 29, 12, tzinfo=UTC)),
    ],
)
def test_de_7_of_an_arrival_is_the_last_such_moment_up_to_fourteen_hours_ahead(
    text: str, now: datetime, expected: datetime
) -> None:
    assert transmission_time(text, now) == expected


@given(at=st.datetimes(datetime(2001, 1, 1), datetime(2098, 12, 31)), hours=st.integers(-14, 364 * 24))
def test_de_7_finds_its_moment_again(at: datetime, hours: int) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    assert transmission_time(de7(at), at + timedelta(hours=hours)) == at


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("0501120000", datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("1129120000", datetime(2026, 11, 28, tzinfo=UTC), datetime(2025, 11, 29, 12, tzinfo=UTC)),
        # five minutes of the sender's clock
        ("1130120500", datetime(2026, 11, 30, 12, tzinfo=UTC), datetime(2026, 11, 30, 12, 5, tzinfo=UTC)),
        ("1130120501", datetime(2026, 11, 30, 12, tzinfo=UTC), datetime(2025, 11, 30, 12, 5, 1, tzinfo=UTC)),
        ("0101000200", datetime(2026, 12, 31, 23, 58, tzinfo=UTC), datetime(2027, 1, 1, 0, 2, tzinfo=UTC)),
        ("1231235959", datetime(2027, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        # 29 February is that of the last leap year, not of the next
        ("0229120000", datetime(2027, 1, 10, tzinfo=UTC), datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("0229120000", datetime(2028, 2, 29, 11, tzinfo=UTC), datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("0229120000", datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("0229120000", datetime(2104, 1, 1, tzinfo=UTC), datetime(2096, 2, 29, 12, tzinfo=UTC)),
        # 00:30 on 1 January in Berlin is still last year in UTC
        (
            "0101003000",
            datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 1, 1, 0, 30, tzinfo=UTC),
        ),
    ],
)
def test_an_original_is_in_the_past(text: str, now: datetime, expected: datetime) -> None:
    assert original_time(text, now) == expected
    assert original_time(text, now).tzinfo is UTC


@given(
    at=st.datetimes(datetime(2001, 1, 1), datetime(2098, 12, 31)),
    since=st.timedeltas(timedelta(minutes=-5), timedelta(days=364, hours=23)),
)
def test_an_original_of_the_last_year_is_found_at_any_age(at: datetime, since: timedelta) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    assert original_time(de7(at), at + since) == at


@given(
    text=st.datetimes(datetime(2024, 1, 1), datetime(2024, 12, 31)).map(lambda at: f"{at:%m%d%H%M%S}"),
    now=st.datetimes(datetime(2009, 1, 1), datetime(2098, 12, 31)),
)
def test_an_original_is_never_in_the_future_and_never_a_later_one_is_passed_over(text: str, now: datetime) -> None:
    now = now.replace(tzinfo=UTC)
    found = original_time(text, now)
    assert de7(found) == text and found <= now + CLOCK_SLACK
    assert now - found < timedelta(days=366 if text[:4] != "0229" else 366 * 8)


@pytest.mark.parametrize(
    "text", ["", "112215450", "11221545000", "112215450x", "1322154500", "1122250000", "0230120000", "0" * 10]
)
def test_an_original_at_no_moment_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="DE 7"):
        original_time(text, datetime(2026, 11, 22, tzinfo=UTC))


def test_de_7_is_utc() -> None:
    assert de7(datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == "1231233000"


def test_a_repeat_has_the_key_of_its_original() -> None:
    at = datetime(2026, 11, 22, 15, 45, tzinfo=UTC)
    key = acquirer_key("pos", "0100", at, "123456", "400100", "TERM0001")
    assert key == "pos|0100|20261122154500|123456|400100"
    assert acquirer_key("pos", "0101", at, "123456", "00000400100", "OTHER") == key
    assert acquirer_key("pos", "0100", at, "123456", "", "TERM0001").endswith("|TERM0001")
    assert acquirer_key("pos", "0200", at, "123456", "400100", "TERM0001") != key
    assert network_key("alpha", "0421", "1122154500", "000001") == "alpha|0420|1122154500|000001"


@given(
    st.text("#0123456789AB", max_size=8),
    st.text("#0123456789AB", max_size=8),
    st.from_regex(r"[0-9]{0,11}", fullmatch=True),
)
def test_no_terminal_has_the_key_of_an_acquirer_or_another_terminal(one: str, other: str, acquirer_id: str) -> None:
    at = datetime(2026, 11, 22, 15, 45, tzinfo=UTC)
    terminal = acquirer_key("pos", "0100", at, "123456", "000", one)
    if acquirer_id.strip("0"):
        assert acquirer_key("pos", "0100", at, "123456", acquirer_id, other) != terminal
    assert (acquirer_key("pos", "0100", at, "123456", "", other) == terminal) is (one == other)


def test_a_marked_key_shows_its_earlier_form() -> None:
    at = datetime(2026, 11, 22, 15, 45, tzinfo=UTC)
    assert unmarked_key(acquirer_key("pos", "0100", at, "123456", "", "10001")) == (
        "pos|0100|20261122154500|123456|10001"
    )
    assert unmarked_key(acquirer_key("pos", "0100", at, "123456", "10001", "10001")) == ""
    assert unmarked_key(acquirer_key("pos", "0100", at, "123456", "", "TERM0001")) == ""


def test_requests_repeats_and_answers_pair() -> None:
    common = {7: "1122154500", 11: "123456", 32: "400100", 41: "TERM0001"}
    request = pairing_key(Message("0100", common))
    assert pairing_key(Message("0101", common)) == request
    assert pairing_key(Message("0110", {**common, 39: "00", 32: "00000400100"})) == request
    for number, other in ((7, "1122154501"), (11, "123457"), (32, "400101")):
        assert pairing_key(Message("0110", {**common, number: other})) != request
    assert pairing_key(Message("0210", common)) != request
    terminal = {number: value for number, value in common.items() if number != 32}
    assert pairing_key(Message("0110", terminal)) == pairing_key(Message("0100", terminal)) != request


def test_original_data_goes_there_and_back() -> None:
    text = original_data("0100", "123456", "1122154500", "400100", "7")
    assert text == "010012345611221545000000040010000000000007"
    assert parse_original_data(text) == OriginalData("0100", "123456", "1122154500", "400100", "7")
    assert parse_original_data(original_data("0200", "1", "1122154500", "")) == OriginalData(
        "0200", "000001", "1122154500", "", ""
    )


def test_original_data_must_be_digits_that_fit() -> None:
    for wrong in (("01000", "1"), ("0100", "1234567"), ("0100", "12345x")):
        with pytest.raises(EncodeError, match="DE 90"):
            original_data(*wrong, "1122154500", "400100")
    for text in ("", "0" * 41, "0" * 43, "0" * 41 + "x"):
        with pytest.raises(DecodeError, match="DE 90"):
            parse_original_data(text)
