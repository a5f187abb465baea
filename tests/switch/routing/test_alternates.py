"""An alternate is never asked once the primary may have been: nobody pays twice, under any fault at any time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from messages.message import Message
from messages.mti import canonical_mti
from simulators.acquirer import Card
from simulators.acquirer.book import State
from simulators.errors import Unanswered
from simulators.faults import FaultRule
from switch.links.memory_network import Weather
from tests.simulation.agreement import differences
from tests.simulation.world import World, play
from tests.switch.desk import in_world, purchase, told
from tests.switch.outage import configured, down, heard, up
from tests.switch.test_stand_in import pay

SEEDS = 40
CHUNK = 10
NAMES = ("alpha", "beta")
CARDS = ("4242424242424242", "4000056655665556", "5555555555554444", "5105105105105100")
KINDS: dict[str, dict[str, Any]] = {
    "delay": {"delay_s": 2.0},
    "late": {"delay_s": 5.0},
    "silence": {},
    "disconnect-before": {},
    "disconnect-after": {},
    "duplicate": {},
}
ROUTES = [
    {"prefix": "4", "issuer": "alpha", "alternates": ["beta"]},
    {"prefix": "5", "weights": {"alpha": 1, "beta": 2}},
    {"prefix": "51", "issuer": "beta", "alternates": ["alpha"], "balance": "round-robin"},
]


def test_a_request_that_cannot_be_sent_goes_to_the_alternate() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        assert (await pay(world)).response_code == "00"
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "00"
        assert (len(alpha), len(beta)) == (1, 1)
        assert [intent.issuer for intent in world.journal._intents.values()] == ["alpha", "beta"]
        up(world, "alpha")
        await trio.sleep(60.0)
        assert differences(world) == []

    in_world(script, config=configured(route=ROUTES))


def test_a_request_that_was_sent_does_not() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        assert (await pay(world)).response_code == "91"
        await trio.sleep(30.0)
        assert [m.mti for m in alpha] == ["0200", "0420"] and beta == []
        assert differences(world) == []

    lost = (FaultRule(kind="disconnect-before", booked=True, count=1),)
    in_world(script, config=configured(route=ROUTES), faults={"alpha": lost})


def test_what_changes_a_payment_follows_it_to_the_alternate() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        beta = heard(world, "beta")
        down(world, "alpha")
        await trio.sleep(1.0)
        paid = await pay(world, 4000)
        up(world, "alpha")
        await trio.sleep(60.0)
        client = world.clients["gateway"]
        back = client.acquirer.refund(Card(paid.message.elements[2]), 1000, world.clock.now(), paid)
        assert (await client.perform(back)).response_code == "00"
        assert [m.mti for m in beta] == ["0200", "0200"]
        assert differences(world) == []

    in_world(script, config=configured(route=ROUTES))


def everywhere(world: World) -> None:
    """Both issuers have an account for every card: each issuer that is asked would pay."""
    for server in world.issuers.values():
        issuer: Any = server.issuer
        issuer.accounts._prefixes = ()


@pytest.mark.parametrize("seeds", [range(at, at + CHUNK) for at in range(0, SEEDS, CHUNK)], ids=lambda r: str(r.start))
def test_of_two_issuers_one_hears_of_a_payment(seeds: range) -> None:
    moved = 0
    for seed in seeds:
        found, alternates = shop(seed)
        assert found == [], f"seed {seed}: {found}"
        moved += alternates
    assert moved > 0, "no request went to an alternate, so nothing was shown"


def shop(seed: int) -> tuple[list[str], int]:
    """A minute of payments while both issuers come and go; the faults, and the number of alternates taken."""
    dice = random.Random(f"alternates {seed}")
    wrong: list[str] = []
    alternates: list[int] = []

    async def script(world: World) -> None:
        await world.open()
        everywhere(world)
        said = {name: heard(world, name) for name in NAMES}
        ends_at = trio.current_time() + 60.0
        async with trio.open_nursery() as nursery:
            for name in NAMES:
                nursery.start_soon(trouble, world, name, ends_at)
            nursery.start_soon(crashes, world, ends_at)
            for client in world.clients:
                nursery.start_soon(customer, world, client, ends_at)
        for name in NAMES:
            up(world, name)
            world.issuers[name].issuer.faults.clear()
        world.network.calm()
        await trio.sleep(200.0)
        wrong.extend(doubled(said))
        wrong.extend(differences(world))
        taken = [(i.issuer, i.masked_pan) for i in world.journal._intents.values() if i.masked_pan.startswith("4")]
        alternates.append(sum(issuer == "beta" for issuer, _ in taken))

    async def customer(world: World, name: str, ends_at: float) -> None:
        client = world.clients[name]
        while trio.current_time() < ends_at:
            pan = dice.choice(CARDS)
            card = Card(world.hsm.add_card(pan) if name == "gateway" else pan)
            ask: Any = dice.choice([client.acquirer.purchase, client.acquirer.authorization])
            paid = ask(card, dice.choice([100, 2500, 9000]), "EUR", world.clock.now())
            try:
                await client.perform(paid)
                if paid.state is State.APPROVED and dice.random() < 0.3:
                    await client.perform(client.acquirer.reversal(paid, world.clock.now()))
            except Unanswered as error:
                wrong.append(str(error))
            await trio.sleep(dice.expovariate(1.0))

    async def trouble(world: World, name: str, ends_at: float) -> None:
        while trio.current_time() < ends_at:
            await trio.sleep(dice.expovariate(0.2))
            match dice.choice(["down", "cut", "sign-off", "fault"]):
                case "down":
                    down(world, name)
                    await trio.sleep(dice.uniform(0.5, 10.0))
                    up(world, name)
                case "cut":
                    world.network.cut(f"{name}:1")
                case "sign-off":
                    world.issuers[name].manage("sign-off")
                    await trio.sleep(dice.uniform(0.5, 5.0))
                    world.issuers[name].manage("sign-on")
                case "fault":
                    world.issuers[name].issuer.faults.add(rule())

    async def crashes(world: World, ends_at: float) -> None:
        while trio.current_time() < ends_at:
            await trio.sleep(dice.uniform(5.0, 30.0))
            number = dice.randrange(2)
            world.crash_worker(number)
            await trio.sleep(dice.uniform(0.0, 3.0))
            await world.start_worker(number)

    def rule() -> FaultRule:
        kind: Any = dice.choice(list(KINDS))
        booked = dice.choice([None, False]) if kind in ("silence", "disconnect-before") else None
        return FaultRule(kind=kind, count=dice.randint(1, 4), booked=booked, **KINDS[kind])

    stand_in = [
        {"issuer": name, "on_timeout": dice.random() < 0.5, "floor_minor": {"EUR": 5000}}
        for name in NAMES
        if dice.random() < 0.7
    ]
    breaker = [{"failures": dice.choice([1, 3]), "open_s": dice.choice([1.0, 8.0]), "probes": 1}]
    weather = {f"{name}:1": Weather(delay_s=(0.001, 0.05), break_rate=dice.choice([0.0, 0.01])) for name in NAMES}
    play(script, seed, config=configured(route=ROUTES, stand_in=stand_in, breaker=breaker), weather=weather)
    return wrong, alternates[0]


def doubled(said: dict[str, list[Message]]) -> list[str]:
    """Payments that reached more than one issuer, by the identification that the switch gave them."""
    asked: dict[str, dict[str, set[str]]] = {}
    for name, messages in said.items():
        for message in messages:
            original = message.elements.get(90, "")
            key = original[4:20] if original else message.elements[11] + message.elements[7]
            asked.setdefault(key, {}).setdefault(name, set()).add(canonical_mti(message.mti))
    return [f"{key}: {issuers}" for key, issuers in asked.items() if len(issuers) > 1]


@pytest.mark.parametrize("mti", ["0200", "0201"])
def test_a_repeat_that_comes_first_takes_the_route_of_what_it_repeats(mti: str) -> None:
    async def script(world: World) -> None:
        await told(world, purchase(mti=mti), "pos")
        (intent,) = world.journal._intents.values()
        assert (intent.mti, intent.issuer) == ("0200", "beta")

    routes = [{"prefix": "4", "issuer": "alpha"}, {"prefix": "4", "issuer": "beta", "mti": "0200"}]
    in_world(script, config=configured(route=routes))
