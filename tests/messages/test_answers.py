"""Answers that match their request, and those that contradict it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.answers import contradiction
from messages.message import Message

ASKED = {2: "4242424242424242", 3: "000000", 4: "000000002500", 7: "0314092653", 11: "000001", 49: "978"}
LEFT = "000000000900" + "0" * 12 + "C00000000" * 2

# A change in the answer, and the element that contradicts; "" for none.
CASES: list[tuple[dict[int, str], str]] = [
    ({}, ""),
    ({2: "4242424242424241"}, "DE 2"),
    ({2: "424242424242424"}, "DE 2"),
    ({2: ""}, ""),
    ({2: "424242******4242"}, ""),
    ({2: "424242******4241"}, "DE 2"),
    ({2: "XXXXXXXXXXXX4242"}, ""),
    ({2: "******4242"}, ""),
    ({3: "010000"}, "DE 3"),
    ({3: "002000"}, "DE 3"),
    ({3: ""}, ""),
    ({4: "000000002501"}, "DE 4"),
    ({4: "000000002499"}, "DE 4"),
    ({4: "00000000250x"}, "DE 4"),
    ({4: ""}, ""),
    ({4: "2500"}, ""),
    ({49: "840"}, "DE 49"),
    ({49: ""}, ""),
    ({39: "10", 4: "000000001000"}, ""),
    ({39: "10", 4: "000000002500"}, ""),
    ({39: "10", 4: "000000002501"}, "DE 4"),
    ({39: "10", 4: "000000000000"}, "DE 4"),
    ({39: "10", 4: "000000001000", 49: "840"}, "DE 49"),
    ({39: "10", 4: "000000001000", 2: "4000056655665556"}, "DE 2"),
    ({39: "10", 4: "000000001000", 3: "200000"}, "DE 3"),
    # billed in another currency: any result of the rate; in the same one it is the amount
    ({6: "000000002750", 51: "840", 10: "61100000"}, ""),
    ({6: "000000002500", 51: "978"}, ""),
    ({6: "000000002600", 51: "978"}, "DE 6"),
    ({5: "000000002600", 50: "978"}, "DE 5"),
    ({39: "10", 4: "000000001000", 6: "000000001000", 51: "978"}, ""),
    ({39: "10", 4: "000000001000", 6: "000000002500", 51: "978"}, "DE 6"),
]


@pytest.mark.parametrize(("changes", "element"), CASES)
def test_an_answer_is_compared_with_the_question(changes: dict[int, str], element: str) -> None:
    told = {number: value for number, value in {**ASKED, 39: "00", **changes}.items() if value}
    problem = contradiction(Message("0200", ASKED), Message("0210", told))
    assert (problem.path if problem else "") == element


@pytest.mark.parametrize("number", [10, 50, 51])
def test_a_rate_or_currency_that_was_sent_must_come_back(number: int) -> None:
    request = Message("0200", {**ASKED, number: "00000978"[-8 if number == 10 else -3 :]})
    assert contradiction(request, Message("0210", {**request.elements, 39: "00"})) is None
    other = contradiction(request, Message("0210", {**request.elements, 39: "00", number: "00000840"}))
    assert other is not None and other.path == f"DE {number}"


def test_a_reversal_in_part_may_be_answered_with_what_is_left() -> None:
    request = Message("0420", {**ASKED, 95: LEFT})
    for amount, right in (("000000002500", True), ("000000000900", True), ("000000001600", False)):
        problem = contradiction(request, Message("0430", {**ASKED, 39: "00", 4: amount}))
        assert (problem is None) is right


@given(asked=st.integers(1, 10**12 - 1), approved=st.integers(0, 10**12 - 1))
def test_an_approval_in_part_is_above_zero_and_not_above_the_request(asked: int, approved: int) -> None:
    request = Message("0200", {**ASKED, 4: f"{asked:012d}"})
    answer = Message("0210", {**ASKED, 39: "10", 4: f"{approved:012d}"})
    assert (contradiction(request, answer) is None) is (0 < approved <= asked)


def test_no_reason_tells_a_value() -> None:
    for changes, element in CASES:
        told = {number: value for number, value in {**ASKED, 39: "00", **changes}.items() if value}
        problem = contradiction(Message("0200", ASKED), Message("0210", told))
        if element and problem is not None:
            assert not any(character.isdigit() for character in problem.reason)
