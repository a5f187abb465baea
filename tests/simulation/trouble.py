"""Faults in a random scenario besides those of single messages: workers, the journal, the HSM, links, keys, issuers."""

from __future__ import annotations

import random
from datetime import timedelta

import trio

from simulators.errors import WireLost
from simulators.network import Network
from switch.errors import KeyExchangeFailed, WireError
from tests.simulation.shop import DAYS_BEHIND
from tests.simulation.wide import CARDS, KEYED
from tests.simulation.world import World

# Weights of the events. The last two lose what a worker remembers of declines, and are left out where the same request
# may arrive twice at once: that one is the acquirer's to reverse.
TROUBLES = ("crash", "crash", "hsm", "slow journal", "cut", "key", "key", "sign-off", "refuse", "member away")
TROUBLES += ("echo", "negative list", "issuer's day")
FORGETFUL = ("journal", "answers")
ENDING = frozenset(
    {"crash", "cut", "refuse", "sign-off", "hsm", "key", "slow journal"}
)  # connections, or what a worker knows


class Trouble:
    """Plays troubles until the shop closes.

    Args:
        patient: whether the journal may go away.
        steady: whether workers and connections last.
    """

    def __init__(self, world: World, dice: random.Random, ends_at: float, *, patient: bool, steady: bool) -> None:
        self._world = world
        self._dice = dice
        self._ends_at = ends_at
        self._days = 0
        troubles = (*TROUBLES, *FORGETFUL) if patient else TROUBLES
        self._troubles = tuple(one for one in troubles if not (steady and one in ENDING))

    async def run(self) -> None:
        while trio.current_time() < self._ends_at:
            await trio.sleep(self._dice.expovariate(0.15))
            await self._one(self._dice.choice(self._troubles))

    async def _one(self, trouble: str) -> None:
        world, dice = self._world, self._dice
        match trouble:
            case "crash":
                number = dice.choice(list(world.workers))
                world.crash_worker(number)
                await trio.sleep(dice.uniform(0.0, 4.0))
                await world.start_worker(number)
            case "journal":
                world.journal.available = False
                await trio.sleep(dice.uniform(0.1, 6.0))
                world.journal.available = True
            case "answers":
                world.journal.lost_answers = dice.randint(1, 3)
            case "hsm":
                world.hsm.available = False
                await trio.sleep(dice.uniform(0.1, 4.0))
                world.hsm.available = True
            case "slow journal":
                world.journal_delay_s = (0.0, dice.choice([0.1, 1.0]))
                await trio.sleep(dice.uniform(0.5, 4.0))
                world.journal_delay_s = (0.0, 0.004)
            case "key":
                world.nursery.start_soon(self._new_key, dice.choice(KEYED), dice.choice(["pin", "mac"]))
            case "cut":
                world.network.cut(f"{dice.choice([*world.clients, *world.issuers])}:1")
            case _:
                await self._of_an_issuer(trouble)

    async def _of_an_issuer(self, trouble: str) -> None:
        world, dice = self._world, self._dice
        server = world.issuers[dice.choice(list(world.issuers))]
        match trouble:
            case "sign-off":
                server.manage("sign-off")
                await trio.sleep(dice.uniform(0.5, 5.0))
                server.manage("sign-on")
            case "refuse":
                server.refuse(dice.uniform(0.5, 5.0))
            case "echo":
                server.manage("echo")
            case "negative list":
                server.list_card(dice.choice(CARDS), dice.choice(["add", "delete", "inquire"]))
            case "issuer's day":
                self._days += 1
                day = f"{world.clock.now() + timedelta(days=self._days - DAYS_BEHIND):%m%d}"
                server.manage("cut-over", day)
                server.reconcile(day, dice.choice(["EUR", "USD"]))
            case "member away":
                for network in (held.issuer for held in world.issuers.values() if isinstance(held.issuer, Network)):
                    member = dice.choice(list(network.members))
                    network.set_available(member, False)
                    await trio.sleep(dice.uniform(0.5, 5.0))
                    network.set_available(member, True)

    async def _new_key(self, link: str, kind: str) -> None:
        """A key is changed over its link, by us or by the other end, during any faults."""
        world = self._world
        try:
            if self._dice.random() < 0.5:
                worker, _ = world.workers[self._dice.choice(list(world.workers))]
                await worker.exchanges[link].start(kind)
            else:
                other = world.clients[link] if link in world.clients else world.issuers[link]
                await other.exchange_key(kind)
        except (IndexError, KeyExchangeFailed, WireError, WireLost):
            pass  # the key before stays in force, or both ends take both


def calm(world: World) -> None:
    """Nothing goes wrong any more."""
    for server in world.issuers.values():
        issuer = server.issuer
        issuer.faults.clear()
        server.refusing_until = -1.0
        if isinstance(issuer, Network):
            for member in issuer.members.values():
                member.faults.clear()
                issuer.set_available(member.member, True)
        server.manage("sign-on")
    for client in world.clients.values():
        if client.faults is not None:
            client.faults.clear()
    world.network.calm()
    world.journal.available = world.hsm.available = True
    world.journal.lost_answers = 0
    world.journal_delay_s = (0.0, 0.004)
