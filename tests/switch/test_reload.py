"""A reload in a running worker: all or nothing, what it takes at once, and what it leaves to a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from hsm.commands import Screen, Screened
from simulators.acquirer import Card
from simulators.acquirer.book import Request
from simulators.faults import FaultRule
from switch.config import SwitchConfig
from switch.errors import ConfigError
from switch.reload import NeedsRestart, Reloaded, Reloader, ReloadRefused, Reread
from switch.routing.breaker import Circuit
from switch.routing.table import RoutingTable
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import in_world, surrogate
from tests.switch.outage import configured, down, heard
from tests.switch.routing.test_alternates import everywhere

ROUTE = {"prefix": "4", "issuer": "alpha", "country": "US"}
STAND_IN = {"issuer": "alpha", "floor_minor": {"EUR": 5000}}


class File:
    """A configuration file that is edited."""

    def __init__(self) -> None:
        self.config: SwitchConfig | Exception = configured()
        self.restart: tuple[NeedsRestart, ...] = ()
        self.digest = ""

    def read(self) -> Reread:
        if isinstance(self.config, Exception):
            raise self.config
        return Reread(self.config, self.restart, self.digest)

    def reloader(self, world: World, certificates: Callable[[], tuple[str, ...]] = tuple) -> Reloader:
        worker = world.workers[0][0]
        links = {**worker.lines, **worker.ports}
        return Reloader(0, world.config, worker.online, worker.senders, links, worker.meters, self.read, certificates)


async def pay(world: World, amount_minor: int = 2500) -> Request:
    client = world.clients["gateway"]
    asked = client.acquirer.purchase(Card(surrogate(world)), amount_minor, "EUR", world.clock.now())
    return await client.perform(asked)


def test_nothing_new_changes_nothing() -> None:
    async def script(world: World) -> None:
        file = File()
        assert await file.reloader(world).reload() == Reloaded(0, ())

    in_world(script)


def test_other_routes_count_from_the_next_request_on() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        file = File()
        reloader = file.reloader(world)
        await pay(world)
        file.config = configured(route=[{"prefix": "4", "issuer": "beta"}])
        assert (await reloader.reload()).taken == ("route",)
        await pay(world)
        assert (len(alpha), len(beta)) == (1, 1)
        assert differences(world) == []

    in_world(script)


def test_what_is_under_way_keeps_its_link() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        file = File()
        reloader = file.reloader(world)
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await pay(world)).response_code)

        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="delay", delay_s=1.5))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            file.config = configured(route=[{"prefix": "4", "issuer": "beta"}])
            await reloader.reload()
        assert answers == ["00"] and (len(alpha), len(beta)) == (1, 0)
        assert differences(world) == []

    in_world(script)


def test_each_section_that_is_taken() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        worker = world.workers[0][0]
        file.config = configured(
            stand_in=[{"issuer": "alpha", "floor_minor": {"EUR": 5000}}], breaker=[{"failures": 7}], saf={"limit": 5},
            fraud=[{"name": "small", "amount_over_minor": 3000, "currency": "EUR", "action": "decline"}],
        )  # fmt: skip
        assert set((await reloader.reload()).taken) == {"breaker", "stand_in", "fraud", "saf"}
        assert worker.senders["alpha"].settings.limit == 5
        assert worker.online.choice.breakers["alpha"].settings.failures == 7
        assert (await pay(world, 3001)).response_code == "59"
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "00"
        file.config = configured()
        assert set((await reloader.reload()).taken) == {"breaker", "stand_in", "fraud", "saf"}
        assert (await pay(world)).response_code == "91"

    in_world(script)


def test_a_finer_route_has_the_hsm_tell_more_digits() -> None:
    async def script(world: World) -> None:
        everywhere(world)
        beta = heard(world, "beta")
        file = File()
        reloader = file.reloader(world)
        file.config = configured(route=[ROUTE, {"from": "42424242420", "to": "42424242429", "issuer": "beta"}])
        await reloader.reload()
        assert world.workers[0][0].online.leading == 11
        await pay(world)
        assert len(beta) == 1

    in_world(script)


@pytest.mark.parametrize(
    "sections",
    [
        {"switch": {**TABLE["switch"], "max_in_flight": 7}},
        {"fees": {"rate": "0.01", "fixed_minor": {"EUR": 1}, "other_currencies": "rate-only"}},
        {"merchant": []},
        {"issuer": [{**TABLE["issuer"][0], "deadline_s": 9.0}, TABLE["issuer"][1]]},
        {"acquirer": [{**TABLE["acquirer"][0], "must_sign_on": True}, TABLE["acquirer"][1]]},
    ],
)
def test_what_needs_a_restart_is_named_and_left(sections: dict[str, Any]) -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        file = File()
        reloader = file.reloader(world)
        restart = (NeedsRestart("hsm.slot", ("hsm",)), NeedsRestart("fees.rate", ("switch",)))
        file.config, file.restart = configured(saf={"limit": 9}, **sections), restart
        assert await reloader.reload() == Reloaded(0, ("saf",), restart)
        assert await reloader.reload() == Reloaded(0, (), restart), "as long as it is so"
        assert (await pay(world)).response_code == "00"
        assert [line.link for line in worker.lines.values()] == list(world.config.issuers)
        assert [port.link for port in worker.ports.values()] == list(world.config.acquirers)

    in_world(script)


def test_a_file_with_errors_changes_nothing() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = ConfigError("cardswitch.toml", ("route 4: no", "saf: no"))
        with pytest.raises(ReloadRefused) as caught:
            await reloader.reload()
        assert caught.value.problems == ("route 4: no", "saf: no")
        await reloader.on_signal()
        assert world.counted("reloads", "refused") == 2 and world.counted("reloads", "ok") == 0
        assert (await pay(world)).response_code == "00"
        file.config = configured()
        await reloader.on_signal()
        assert world.counted("reloads", "ok") == 1

    in_world(script)


def test_routes_to_links_that_do_not_run_yet_are_refused_whole() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        gamma = {"name": "gamma", "address": "gamma:1", "dialect": "iso87-ascii"}
        file.config = configured(
            issuer=[*TABLE["issuer"], gamma],
            route=[ROUTE, {"prefix": "6", "issuer": "gamma"}],
            stand_in=[{"issuer": "gamma"}],
            saf={"limit": 5},
        )
        with pytest.raises(ReloadRefused) as caught:
            await reloader.reload()
        assert caught.value.problems == (
            "route 6: there is no issuer 'gamma' (of the links that run)",
            "stand_in: there is no issuer 'gamma' (of the links that run)",
        )
        assert world.workers[0][0].senders["alpha"].settings.limit == 1000

    in_world(script)


def test_an_unexpected_failure_on_a_signal_ends_nothing() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = RuntimeError("broken")
        await reloader.on_signal()
        assert world.counted("failures", "reload") == 1
        file.config = configured(saf={"limit": 3})
        assert (await reloader.reload()).taken == ("saf",)

    in_world(script)


def test_open_circuits_stay_open_through_a_reload_of_something_else() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        breaker = world.workers[0][0].online.choice.breakers["alpha"]
        for _ in range(10):
            breaker.ended(trio.current_time(), well=False, probe=0)
        file.config = configured(route=[ROUTE])
        await reloader.reload()
        assert world.workers[0][0].online.choice.breakers["alpha"].state is Circuit.OPEN

    in_world(script)


def test_certificates_that_cannot_be_used_are_named() -> None:
    async def script(world: World) -> None:
        asked: list[int] = []

        def certificates() -> tuple[str, ...]:
            asked.append(1)
            return ("pos",)

        done = await File().reloader(world, certificates).reload()
        assert (done.certificates, done.restart, asked) == (("pos",), (), [1])

    in_world(script)


def test_without_a_file_there_is_nothing_to_reload() -> None:
    async def script(world: World) -> None:
        with pytest.raises(ReloadRefused, match="no configuration file"):
            await world.workers[0][0].reloader.reload()

    in_world(script)


def test_a_stand_in_that_is_taken_away_ends_what_it_has_begun() -> None:
    """The negative list is in the journal, so there is time for a reload while it is read."""

    async def script(world: World) -> None:
        online, blocked = world.workers[0][0].online, world.journal.blocked

        async def slowly(fingerprint: bytes, issuer: str) -> bool:
            online.use(configured(), RoutingTable(configured().routes))
            return await blocked(fingerprint, issuer)

        world.journal.blocked = slowly  # type: ignore[method-assign]
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "00"
        assert world.counted("failures") == 0

    in_world(script, config=configured(stand_in=[STAND_IN]))


@pytest.mark.parametrize("prefix", ["424242424", "4242424242"])
def test_who_was_identified_before_finer_routes_came_is_routed_as_before(prefix: str) -> None:
    """Of its card fewer digits are known than they look at; either table has a route for it."""

    async def script(world: World) -> None:
        everywhere(world)
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        online, screen = world.workers[0][0].online, world.hsm.screen
        finer = configured(route=[{"prefix": prefix, "issuer": "beta"}])

        async def slowly(command: Screen) -> Screened:
            screened = await screen(command)
            online.use(finer, RoutingTable(finer.routes))
            return screened

        world.hsm.screen = slowly  # type: ignore[method-assign]
        assert (await pay(world)).response_code == "00"
        world.hsm.screen = screen  # type: ignore[method-assign]
        assert (await pay(world)).response_code == "00"
        assert (len(alpha), len(beta)) == (1, 1)
        assert differences(world) == []

    in_world(script)


def test_a_denied_range_that_looks_at_more_digits_than_are_known_denies() -> None:
    """Stand-in approves nothing that its new limits might not allow."""

    async def script(world: World) -> None:
        online, screen = world.workers[0][0].online, world.hsm.screen
        finer = configured(stand_in=[{**STAND_IN, "denied": ["424242424"]}])

        async def slowly(command: Screen) -> Screened:
            screened = await screen(command)
            online.use(finer, RoutingTable(finer.routes))
            return screened

        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "00"
        world.hsm.screen = slowly  # type: ignore[method-assign]
        assert (await pay(world)).response_code == "91"
        assert world.counted("stand_ins", "alpha", "denied") == 1

    in_world(script, config=configured(stand_in=[STAND_IN]))
