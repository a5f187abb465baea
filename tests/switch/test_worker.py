"""A worker as a whole: the end of its drain, and faults that do not end it."""

from __future__ import annotations

import math

import pytest
import trio

from switch.links.limits import Place
from tests.simulation.world import TABLE, World
from tests.switch.desk import in_world
from tests.switch.outage import configured

POLL_S = 0.02  # of a drain that looks whether anything is in flight
LIMITED = [TABLE["acquirer"][0], {**TABLE["acquirer"][1], "max_in_flight": 1, "queue": 1, "queue_s": 5.0}]


@pytest.mark.parametrize("seed", range(3))
def test_a_drain_waits_for_who_is_given_a_place_in_the_moment_in_which_it_looks(seed: int) -> None:
    """Between its turn in the queue and the pipeline a request is in neither; which is looked at first is chance."""

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        gate = worker.ports["gateway"].gate
        served: list[float] = []

        async def queued(place: Place) -> None:
            await gate.wait(place, math.inf)
            await trio.sleep(0.5)
            gate.leave()
            served.append(trio.current_time())

        async def leaving() -> None:
            await trio.sleep_until(trio.current_time() + POLL_S + POLL_S)
            gate.leave()

        assert gate.ask() is None
        place = gate.ask()
        assert place is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queued, place)
            nursery.start_soon(leaving)
            await worker.drain()
            assert served
            nursery.cancel_scope.cancel()

    in_world(script, seed=seed, config=configured(acquirer=LIMITED))
