"""Customers of a random scenario: purchases, holds, completions, reversals, and terminals' other messages.

Each customer plays with dice of the scenario; a request without a final state is a problem.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import trio

from messages.message import Message
from messages.mti import repeat_mti
from simulators.acquirer import Card
from simulators.acquirer.book import Request, State
from simulators.acquirer.client import AcquirerClient
from simulators.errors import SimulatorError, Unanswered, WireLost
from switch.errors import WireError
from tests.simulation.wide import CARDS
from tests.simulation.world import World

AMOUNTS = (1, 999, 2500, 100_000, 2_000_000)
CURRENCIES = ("EUR", "USD")
DAYS_BEHIND = 60  # the business days of a scenario begin so long ago, because none may lie ahead


class Shop:
    """Customers, and cardholders who deny what they paid.

    Args:
        impatient: some requests arrive once more while the first is being served, on a connection of their own.

    Attributes:
        events: payments and changes that were tried. approved: those of them that were.
        problems: requests without an end.
    """

    def __init__(self, world: World, dice: random.Random, ends_at: float, *, impatient: bool) -> None:
        self.events = 0
        self.approved = 0
        self.problems: list[str] = []
        self.kinds: set[str] = set()
        self._world = world
        self._dice = dice
        self._impatient = impatient
        self._ends_at = ends_at
        self._days = 0

    async def customer(self, client: AcquirerClient) -> None:
        """Buy, and change one's mind, until the shop closes."""
        while trio.current_time() < self._ends_at:
            await trio.sleep(self._dice.expovariate(0.5))
            card, starts = self._card(client), list(STARTS)
            start = self._dice.choices(starts, [weight for weight, _ in STARTS.values()])[0]
            paid = await self._perform(client, STARTS[start][1](self, client, card))
            for _ in range(self._dice.randint(0, 3)):
                if paid.state is not State.APPROVED or paid.open_changes or not paid.is_("line"):
                    break
                await trio.sleep(self._dice.expovariate(1.0))
                if not paid.open_changes:  # a late reversal may have come between
                    await self._change(client, paid, card)

    async def disputes(self) -> None:
        """Cardholders deny what they paid."""
        while trio.current_time() < self._ends_at:
            await trio.sleep(self._dice.expovariate(0.2))
            server = self._world.issuers[self._dice.choice(list(self._world.issuers))]
            posted = [entry for entry in server.issuer.entries.entries() if entry.posted_minor > 0]
            if not posted:
                continue
            entry = self._dice.choice(posted)
            line = next((line for line in self._world.journal.book() if line.network_key == entry.key), None)
            request = None if line is None else self._known(line.key)
            if request is None or request.state is not State.APPROVED or request.open_changes:
                continue
            with suppress(SimulatorError):  # one is under way
                server.chargeback(entry.key, self._dice.randint(1, entry.posted_minor))
                self.events += 1

    def _card(self, client: AcquirerClient) -> Card:
        pan = self._dice.choice(CARDS)
        if client.acquirer.profile.link == "gateway":
            return Card(self._world.hsm.add_card(pan))
        return Card(pan, pin=self._dice.choice(["", "", "1234", "4321"]) if client.acquirer.keys.has_pin else "")

    async def _change(self, client: AcquirerClient, paid: Request, card: Card) -> None:
        names = [name for name, (kinds, _) in CHANGES.items() if paid.kind in kinds]
        if names:
            await self._perform(client, CHANGES[self._dice.choice(names)][1](self, client, paid, card))

    async def _perform(self, client: AcquirerClient, request: Request) -> Request:
        """See a request through; some arrive once more while the first is being served."""
        self.events += 1
        self.kinds.add(request.kind)
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

    def _known(self, key: str) -> Request | None:
        for client in self._world.clients.values():
            if key in client.acquirer.requests:
                return client.acquirer.requests[key]
        return None

    # First requests

    def _now(self) -> tuple[random.Random, object]:
        return self._dice, self._world.clock.now()

    def purchase(self, client: AcquirerClient, card: Card) -> Request:
        dice, now = self._dice, self._world.clock.now()
        return client.acquirer.purchase(card, dice.choice(AMOUNTS), dice.choice(CURRENCIES), now)

    def cash_back(self, client: AcquirerClient, card: Card) -> Request:
        dice, now = self._dice, self._world.clock.now()
        return client.acquirer.purchase(card, 9_000, dice.choice(CURRENCIES), now, cashback_minor=5_000)

    def authorization(self, client: AcquirerClient, card: Card) -> Request:
        dice, now = self._dice, self._world.clock.now()
        return client.acquirer.authorization(card, dice.choice(AMOUNTS), dice.choice(CURRENCIES), now)

    def verification(self, client: AcquirerClient, card: Card) -> Request:
        return client.acquirer.verification(card, self._dice.choice(CURRENCIES), self._world.clock.now())

    def inquiry(self, client: AcquirerClient, card: Card) -> Request:
        return client.acquirer.inquiry(card, self._dice.choice(CURRENCIES), self._world.clock.now())

    def advice(self, client: AcquirerClient, card: Card) -> Request:
        """An approval by a terminal itself."""
        dice, now, bare = self._dice, self._world.clock.now(), Card(card.pan)
        return client.acquirer.advice(
            bare, dice.choice(AMOUNTS), dice.choice(CURRENCIES), now, hold=dice.random() < 0.4
        )

    def administrative(self, client: AcquirerClient, card: Card) -> Request:
        return client.acquirer.administrative("paper is out", self._world.clock.now(), advice=self._dice.random() < 0.5)

    def reconciliation(self, client: AcquirerClient, card: Card) -> Request:
        dice, now = self._dice, self._world.clock.now()
        if client.acquirer.codec.dialect.version == "2003":  # whose totals have no counterpart
            return self.administrative(client, card)
        return client.acquirer.reconciliation(dice.choice(CURRENCIES), now, advice=dice.random() < 0.5)

    def cut_over(self, client: AcquirerClient, card: Card) -> Request:
        now = self._world.clock.now()
        self._days += 1
        return client.acquirer.cut_over(f"{now + timedelta(days=self._days - DAYS_BEHIND):%m%d}", now)

    # Later requests

    def capture(self, client: AcquirerClient, paid: Request, card: Card) -> Request:
        return client.acquirer.capture(paid, self._part(paid), self._world.clock.now(), final=self._dice.random() < 0.6)

    def reversal(self, client: AcquirerClient, paid: Request, card: Card) -> Request:
        return client.acquirer.reversal(paid, self._world.clock.now(), advice=self._dice.random() < 0.5)

    def refund(self, client: AcquirerClient, paid: Request, card: Card) -> Request:
        return client.acquirer.refund(Card(card.pan), self._part(paid), self._world.clock.now(), paid)

    def increment(self, client: AcquirerClient, paid: Request, card: Card) -> Request:
        return client.acquirer.increment(paid, Card(card.pan), self._part(paid), self._world.clock.now())

    def reduction(self, client: AcquirerClient, paid: Request, card: Card) -> Request:
        now, advice = self._world.clock.now(), self._dice.random() < 0.5
        return client.acquirer.reduction(paid, self._part(paid), now, advice=advice)

    def _part(self, paid: Request) -> int:
        return max(1, int(paid.amount_minor * self._dice.choice([0.3, 0.5, 1.0, 1.0, 1.2])))


