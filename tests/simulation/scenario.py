"""One random scenario: shop days with everything going wrong, then calm weather, then the three books.

A seed goes in; differences at the end come out. The same seed plays the same scenario.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from ledger.book import LedgerLine
from switch.meters import COUNTERS
from tests.simulation.agreement import differences
from tests.simulation.closing import close
from tests.simulation.shop import Shop
from tests.simulation.trouble import Trouble, calm
from tests.simulation.wide import ACQUIRERS, KEYS, NETWORKS, PREFIXES, faults, weather, wide_config
from tests.simulation.world import World, play

SHOPPING_S = 40.0
DRAIN_S = 900.0


@dataclass
class Result:
    """The result of a scenario.

    `events` is the number of payments and changes that were tried, `counted` the counters of the workers, those that
    crashed included.
    """

    differences: list[str]
    events: int
    approved: int
    kinds: set[str]
    book: list[LedgerLine]
    counted: dict[str, int]


def run_scenario(seed: int) -> Result:
    """Play one scenario to its end."""
    dice = random.Random(f"scenario {seed}")
    found: list[Result] = []
    # A decline that the journal could not take is forgotten when its worker is, so no scenario has both requests
    # that arrive twice at once and a journal that goes away: that one is the acquirer's to reverse.
    impatient = dice.random() < 0.4
    steady = dice.random() < 0.25
    config = wide_config(dice)
    issuers = tuple(link.name for link in config.issuers)

    async def script(world: World) -> None:
        await world.open(workers=dice.choice([2, 2, 3]))
        ends_at = trio.current_time() + SHOPPING_S
        shop = Shop(world, dice, ends_at, impatient=impatient)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Trouble(world, dice, ends_at, patient=not impatient, steady=steady).run)
            for client in world.clients.values():
                for _ in range(dice.randint(1, 3)):
                    nursery.start_soon(shop.customer, client)
            nursery.start_soon(shop.disputes)
        calm(world)
        problems = [*shop.problems, *await _drained(world)]
        if not problems:
            problems += [*await close(world), *await _drained(world)]
        found.append(
            Result(
                [*problems, *differences(world)],
                shop.events,
                shop.approved,
                shop.kinds,
                world.journal.book(),
                {name: sum(worker.meters.value(name) for worker in world.every_worker) for name in COUNTERS},
            )
        )

    play(
        script,
        seed,
        config=config,
        keys=KEYS,
        weather=weather(dice, (*ACQUIRERS, *issuers), steady=steady),
        faults=faults(dice, issuers, twice=impatient, steady=steady),
        prefixes=PREFIXES,
        networks=NETWORKS,
        acquirers=ACQUIRERS,
        timeout_s=dice.choice([2.0, 5.0, 8.0]),
    )
    return found[0]


async def _drained(world: World) -> list[str]:
    """Wait until nothing is under way, within a limit; seen twice, as looking takes time, too. The faults."""
    deadline = trio.current_time() + DRAIN_S
    seen = 0
    for client in world.clients.values():
        with trio.move_on_at(deadline):
            await client.quiet()
    while trio.current_time() < deadline:
        seen = seen + 1 if await _quiet(world) else 0
        if seen == 2:
            return []
        await trio.sleep(2.0)
    return [f"not drained after {DRAIN_S:g} s"]


async def _quiet(world: World) -> bool:
    for link in (*world.clients, *world.issuers):
        backlog = await world.journal.backlog(link, 1)
        if backlog.waiting or backlog.parked:
            return False
    if any(server.issuer.open_chargebacks() for server in world.issuers.values()):
        return False
    return all(line.decided for line in world.journal.book())
