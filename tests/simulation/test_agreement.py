"""The comparison itself: each side's book is changed by a cent, and each time it is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulators.acquirer import Card
from simulators.acquirer.book import State
from tests.simulation.agreement import differences
from tests.simulation.world import World, play


def _acquirer(world: World) -> None:
    next(iter(world.clients["pos"].acquirer.requests.values())).posted_minor -= 1


def _unsettled(world: World) -> None:
    next(iter(world.clients["pos"].acquirer.requests.values())).state = State.ASKED


def _issuer(world: World) -> None:
    entry = world.issuers["alpha"].issuer.entries.entries()[0]
    entry.move(1, entry.posted_minor)


def _forgotten(world: World) -> None:
    world.clients["pos"].acquirer.requests.clear()


def _ledger(world: World) -> None:
    world.journal._outcomes.clear()


@pytest.mark.parametrize(
    ("changed", "noticed"),
    [
        (_acquirer, "pos believes (0, 2499), the ledger (0, 2500)"),
        (_unsettled, "the acquirer does not know the end"),
        (_issuer, "alpha has (1, 2500), the ledger (0, 2500)"),
        (_forgotten, "in the ledger only: (0, 2500)"),
        (_ledger, "undecided"),
    ],
)
def test_a_cent_is_noticed(changed: Callable[[World], None], noticed: str) -> None:
    async def script(world: World) -> None:
        await world.open()
        client = world.clients["pos"]
        paid = client.acquirer.purchase(Card("4242424242424242"), 2500, "EUR", world.clock.now())
        await client.perform(paid)
        assert paid.response_code == "00"
        assert differences(world) == []
        changed(world)
        assert any(noticed in line for line in differences(world)), differences(world)

    play(script)
