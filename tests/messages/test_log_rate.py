"""Lines a second are bounded by kind and in all, and none is left out without a count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from messages.log_rate import LogRate, Rate


def test_lines_of_a_kind_are_bounded_and_those_left_out_are_counted() -> None:
    rate: LogRate[str] = LogRate(Rate(10, 20))
    written = [rate.admit("undecodable", at / 1000) for at in range(10_000)]
    assert sum(left is not None for left in written) <= 20 + 10 * 10
    assert sum(left or 0 for left in written) + sum(rate.left_out().values()) == 10_000 - sum(
        left is not None for left in written
    )
    assert rate.left_out() == {}


def test_one_kind_leaves_the_others_their_lines() -> None:
    rate: LogRate[str] = LogRate(Rate(1, 1))
    assert [rate.admit("flood", 0.0) for _ in range(3)] == [0, None, None]
    assert rate.admit("other", 0.0) == 0
    assert rate.admit("flood", 1.0) == 2


def test_all_kinds_together_are_bounded_however_many_there_are() -> None:
    rate: LogRate[int] = LogRate(Rate(10, 20), total=Rate(100, 100), max_kinds=50)
    written = sum(rate.admit(number, number / 10_000) is not None for number in range(10_000))  # in one second
    assert written <= 200
    assert rate.forgotten + sum(rate.left_out().values()) == 10_000 - written


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=300))
def test_no_line_is_lost_without_a_count(lines: list[tuple[str, float]]) -> None:
    rate: LogRate[str] = LogRate(Rate(5, 3), total=Rate(8, 4))
    written = told = 0
    for kind, at in sorted(lines, key=lambda line: line[1]):
        left_out = rate.admit(kind, at)
        written += left_out is not None
        told += left_out or 0
    assert written + told + sum(rate.left_out().values()) == len(lines)
