"""Card files: recognition of cards, faults of a line, and that no message repeats a line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.vault.card_file import MAX_LINE_BYTES, BadLine, CardFile, CardLine

VISA, AMEX = "4242424242424242", "378282246310005"


def read(text: str | bytes, after: int = 0) -> list[CardLine | BadLine]:
    data = text.encode() if isinstance(text, str) else text
    return list(CardFile(io.BytesIO(data)).lines(after))


def cards(text: str | bytes) -> list[tuple[int, str, str, str]]:
    found = []
    for line in read(text):
        assert isinstance(line, CardLine), line
        found.append((line.number, line.pan, line.expiry, line.domain))
    return found


@pytest.mark.parametrize(
    "text",
    [
        f"{VISA},12,2030,acct_1\n{AMEX},7,31\n",
        f"{VISA},12,30,acct_1\r\n{AMEX},07,2031,\r\n",
        f"{VISA},12,30,acct_1\n{AMEX},07,2031",
        f'4242 4242 4242 4242,12,30,acct_1\n"{AMEX}",07,2031\n',
        f'{{"pan":"{VISA}","exp_month":12,"exp_year":2030,"domain":"acct_1"}}\n{{"pan":{AMEX},"exp_month":"7","exp_year":31}}',
        f'{VISA},12,30,acct_1\n  {{"exp_year":2031,"exp_month":7,"pan":"{AMEX}","name":"Ada"}}\n',
    ],
)
def test_cards_as_csv_and_json(text: str) -> None:
    assert cards(text) == [(1, VISA, "3012", "acct_1"), (2, AMEX, "3107", "")]


def test_a_first_line_may_name_the_columns() -> None:
    text = f"\ufeffName,Exp_Year,Exp_Month,PAN,domain\nAda,2030,12,{VISA},acct_1\nBea,31,7,{AMEX},\n"
    assert cards(text) == [(2, VISA, "3012", "acct_1"), (3, AMEX, "3107", "")]


def test_the_names_hold_when_an_import_goes_on() -> None:
    text = f"exp_month,exp_year,pan\n12,30,{VISA}\n\n7,31,{AMEX}\n"
    assert [line.number for line in read(text, after=2)] == [4]
    assert read(text, after=2)[0].pan == AMEX  # type: ignore[union-attr]
    assert read(text, after=4) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4242424242424241,12,30", "pan is not a card number"),
        ("4242424242,12,30", "pan is not a card number"),
        ("４２４２４２４２４２４２４２４２,12,30", "pan is not a card number"),
        (",12,30", "pan is missing"),
        (f"{VISA}", "exp_month is missing"),
        (f"{VISA},12", "exp_year is missing"),
        (f"{VISA},13,30", "exp_month is not a month"),
        (f"{VISA},0,30", "exp_month is not a month"),
        (f"{VISA},Dec,30", "exp_month is not a number"),
        (f"{VISA},12,1999", "exp_year is not a year"),
        (f"{VISA},12,20300", "exp_year is not a number"),
        (f"{VISA},12,30,{'x' * 101}", "domain is not a name"),
        (f'{VISA},12,30,"a\tb"', "domain is not a name"),
        (f'"{VISA},12,30', "neither CSV nor JSON in UTF-8"),
        (f'{{"pan":"{VISA}","exp_month":12', "not a JSON object"),
        ('{"pan":true,"exp_month":12,"exp_year":30}', "pan is not text"),
        (f'{{"pan":["{VISA}"],"exp_month":12,"exp_year":30}}', "pan is not text"),
        (f'{{"pan":"{VISA}","exp_month":1.5,"exp_year":30}}', "exp_month is not text"),
        (f"{VISA},12,30," + "x" * MAX_LINE_BYTES, f"longer than {MAX_LINE_BYTES} bytes"),
        (f"{VISA},12,30," + "x" * (5 * MAX_LINE_BYTES), f"longer than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_a_bad_line_is_told_by_its_number_alone(line: str, reason: str) -> None:
    text = f"{AMEX},7,31\n{line}\n{AMEX},7,31\n"
    first, bad, last = read(text)
    assert isinstance(first, CardLine) and isinstance(last, CardLine) and last.number == 3
    assert isinstance(bad, BadLine) and (bad.number, bad.reason) == (2, reason)
    assert last.end == len(text.encode())


def test_bytes_that_are_no_text() -> None:
    (bad,) = read(b"\xff\xfe4242,12,30\n")
    assert isinstance(bad, BadLine) and bad.reason == "neither CSV nor JSON in UTF-8"


@given(data=st.binary(max_size=300))
def test_whatever_comes_is_a_card_or_a_bad_line(data: Any) -> None:
    for line in read(data):
        assert isinstance(line, CardLine | BadLine)
        if isinstance(line, BadLine):
            assert not any(word in line.reason for word in data.decode("latin-1").split() if len(word) > 11)


def test_a_card_is_not_in_its_repr() -> None:
    assert VISA not in repr(read(f"{VISA},12,30")[0])
