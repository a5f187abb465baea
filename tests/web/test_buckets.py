"""Token buckets: the number that passes, the wait of the others, and that the table is bounded."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from web.buckets import Buckets


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


RATES = st.floats(0.1, 1000)
BURSTS = st.integers(1, 500)
# Pauses before each request, from all at once to hours.
PAUSES = st.lists(st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 10_000)), min_size=1, max_size=80)


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    buckets = Buckets(0.5, 3, clock)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 2, 2]
    assert buckets.take("b") == 0
    clock.now += 1
    assert buckets.take("a") == 1
    clock.now += 1
    assert [buckets.take("a") for _ in range(2)] == [0, 2]
    clock.now += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2]


@given(RATES, BURSTS, PAUSES)
def test_no_more_than_a_burst_and_the_rate_comes_through(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    times = []
    for pause in pauses:
        clock.now += pause
        if not buckets.take("a"):
            times.append(clock.now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - times[first]) * rate + 1e-6


@given(RATES, BURSTS, PAUSES)
def test_a_client_that_waits_as_long_as_it_is_asked_to_is_served(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    for pause in pauses:
        clock.now += pause
        wait_s = buckets.take("a")
        assert wait_s == 0 or buckets.wait_s("a") == wait_s
        assert wait_s <= 1 / rate + 1e-6
        if wait_s:
            clock.now += wait_s + 1e-6
            assert buckets.take("a") == 0


@given(RATES, BURSTS, PAUSES)
def test_a_slower_client_is_never_refused(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    for pause in pauses:
        clock.now += pause + 1 / rate + 1e-6
        assert buckets.take("a") == 0


@given(st.lists(st.sampled_from("abc"), max_size=200), BURSTS)
def test_a_name_pays_for_its_own_requests_only(names: list[str], burst: int) -> None:
    buckets = Buckets(1.0, burst, Clock())
    refused = [name for name in names if buckets.take(name)]
    assert {name: names.count(name) - refused.count(name) for name in "abc"} == {
        name: min(burst, names.count(name)) for name in "abc"
    }


@given(RATES, BURSTS, st.integers(0, 5000))
def test_a_debt_is_one_burst_at_most(rate: float, burst: int, charges: int) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    for _ in range(charges):
        buckets.charge("a")
    assert buckets.wait_s("a") <= (burst + 1) / rate + 1e-6
    clock.now += (2 * burst) / rate + 1e-6
    assert math.isclose(buckets._level("a"), burst)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
@example([(number, number % 2 == 0) for number in range(1_000)])
def test_the_table_is_bounded_whatever_names_come(visits: list[tuple[int, bool]]) -> None:
    buckets = Buckets(1.0, 1, Clock(), max_buckets=3)
    for name, charged in visits:
        (buckets.charge if charged else buckets.take)(str(name))
        assert buckets.wait_s(str(name)) > 0
        buckets.wait_s("asked about, and not stored")
        assert len(buckets) <= 3


def test_the_names_that_are_idle_longest_are_forgotten_first() -> None:
    buckets = Buckets(1.0, 1, Clock(), max_buckets=3)
    for name in ("a", "b", "c", "a", "d"):
        buckets.take(name)
    assert {name: buckets.take(name) > 0 for name in ("a", "c", "d")} == {"a": True, "c": True, "d": True}
    assert buckets.take("b") == 0