Start = Callable[[Shop, AcquirerClient, Card], Request]
Change = Callable[[Shop, AcquirerClient, Request, Card], Request]
HOLDS, PAYMENTS = frozenset({"authorization", "authorization advice"}), frozenset({"purchase", "purchase advice"})

# First request of a customer or a terminal: weight, and the request.
STARTS: dict[str, tuple[float, Start]] = {
    "purchase": (10, Shop.purchase),
    "authorization": (10, Shop.authorization),
    "cash back": (2, Shop.cash_back),
    "verification": (1, Shop.verification),
    "inquiry": (1, Shop.inquiry),
    "advice": (2, Shop.advice),
    "administrative": (0.5, Shop.administrative),
    "reconciliation": (0.5, Shop.reconciliation),
    "cut-over": (0.3, Shop.cut_over),
}
# Later requests: kinds of the original, and the request. An entry that comes twice is drawn twice as often.
CHANGES: dict[str, tuple[frozenset[str], Change]] = {
    "capture": (HOLDS, Shop.capture),
    "capture again": (HOLDS, Shop.capture),
    "increment": (HOLDS, Shop.increment),
    "reduction": (HOLDS, Shop.reduction),
    "reversal": (HOLDS | PAYMENTS | {"refund"}, Shop.reversal),
    "refund": (HOLDS | PAYMENTS, Shop.refund),
}
