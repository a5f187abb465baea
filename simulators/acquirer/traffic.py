"""A day of customers and terminals: a scenario's mix in, requests with their final state, a report out.

Each customer takes turns: one thing of the mix, then what comes after it. Draws come from a seed and the customer's
number; pace and bounds are the scenario's. Called by `simulators.acquirer.serve`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import trio

from messages.amounts_by_currency import amount_in
from simulators.acquirer.book import Request, State
from simulators.acquirer.chip import ChipCard
from simulators.acquirer.client import AcquirerClient
from simulators.acquirer.profile import Card
from simulators.acquirer.report import Tally
from simulators.acquirer.scenario import AcquirerScenario, CardRule
from simulators.errors import Unanswered


class Traffic:
    """Customers of one acquirer.

    Args:
        tally: counts and times every request.
        progress: called with how many requests have been started after each.
    """

    def __init__(
        self,
        scenario: AcquirerScenario,
        client: AcquirerClient,
        tally: Tally,
        progress: Callable[[int], None] | None = None,
        stopping: trio.Event | None = None,
    ) -> None:
        self._stopping = trio.Event() if stopping is None else stopping
        self._scenario = scenario
        self._client = client
        self._tally = tally
        self._progress = progress
        rules = [(rule, rule.cards()) for rule in scenario.card]
        self._cards = [card for _, cards in rules for card in cards]
        self._chips = {
            card.pan: _chip(scenario, rule, card) for rule, cards in rules if rule.chip_key for card in cards
        }
        self._card_weights = [rule.weight / len(cards) for rule, cards in rules for _ in cards]
        self._steps: dict[str, Callable[[random.Random], Request]] = {
            "purchase": self._purchase,
            "cash_back": self._cash_back,
            "pre_authorization": self._pre_authorization,
            "refund": self._refund,
            "balance_inquiry": self._inquiry,
            "verification": self._verification,
            "purchase_advice": self._purchase_advice,
            "hold_advice": self._hold_advice,
            "administrative": self._administrative,
            "reconciliation": self._reconciliation,
            "cut_over": self._cut_over,
        }
        self._weights = [getattr(scenario.mix, name) for name in self._steps]
        self._started = 0
        self._first_at = 0.0

    async def run(self) -> None:
        """Until the count or the time is over, or it is stopped, and all begun requests have their final state."""
        run = self._scenario.run
        self._first_at = trio.current_time()
        self._until = self._first_at + run.seconds
        async with trio.open_nursery() as nursery:
            for number in range(run.concurrency):
                nursery.start_soon(self._customer, random.Random(f"{self._scenario.seed}/{number}"))

    async def _customer(self, dice: random.Random) -> None:
        while await self._may_start():
            [step] = dice.choices(list(self._steps), self._weights)
            request = await self._perform(self._steps[step](dice))
            if request.state is not State.APPROVED or request.open_changes:
                continue
            if request.kind in ("authorization", "authorization advice"):
                await self._after_hold(request, dice)
            elif request.kind == "purchase":
                await self._after_purchase(request, dice)

    async def _may_start(self) -> bool:
        """Wait for the turn of the next request; False where there is none."""
        run = self._scenario.run
        if self._started >= run.count or self._stopping.is_set():
            return False
        number = self._started
        self._started += 1
        if run.rate:
            with trio.move_on_at(self._first_at + number / run.rate):
                await self._stopping.wait()
        if trio.current_time() >= self._until or self._stopping.is_set():
            self._started -= 1
            return False
        if self._progress is not None:
            self._progress(self._started)
        return True

    async def _perform(self, request: Request) -> Request:
        begun = trio.current_time()
        try:
            await self._client.perform(request)
        except Unanswered:
            self._tally.unanswered += 1
        direct = not request.repeats and request.reversal is None
        self._tally.count(request, trio.current_time() - begun if direct and request.final else None)
        return request

    async def _then(self, share: float, dice: random.Random, made: Callable[[], Request]) -> Request | None:
        """One thing that comes after another, if it comes; None where it does not, or was not approved."""
        if dice.random() >= share:
            return None
        if self._scenario.afterwards.pause_s:
            await trio.sleep(self._scenario.afterwards.pause_s)
        if not await self._may_start():
            return None
        request = await self._perform(made())
        return request if request.state is State.APPROVED else None

    async def _after_hold(self, hold: Request, dice: random.Random) -> None:
        after, acquirer, now = self._scenario.afterwards, self._client.acquirer, self._client.clock
        card = self._card_of(hold)
        if card is not None:
            more = max(1, hold.held_minor // 4)
            await self._then(after.increment, dice, lambda: acquirer.increment(hold, card, more, now()))
        if hold.settled and hold.held_minor > 1:
            left = hold.held_minor - hold.held_minor // 4 - 1
            if left:
                await self._then(after.partial_reversal, dice, lambda: acquirer.reduction(hold, left, now()))
        if hold.settled and hold.held_minor > 1:
            part = hold.held_minor // 2
            await self._then(after.partial_completion, dice, lambda: acquirer.capture(hold, part, now(), final=False))
        if hold.settled and hold.held_minor:
            amount = hold.held_minor
            if await self._then(after.completion, dice, lambda: acquirer.capture(hold, amount, now())):
                return
        if hold.settled and hold.held_minor and hold.state is State.APPROVED:
            advice = dice.random() < 0.5
            await self._then(after.void, dice, lambda: acquirer.reversal(hold, now(), advice=advice))

    async def _after_purchase(self, paid: Request, dice: random.Random) -> None:
        after, acquirer, now = self._scenario.afterwards, self._client.acquirer, self._client.clock
        advice = dice.random() < 0.5
        if await self._then(after.reversal, dice, lambda: acquirer.reversal(paid, now(), advice=advice)):
            return
        card = self._card_of(paid)
        if paid.settled and paid.posted_minor and card is not None:
            amount = dice.randint(1, paid.posted_minor)
            await self._then(after.refund, dice, lambda: acquirer.refund(card, amount, now(), paid))

    # Steps

    def _draw(self, dice: random.Random) -> tuple[Card, int, str]:
        scenario = self._scenario
        [card] = dice.choices(self._cards, self._card_weights)
        currency = dice.choice(scenario.currencies)
        least, most = (amount_in(amounts, currency) for amounts in (scenario.from_minor, scenario.to_minor))
        return card, dice.randint(least or 1, most or 1), currency

    def _chipped(self, card: Card, amount: int, currency: str, cash: int = 0) -> Card:
        """The card as it is read for a payment: with a new cryptogram where it has a chip."""
        chip = self._chips.get(card.pan)
        return card if chip is None else chip.presented(amount, currency, self._client.clock(), cashback_minor=cash)

    def _purchase(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        card = self._chipped(card, amount, currency)
        return self._client.acquirer.purchase(card, amount, currency, self._client.clock())

    def _cash_back(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        most = max(1, amount_in(self._scenario.cashback_minor, currency) or 1)
        cash = min(amount, dice.randint(1, most))
        card = self._chipped(card, amount, currency, cash)
        return self._client.acquirer.purchase(card, amount, currency, self._client.clock(), cashback_minor=cash)

    def _pre_authorization(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        card = self._chipped(card, amount, currency)
        return self._client.acquirer.authorization(card, amount, currency, self._client.clock())

    def _refund(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        return self._client.acquirer.refund(card, amount, self._client.clock(), None, currency)

    def _inquiry(self, dice: random.Random) -> Request:
        card, _, currency = self._draw(dice)
        return self._client.acquirer.inquiry(card, currency, self._client.clock())

    def _verification(self, dice: random.Random) -> Request:
        card, _, currency = self._draw(dice)
        return self._client.acquirer.verification(card, currency, self._client.clock())

    def _purchase_advice(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        return self._client.acquirer.advice(_offline(card), amount, currency, self._client.clock())

    def _hold_advice(self, dice: random.Random) -> Request:
        card, amount, currency = self._draw(dice)
        return self._client.acquirer.advice(_offline(card), amount, currency, self._client.clock(), hold=True)

    def _administrative(self, dice: random.Random) -> Request:
        text, advice = f"terminal message {dice.randrange(10_000)}", dice.random() < 0.5
        return self._client.acquirer.administrative(text, self._client.clock(), advice=advice)

    def _reconciliation(self, dice: random.Random) -> Request:
        currency, advice = dice.choice(self._scenario.currencies), dice.random() < 0.5
        return self._client.acquirer.reconciliation(currency, self._client.clock(), advice=advice)

    def _cut_over(self, dice: random.Random) -> Request:
        now = self._client.clock()
        return self._client.acquirer.cut_over(f"{now + timedelta(days=1):%m%d}", now)  # none is taken further ahead

    def _card_of(self, request: Request) -> Card | None:
        """The card of an earlier request, without its PIN; None where only its stripe was read."""
        elements = request.message.elements
        return Card(elements[2], elements.get(14, "3012")) if 2 in elements else None


def _chip(scenario: AcquirerScenario, rule: CardRule, card: Card) -> ChipCard:
    return ChipCard(
        card, bytes.fromhex(scenario.test_keys[rule.chip_key]), rule.chip_scheme, psn=rule.sequence[-2:] or "00"
    )


def _offline(card: Card) -> Card:
    """The card at a terminal that decides by itself: its PIN goes nowhere."""
    return Card(card.pan, card.expiry, track2=card.track2)
