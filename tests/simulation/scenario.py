"""One random scenario: shop days with everything going wrong, then calm weather, then the three books.

A seed goes in; what does not agree at the end comes out. The same seed plays the same scenario.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from ledger.book import LedgerLine
from messages.message import Message
from messages.mti import repeat_mti
from simulators.acquirer import Card
from simulators.acquirer.book import Request, State
from simulators.acquirer.client import AcquirerClient
from simulators.errors import SimulatorError, Unanswered, WireLost
from simulators.faults import FaultRule
from switch.errors import KeyExchangeFailed, WireError
from switch.links.memory_network import Weather
from switch.meters import COUNTERS
from tests.simulation.agreement import differences
from tests.simulation.world import World, play

CARDS = ("4242424242424242", "4000056655665556", "5555555555554444", "5105105105105100", "4000000000009995")
FAULTS: dict[str, dict[str, float]] = {  # kind → longest delay; the issuer's deadline is 3 s
    "delay": {"delay_s": 1.5},
    "late": {"delay_s": 6.0},
    "silence": {},
    "disconnect-before": {},
    "disconnect-after": {},
    "duplicate": {},
    "decline": {},
    "wrong-mac": {},
    "missing-mac": {},
}
LINKS = ("pos", "alpha", "beta")  # those with keys
SHOPPING_S = 40.0
DRAIN_S = 900.0


@dataclass
class Result:
    """What a scenario ended with; `events` is the number of payments and changes that were tried, `counted` what the
    workers counted, those that crashed included."""

    differences: list[str]
    events: int
    approved: int
    book: list[LedgerLine]
    counted: dict[str, int]


def run_scenario(seed: int) -> Result:
    """Play one scenario to its end."""
    dice = random.Random(f"scenario {seed}")
    found: list[Result] = []

    async def script(world: World) -> None:
        await world.open()
        shop = _Shop(world, dice)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.trouble)
            for client in world.clients.values():
                for _ in range(dice.randint(2, 4)):
                    nursery.start_soon(shop.customer, client)
            nursery.start_soon(shop.disputes)
        shop.calm()
        await shop.drained()
        found.append(
            Result(
                [*shop.problems, *differences(world)],
                shop.events,
                shop.approved,
                world.journal.book(),
                {name: sum(worker.meters.value(name) for worker in world.every_worker) for name in COUNTERS},
            )
        )

    play(script, seed, weather=_weather(dice), faults=_faults(dice), timeout_s=dice.choice([2.0, 5.0, 8.0]))
    return found[0]


def _weather(dice: random.Random) -> dict[str, Weather]:
    def draw() -> Weather:
        slow = dice.choice([0.002, 0.02, 0.3])
        return Weather(delay_s=(0.0002, slow), break_rate=dice.choice([0.0, 0.0, 0.01, 0.05]))

    return {address: draw() for address in ("pos:1", "gateway:1", "alpha:1", "beta:1")}


def _faults(dice: random.Random) -> dict[str, tuple[FaultRule, ...]]:
    def draw() -> FaultRule:
        kind: Any = dice.choice(list(FAULTS))
        online: tuple[str, ...] = ("0100", "0200")
        mti = online if kind == "decline" else dice.choice([online, ("*",), ("0420", "0220")])
        booked = dice.choice([None, False]) if kind in ("silence", "disconnect-before") else None
        return FaultRule(kind=kind, mti=mti, rate=dice.choice([0.05, 0.2, 0.5]), booked=booked, **FAULTS[kind])

    return {name: tuple(draw() for _ in range(dice.randint(0, 3))) for name in ("alpha", "beta")}


class _Shop:
    """Customers, troubles and disputes of one scenario."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.events = 0
        self.approved = 0
        self.problems: list[str] = []
        self._world = world
        self._dice = dice
        # A decline that the journal could not take is forgotten when its worker is, so no scenario has both requests
        # that arrive twice at once and a journal that goes away: that one is the acquirer's to reverse.
        self._impatient = dice.random() < 0.3
        self._ends_at = trio.current_time() + SHOPPING_S

    async def customer(self, client: AcquirerClient) -> None:
        """Buy, and change one's mind, until the shop closes."""
        while trio.current_time() < self._ends_at:
            await trio.sleep(self._dice.expovariate(0.5))
            paid = await self._perform(client, self._payment(client))
            for _ in range(self._dice.randint(0, 3)):
                if paid.state is not State.APPROVED or paid.open_changes:
                    break
                await trio.sleep(self._dice.expovariate(1.0))
                await self._change(client, paid)

    def _payment(self, client: AcquirerClient) -> Request:
        dice, acquirer, now = self._dice, client.acquirer, self._world.clock.now()
        pan = dice.choice(CARDS)
        if acquirer.profile.link == "gateway":
            card = Card(self._world.hsm.add_card(pan))
        else:
            card = Card(pan, pin=dice.choice(["", "", "1234", "4321"]))
        ask = dice.choice([acquirer.purchase, acquirer.authorization])
        return ask(card, dice.choice([1, 999, 2500, 100_000, 2_000_000]), dice.choice(["EUR", "USD"]), now)

    async def _change(self, client: AcquirerClient, paid: Request) -> None:
        dice, acquirer, now = self._dice, client.acquirer, self._world.clock.now()
        amount = max(1, int(paid.amount_minor * dice.choice([0.3, 0.5, 1.0, 1.0, 1.2])))
        what = dice.choice(["capture", "capture", "reversal", "refund"])
        if what == "capture" and paid.kind == "authorization":
            await self._perform(client, acquirer.capture(paid, amount, now, final=dice.random() < 0.6))
        elif what == "reversal":
            await self._perform(client, acquirer.reversal(paid, now, advice=dice.random() < 0.5))
        elif what == "refund":
            card = Card(paid.message.elements[2])
            await self._perform(client, acquirer.refund(card, amount, now, paid))

    async def _perform(self, client: AcquirerClient, request: Request) -> Request:
        """See a request through; some arrive once more while the first is being served, on a connection of theirs."""
        self.events += 1
        if self._impatient and self._dice.random() < 0.2:
            self._world.nursery.start_soon(self._again, client, request)
        try:
            await client.perform(request)
        except Unanswered as error:
            self.problems.append(str(error))
        self.approved += request.state is State.APPROVED
        return request

    async def _again(self, client: AcquirerClient, request: Request) -> None:
        await trio.sleep(self._dice.uniform(0.05, 1.0))
        message = Message(repeat_mti(request.message.mti), request.message.elements)
        with suppress(WireError, WireLost):
            await self._world.send_aside(client, message)

    async def disputes(self) -> None:
        """Cardholders deny what they paid."""
        while trio.current_time() < self._ends_at:
            await trio.sleep(self._dice.expovariate(0.2))
            server = self._world.issuers[self._dice.choice(["alpha", "beta"])]
            posted = [entry for entry in server.issuer.entries.entries() if entry.posted_minor > 0]
            if not posted:
                continue
            entry = self._dice.choice(posted)
            line = next((line for line in self._world.journal.book() if line.network_key == entry.key), None)
            request = None if line is None else self._known(line.key)
            if request is None or request.state is not State.APPROVED or request.open_changes:
                continue
            try:
                server.chargeback(entry.key, self._dice.randint(1, entry.posted_minor))
                self.events += 1
            except SimulatorError:
                pass  # one is under way

    def _known(self, key: str) -> Request | None:
        for client in self._world.clients.values():
            if key in client.acquirer.requests:
                return client.acquirer.requests[key]
        return None

    async def trouble(self) -> None:
        """Crashes, and a journal and an HSM that go away."""
        world, dice = self._world, self._dice
        while trio.current_time() < self._ends_at:
            await trio.sleep(dice.expovariate(0.15))
            troubles = ["crash", "crash", "hsm", "slow journal", "cut", "key", "key"]
            match dice.choice(troubles if self._impatient else [*troubles, "journal", "answers"]):
                case "crash":
                    number = dice.randrange(2)
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
                    world.nursery.start_soon(self._new_key, dice.choice(LINKS), dice.choice(["pin", "mac"]))
                case "cut":
                    world.network.cut(dice.choice(["pos:1", "gateway:1", "alpha:1", "beta:1"]))

    async def _new_key(self, link: str, kind: str) -> None:
        """A key is changed over its link, by us or by the other end, in whatever weather."""
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

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        world = self._world
        for server in world.issuers.values():
            server.issuer.faults.clear()
        world.network.calm()
        world.journal.available = world.hsm.available = True
        world.journal.lost_answers = 0

    async def drained(self) -> None:
        """Wait until nothing is under way, within a limit; seen twice, as looking takes time, too."""
        deadline = trio.current_time() + DRAIN_S
        seen = 0
        while trio.current_time() < deadline:
            seen = seen + 1 if await self._quiet() else 0
            if seen == 2:
                return
            await trio.sleep(2.0)
        self.problems.append(f"not drained after {DRAIN_S:g} s")

    async def _quiet(self) -> bool:
        world = self._world
        for link in ("pos", "gateway", "alpha", "beta"):
            if await world.journal.advices(link, 0, 1):
                return False
        if any(server.issuer.open_chargebacks() for server in world.issuers.values()):
            return False
        return all(line.decided for line in world.journal.book())
