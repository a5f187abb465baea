"""messages.reconciliation: each total by itself, and what an absent one means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.reconciliation import COMPARED, NEVER_OURS, agree, corrections, net_element

OURS = {
    74: "0000000002", 75: "0000000001", 76: "0000000005", 77: "0000000002",
    86: f"{700:016d}", 87: f"{200:016d}", 88: f"{9_000:016d}", 89: f"{1_500:016d}", 97: "D" + f"{7_000:016d}",
}  # fmt: skip


def test_the_same_totals_agree() -> None:
    assert agree(OURS, OURS)
    assert agree(OURS, {**OURS, **NEVER_OURS, 80: "0000000009", 81: "0000000009", 4: "000000000001"})


@pytest.mark.parametrize("number", COMPARED)
def test_a_wrong_value_in_one_element_alone_is_out_of_balance(number: int) -> None:
    """Elements that nobody has here are stated as something, all others as one more."""
    text = {**NEVER_OURS, **OURS}[number]
    wrong = text[:-1] + ("1" if text[-1] == "0" else "0" if text[-1] == "1" else chr(ord(text[-1]) + 1))
    assert not agree(OURS, {**OURS, number: wrong})
    assert not agree({**OURS, number: wrong}, OURS)


def test_a_net_with_the_other_sign_is_out_of_balance() -> None:
    assert not agree(OURS, {**OURS, 97: "C" + OURS[97][1:]})


def test_a_net_of_zero_has_either_sign() -> None:
    assert agree({97: net_element(0)}, {97: "C" + "0" * 16})
    assert agree({97: net_element(0)}, {97: "D" + "0" * 16})


@pytest.mark.parametrize("number", sorted(set(COMPARED) - {97}))
def test_an_absent_total_is_zero(number: int) -> None:
    without = {n: text for n, text in OURS.items() if n != number}
    assert agree(OURS, without) is (number not in OURS)
    assert agree(without, {**without, number: "0"})


def test_an_absent_net_is_not_compared() -> None:
    without = {n: text for n, text in OURS.items() if n != 97}
    assert agree(OURS, without) and agree(without, OURS) and agree(OURS, {**without, 97: ""})


@pytest.mark.parametrize("number", COMPARED)
@pytest.mark.parametrize("text", ["x", "-1", " 1", "1_0", "\u0661", "D", "X0000000000000001"])
def test_what_is_no_number_is_said_so(number: int, text: str) -> None:
    if (number, text) == (97, "D"):
        text = "D-1"
    with pytest.raises(ValueError, match=r"DE 97|no number"):
        agree(OURS, {**OURS, number: text})


def test_totals_that_differ_are_answered_with_ours_and_with_zeros_for_what_nobody_has() -> None:
    told = corrections(OURS, {78: "0000000003", 84: f"{5:012d}", 80: "0000000001", 15: "0304"})
    assert told == {**OURS, 78: "0" * 10, 84: "0" * 12}
    assert agree(OURS, told)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_nets_agree_where_they_are_the_same(ours: int, theirs: int) -> None:
    assert len(net_element(ours)) == 17
    assert agree({97: net_element(ours)}, {97: net_element(theirs)}) is (ours == theirs)
