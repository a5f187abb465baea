"""The gate of a link: places, the queue before them, the rate, and readers that wait for room."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from switch.links.limits import IN_FLIGHT, RATE, WAITED, Gate, OverLimit, Place
from tests.switch.links.peers import run


async def entered(gate: Gate, wait_s: float = math.inf) -> str:
    """ "" where the gate lets a request through, else the limit that does not."""
    try:
        await gate.enter(trio.current_time() + wait_s)
    except OverLimit as over:
        return over.limit
    return ""


def test_places_are_given_back() -> None:
    async def script() -> None:
        gate = Gate(2)
        assert [await entered(gate) for _ in range(3)] == ["", "", IN_FLIGHT]
        assert gate.full and gate.in_flight == 2
        gate.leave()
        assert not gate.full
        assert [await entered(gate) for _ in range(2)] == ["", IN_FLIGHT]

    run(script)


def test_the_queue_is_served_in_order_and_is_bounded() -> None:
    async def script() -> None:
        gate, order = Gate(1, queue=2, queue_s=10.0), list[str]()

        async def ask(name: str) -> None:
            order.append(f"{name}:{await entered(gate)}")

        assert gate.ask() is None
        async with trio.open_nursery() as nursery:
            for name in ("first", "second"):
                nursery.start_soon(ask, name)
                await trio.testing.wait_all_tasks_blocked()
            assert gate.full and gate.waiting == 2
            assert await entered(gate) == IN_FLIGHT
            gate.leave()
            await trio.testing.wait_all_tasks_blocked()
            assert order == ["first:"] and gate.in_flight == 1
            gate.leave()
        assert order == ["first:", "second:"]
        gate.leave()
        assert gate.in_flight == 0 and not gate.waiting

    run(script)


def test_nobody_waits_longer_than_the_queue_or_the_deadline_allows() -> None:
    async def script() -> None:
        gate = Gate(1, queue=5, queue_s=2.0)
        await gate.enter(math.inf)
        begun = trio.current_time()
        assert await entered(gate, wait_s=0.5) == WAITED
        assert trio.current_time() - begun == pytest.approx(0.5)
        assert await entered(gate) == WAITED
        assert trio.current_time() - begun == pytest.approx(2.5)
        assert gate.waiting == 0 and gate.in_flight == 1

    run(script)


def test_who_is_cancelled_leaves_no_place_behind() -> None:
    async def script() -> None:
        gate = Gate(1, queue=1, queue_s=60.0)
        await gate.enter(math.inf)
        with trio.move_on_after(1.0):
            await gate.enter(math.inf)
        assert gate.waiting == 0
        gate.leave()
        assert gate.in_flight == 0 and gate.ask() is None

    run(script)


def test_a_rate_lets_a_burst_of_a_second_through_and_then_one_at_a_time() -> None:
    async def script() -> None:
        gate = Gate(1000, rate=10.0)
        assert [await entered(gate) for _ in range(11)] == [""] * 10 + [RATE]
        await trio.sleep(0.1001)
        assert [await entered(gate) for _ in range(2)] == ["", RATE]
        await trio.sleep(60.0)
        assert [await entered(gate) for _ in range(11)] == [""] * 10 + [RATE]

    run(script)


def reader(gate: Gate, count: int, hold_s: float, took: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """Reads `count` requests as fast as the gate has room, as a session does."""

    async def read() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                if gate.full:
                    await gate.room()
                place = gate.ask()
                if place is None:
                    nursery.start_soon(hold)
                else:
                    nursery.start_soon(queued, place)

    async def queued(place: Place) -> None:
        await gate.wait(place, math.inf)
        await hold()

    async def hold() -> None:
        took()
        await trio.sleep(hold_s)
        gate.leave()

    return read


@pytest.mark.parametrize(("places", "queue", "rate"), [(1, 0, 0.0), (3, 0, 0.0), (2, 4, 0.0), (5, 0, 20.0)])
def test_readers_of_a_full_gate_lose_nothing_and_are_not_forgotten(places: int, queue: int, rate: float) -> None:
    async def script() -> None:
        gate, taken = Gate(places, queue, 60.0, rate), list[float]()

        def took() -> None:
            assert gate.in_flight <= places and gate.waiting <= queue
            taken.append(trio.current_time())

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(reader(gate, 30, 0.1, took))
        assert len(taken) == 210 and gate.in_flight == 0
        slowest = (210 - rate) / rate if rate else 210 / places * 0.1
        assert trio.current_time() - begun == pytest.approx(slowest, rel=0.05)  # no place was unused

    run(script)


def test_a_reader_that_needs_no_place_passes_the_turn_on() -> None:
    async def script() -> None:
        gate, read = Gate(1), list[int]()
        await gate.enter(math.inf)

        async def echo(number: int) -> None:
            await gate.room()
            read.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(echo, number)
            await trio.testing.wait_all_tasks_blocked()
            assert not read
            gate.leave()
        assert sorted(read) == [0, 1, 2, 3]

    run(script)


def test_a_reader_that_goes_takes_nobody_with_it() -> None:
    async def script() -> None:
        gate = Gate(1)
        await gate.enter(math.inf)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1.0):
                await gate.room()
            nursery.start_soon(gate.room)
            await trio.testing.wait_all_tasks_blocked()
            gate.leave()

    run(script)


def test_a_place_that_comes_in_the_moment_of_giving_up_is_given_back() -> None:
    async def script() -> None:
        gate = Gate(1, queue=1, queue_s=10.0)
        assert await entered(gate) == ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(entered, gate)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            gate.leave()  # the one who waits is cancelled already, and has not run since
        assert gate.in_flight == 0
        assert await entered(gate) == ""

    run(script)


def test_a_turn_that_comes_in_the_moment_of_giving_up_goes_to_the_next_reader() -> None:
    async def script() -> None:
        gate, read = Gate(1), list[str]()

        async def second() -> None:
            await gate.room()
            read.append("second")

        assert await entered(gate) == ""
        async with trio.open_nursery() as others:
            async with trio.open_nursery() as first:
                first.start_soon(gate.room)
                await trio.testing.wait_all_tasks_blocked()
                others.start_soon(second)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
                gate.leave()
            with trio.move_on_after(1.0):
                await trio.sleep(0.5)
            others.cancel_scope.cancel()
        assert read == ["second"]

    run(script)


def test_other_limits_hold_at_once_and_take_nothing_back() -> None:
    async def script() -> None:
        gate = Gate(1)
        assert [await entered(gate) for _ in range(2)] == ["", IN_FLIGHT]
        gate.limit(queue=1, queue_s=5.0, rate=0.0)
        place = gate.ask()
        assert place is not None and gate.waiting == 1
        gate.limit(queue=0, queue_s=0.5, rate=0.0)
        assert gate.waiting == 1 and await entered(gate) == IN_FLIGHT, "no further one, and the one that waits stays"
        gate.leave()
        await gate.wait(place, math.inf)
        assert (gate.waiting, gate.in_flight) == (0, 1)

    run(script)


def test_another_rate_holds_for_the_next_request() -> None:
    async def script() -> None:
        gate = Gate(1000)
        assert [await entered(gate) for _ in range(50)] == [""] * 50
        gate.limit(queue=0, queue_s=0.5, rate=10.0)
        assert [await entered(gate) for _ in range(12)] == [""] * 10 + [RATE] * 2
        gate.limit(queue=0, queue_s=0.5, rate=100.0)
        assert await entered(gate) == RATE, "a higher rate gives no new burst"
        await trio.sleep(0.05)
        assert [await entered(gate) for _ in range(6)] == [""] * 5 + [RATE]
        await trio.sleep(60.0)
        gate.limit(queue=0, queue_s=0.5, rate=2.0)
        assert [await entered(gate) for _ in range(3)] == ["", "", RATE], "nor are tokens of a higher rate kept"
        gate.limit(queue=0, queue_s=0.5, rate=0.0)
        assert [await entered(gate) for _ in range(50)] == [""] * 50

    run(script)


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_a_reader_that_waits_for_a_slow_rate_sees_a_higher_one(rate: float) -> None:
    async def script() -> None:
        gate = Gate(10, rate=0.001)
        assert await entered(gate) == ""
        with trio.fail_after(2.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gate.room)
                await trio.sleep(0.1)
                gate.limit(queue=0, queue_s=0.5, rate=rate)

    run(script)


def test_readers_that_wait_for_a_place_see_a_longer_queue() -> None:
    async def script() -> None:
        gate = Gate(1)
        assert await entered(gate) == ""
        with trio.fail_after(1.0):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(gate.room)
                await trio.sleep(0.1)
                gate.limit(queue=5, queue_s=0.5, rate=0.0)

    run(script)
