"""The last hour of a random scenario: a new business day, some calm payments, and totals that must be the same.

A world in which nothing is under way goes in; differences come out.
"""

from __future__ import annotations

from datetime import timedelta

from simulators.acquirer import Card
from simulators.acquirer.book import State
from simulators.acquirer.client import AcquirerClient
from tests.simulation.wide import CARDS
from tests.simulation.world import World

IN_BALANCE = "1"
CURRENCIES = ("EUR", "USD")


async def close(world: World) -> list[str]:
    """Each acquirer cuts over, pays, takes back, and asks whether the switch has the same totals."""
    problems: list[str] = []
    for name, client in world.clients.items():
        if client.acquirer.codec.dialect.version == "2003":  # whose totals have no counterpart
            continue
        tomorrow = f"{world.clock.now() + timedelta(days=1):%m%d}"  # after every cut-over of the shops
        cut = await client.perform(client.acquirer.cut_over(tomorrow, world.clock.now()))
        if cut.response_code != "00":
            problems.append(f"{name}: the cut-over was answered with {cut.response_code!r}")
        await _pay(world, client)
        for currency in CURRENCIES:
            asked = await client.perform(client.acquirer.reconciliation(currency, world.clock.now()))
            told = {} if asked.response is None else asked.response.elements
            if told.get(66) != IN_BALANCE:
                ours = {number: asked.message.elements[number] for number in (74, 75, 76, 77, 86, 87, 88, 89)}
                theirs = {number: told.get(number) for number in (39, *ours)}
                problems.append(f"{name}: totals in {currency} differ: {ours} against {theirs}")
    return problems


async def _pay(world: World, client: AcquirerClient) -> None:
    """A purchase of each card, and what may follow."""
    acquirer, now = client.acquirer, world.clock.now
    surrogates = acquirer.profile.link == "gateway"
    for number, pan in enumerate(CARDS):
        card = Card(world.hsm.add_card(pan) if surrogates else pan)
        currency = CURRENCIES[number % 2]
        paid = await client.perform(acquirer.purchase(card, 1_000 + number, currency, now()))
        if paid.state is State.APPROVED and number % 3 == 0:
            await client.perform(acquirer.reversal(paid, now()))
        elif paid.state is State.APPROVED and number % 3 == 1:
            await client.perform(acquirer.refund(card, 400, now(), paid))
        held = await client.perform(acquirer.authorization(card, 2_000 + number, currency, now()))
        if held.state is State.APPROVED:
            await client.perform(acquirer.capture(held, 1_500, now(), final=number % 2 == 0))
            await client.perform(acquirer.advice(card, 50, currency, now()))
