"""Rules of a running link that a reload takes: permissions, freshness and limits, from one message to the next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import structlog.testing
import trio

from hsm.commands import Screen, Screened
from messages.exchange import de7, original_data
from messages.message import Message
from switch.config import SwitchConfig, switch_config
from switch.errors import ConfigError
from switch.links.permissions import Permitted
from switch.links.rules import RULES, changed_rules, with_rules_of
from switch.links.settings import AcquirerLink, IssuerLink, Link
from switch.reload import ReloadRefused
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, VISA, in_world, purchase, told
from tests.switch.outage import configured
from tests.switch.test_issuer_requests import ruled
from tests.switch.test_reload import ROUTE, File

DAY = timedelta(days=1)
OTHER_RULES: dict[str, Any] = {
    "permissions": {"messages": ["0100"]},
    "max_age_s": 60.0,
    "advice_max_age_s": 3_600.0,
    "max_ahead_s": 5.0,
    "rate": 5.0,
    "queue": 3,
    "queue_s": 0.25,
}


def with_link(name: str, **settings: Any) -> SwitchConfig:
    """The world's configuration with other settings of one link."""
    side = next(side for side in ("acquirer", "issuer") for row in TABLE[side] if row["name"] == name)
    rows = [{**row, **settings} if row["name"] == name else row for row in TABLE[side]]
    return configured(**{side: rows})


async def code_of(world: World, message: Message, link: str = "pos") -> str:
    answer = await told(world, message, link)
    assert answer is not None
    return answer.elements[39]


async def paid(world: World, stan: str) -> Message:
    message = purchase(stan)
    assert await code_of(world, message) == "00"
    return message


def reversal(of: Message, stan: str) -> Message:
    given = of.elements
    return purchase(stan, mti="0400", de90=original_data("0200", given[11], given[7], "10001"))


def test_a_right_that_is_taken_away_is_gone_from_the_next_message_on_and_the_connection_stays() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        first, second = await paid(world, "000001"), await paid(world, "000002")
        assert await code_of(world, reversal(first, "000003")) == "00"
        port = world.workers[0][0].ports["pos"]
        connection = port.sessions[0]  # the acquirer's own; `told` makes one for each message

        file.config = with_link("pos", permissions={"messages": ["0100", "0200"]})
        assert (await reloader.reload()).taken == ("acquirer[pos].permissions",)
        refused = await told(world, reversal(second, "000004"), "pos")
        assert refused is not None
        assert (refused.elements[39], refused.elements[44].rstrip()) == ("58", "type not permitted")
        assert world.counted("declines", "message_not_permitted") == 1
        assert connection.open and port.sessions[0] is connection

        file.config = configured()
        assert (await reloader.reload()).taken == ("acquirer[pos].permissions",)
        assert await code_of(world, reversal(second, "000005")) == "00"
        assert (await reloader.reload()).taken == ()

    in_world(script)


@pytest.mark.parametrize(
    ("settings", "message", "code"),
    [
        ({"permissions": {"currencies": ["EUR"], "amounts_minor": {"EUR": 2_499}}}, purchase(), "57"),
        ({"permissions": {"currencies": ["EUR"], "amounts_minor": {"EUR": 2_500}}}, purchase(), "00"),
        ({"permissions": {"currencies": ["USD"]}}, purchase(), "57"),
        ({"permissions": {"merchants": ["OTHERSHOP"]}}, purchase(), "58"),
        ({"max_age_s": 3_600.0}, purchase(at=NOW - timedelta(hours=2)), "30"),
        ({"max_ahead_s": 10.0}, purchase(at=NOW + timedelta(seconds=60)), "30"),
        ({"max_age_s": 60 * 86_400.0, "advice_max_age_s": 60 * 86_400.0}, purchase(at=NOW - 40 * DAY), "00"),
        (
            {"max_age_s": 3_600.0, "advice_max_age_s": 3_600.0},
            purchase(mti="0420", at=NOW - timedelta(hours=2), de90=original_data("0200", "000009", de7(NOW), "10001")),
            "30",
        ),
    ],
)
def test_each_rule_of_a_link(settings: dict[str, Any], message: Message, code: str) -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = with_link("pos", **settings)
        assert (await reloader.reload()).taken == tuple(f"acquirer[pos].{name}" for name in RULES if name in settings)
        assert await code_of(world, message) == code
        assert await code_of(world, purchase("000099"), "gateway") != "58", "other links go on as they were"

    in_world(script)


def test_the_rate_of_a_link_holds_from_the_next_request_on_and_can_be_raised_again() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        await paid(world, "000001")
        file.config = with_link("pos", rate=0.1)
        assert (await reloader.reload()).taken == ("acquirer[pos].rate",)
        await paid(world, "000002")  # the burst of a rate is one request at least
        at = trio.current_time()
        await paid(world, "000003")
        assert trio.current_time() - at > 8.0, "it was read when its turn came"
        file.config = configured()
        await reloader.reload()
        at = trio.current_time()
        for number in range(4, 20):
            await paid(world, f"{number:06d}")
        assert trio.current_time() - at < 2.0

    in_world(script)


def test_what_an_issuer_may_send() -> None:
    async def script(world: World) -> None:
        await paid(world, "000001")
        issuer = world.issuers["alpha"].issuer
        message = issuer.chargeback(issuer.entries.entries()[0].key, world.clock.now(), 1_000)
        file = File()
        reloader = file.reloader(world)
        file.config = with_link("alpha", permissions={"messages": ["0302"]})
        assert (await reloader.reload()).taken == ("issuer[alpha].permissions",)
        assert (await ruled(world, message))[0] == "58"
        file.config = with_link("alpha", advice_max_age_s=86_400.0)
        assert (await reloader.reload()).taken == ("issuer[alpha].permissions", "issuer[alpha].advice_max_age_s")
        old = Message(message.mti, {**message.elements, 7: de7(NOW - 2 * DAY)})
        assert (await ruled(world, old))[1] == "stale"
        assert (await ruled(world, message))[0] == "00"

    in_world(script)


def test_network_management_under_a_mac_is_judged_by_the_new_window() -> None:
    async def script(world: World) -> None:
        echo = Message("0800", {7: de7(NOW - timedelta(hours=2)), 11: "000900", 70: "301"})
        assert await code_of(world, echo) == "00"
        file = File()
        file.config = configured(acquirer=[{**managed[0], "max_age_s": 3_600.0}, managed[1]])
        assert (await file.reloader(world).reload()).taken == ("acquirer[pos].max_age_s",)
        assert await code_of(world, echo) == "30"

    managed = [{**TABLE["acquirer"][0], "mac_management": True}, TABLE["acquirer"][1]]
    in_world(script, config=switch_config({**TABLE, "acquirer": managed}))


def test_a_request_of_an_issuer_is_judged_by_one_table_however_long_the_hsm_takes() -> None:
    """Its type was permitted and its age allowed when it came; both are taken away while the hsm is asked."""

    async def script(world: World) -> None:
        file, screen = File(), world.hsm.screen
        reloader = file.reloader(world)
        file.config = with_link("alpha", permissions={"messages": []}, max_age_s=60.0)

        async def slowly(command: Screen) -> Screened:
            screened = await screen(command)
            assert (await reloader.reload()).taken == ("issuer[alpha].permissions", "issuer[alpha].max_age_s")
            return screened

        world.hsm.screen = slowly  # type: ignore[method-assign]
        listed = world.issuers["alpha"].list_card(VISA.pan, "add")
        before = Message(listed.mti, {**listed.elements, 7: de7(world.clock.now() - timedelta(hours=1))})
        assert (await ruled(world, before))[0] == "00"
        world.hsm.screen = screen  # type: ignore[method-assign]
        assert (await ruled(world, before))[0] == "58"

    in_world(script)


def test_a_request_of_an_acquirer_is_judged_by_one_table() -> None:
    """It was accepted before the reload, so permissions and ages are those of before; its task starts after it."""

    async def script(world: World) -> None:
        port = world.workers[0][0].ports["pos"]
        accept, port_serve = world.workers[0][0].pipeline.accept, port._serve
        wanted = with_link("pos", **OTHER_RULES).acquirers[0]

        def accepted(*arguments: Any) -> None:
            accept(*arguments)
            port.use(wanted, Permitted(wanted.permissions))

        port._serve = accepted
        at = world.clock.now() - timedelta(hours=1)
        assert await code_of(world, purchase(at=at)) == "00", "now neither its type nor its age is allowed"
        port._serve = port_serve
        assert await code_of(world, purchase("000002", at=at)) == "30"
        assert await code_of(world, purchase("000003", at=world.clock.now())) == "58"

    in_world(script)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"permissions": {"messages": ["0999"]}}, "acquirer[pos].permissions.messages: '0999' is none of"),
        ({"permissions": {"currencies": ["EUX"]}}, "'EUX' is no currency of ISO 4217, name it as EUR"),
        ({"max_age_s": -1.0}, "acquirer[pos]: max_age_s must be > 0 and up to 15552000"),
    ],
)
def test_a_file_with_an_error_changes_no_rule_and_names_path_and_fix(settings: dict[str, Any], said: str) -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        file = File()
        with pytest.raises(ConfigError) as wrong:
            rows = [{**TABLE["acquirer"][0], **settings}, {**TABLE["acquirer"][1], "permissions": {"messages": []}}]
            configured(acquirer=rows)
        file.config = wrong.value
        with pytest.raises(ReloadRefused) as refused:
            await file.reloader(world).reload()
        assert any(said in problem for problem in refused.value.problems), refused.value.problems
        assert [port.link for port in worker.ports.values()] == list(world.config.acquirers)
        assert await code_of(world, purchase()) == "00"

    in_world(script)


def test_rules_are_left_where_something_else_in_the_file_is_refused() -> None:
    async def script(world: World) -> None:
        gamma = {"name": "gamma", "address": "gamma:1", "dialect": "iso87-ascii"}
        file = File()
        reloader = file.reloader(world)
        file.config = configured(
            acquirer=[{**TABLE["acquirer"][0], **OTHER_RULES}, TABLE["acquirer"][1]],
            issuer=[*TABLE["issuer"], gamma],
            route=[ROUTE, {"prefix": "6", "issuer": "gamma"}],
        )
        with pytest.raises(ReloadRefused):
            await reloader.reload()
        assert await code_of(world, purchase(at=world.clock.now())) == "00"

    in_world(script)


def test_a_currency_that_the_running_fees_do_not_price_is_refused_whole() -> None:
    """The file prices it, but fees need a restart: payments in it would be posted without their fixed fee."""
    euro = [{**TABLE["acquirer"][0], "permissions": {"currencies": ["EUR"]}}, euro_only(TABLE["acquirer"][1])]
    both = [{**euro[0], "permissions": {"currencies": ["EUR", "JPY"]}, "max_age_s": 60.0}, euro[1]]
    fees = {"rate": "0.029", "fixed_minor": {"EUR": 30}, "dispute_fee_minor": {"EUR": 1500}}
    priced = {"rate": "0.029", "fixed_minor": {"EUR": 30, "JPY": 50}, "dispute_fee_minor": {"EUR": 1500, "JPY": 2000}}

    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = configured(acquirer=both, fees=priced)
        with pytest.raises(ReloadRefused, match=r"JPY.*of the fees that run; other fees need a restart"):
            await reloader.reload()
        assert world.workers[0][0].ports["pos"].link == world.config.acquirers[0]
        file.config = configured(acquirer=[{**both[0], "permissions": {"currencies": []}}, euro[1]], fees=priced)
        assert (await reloader.reload()).taken == ("acquirer[pos].permissions", "acquirer[pos].max_age_s")

    in_world(script, config=configured(acquirer=euro, fees=fees))


def euro_only(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "permissions": {"currencies": ["EUR"]}}


def test_a_failure_of_ours_takes_nothing_and_the_next_reload_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = configured(
            acquirer=[{**TABLE["acquirer"][0], "permissions": {"messages": []}}, TABLE["acquirer"][1]],
            stand_in=[{"issuer": "alpha", "floor_minor": {"EUR": 5000}}],
        )

        def broken(*arguments: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patch:
            patch.setattr("switch.online.FraudRules", broken)
            await reloader.on_signal()
        assert world.counted("failures", "reload") == 1
        assert await code_of(world, purchase()) == "00"
        assert not world.workers[0][0].online._stand_ins.issuers
        assert (await reloader.reload()).taken == ("stand_in", "acquirer[pos].permissions")
        assert await code_of(world, purchase("000002")) == "58"

    in_world(script)


def test_another_file_than_the_one_that_is_meant_changes_nothing() -> None:
    """The file was edited while the workers were asked one after the other."""

    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config, file.digest = with_link("pos", permissions={"messages": []}), "two"
        with pytest.raises(ReloadRefused, match="run cardswitch reload again"):
            await reloader.reload("one")
        assert world.counted("reloads", "refused") == 1
        assert await code_of(world, purchase()) == "00"
        assert (await reloader.reload("two")).taken == ("acquirer[pos].permissions",)
        assert (await reloader.reload()).taken == ()

    in_world(script)


def test_links_that_the_file_has_no_more_go_on_by_the_rules_that_they_have() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = with_link("pos", permissions={"messages": []})
        await reloader.reload()
        file.config = configured(acquirer=[TABLE["acquirer"][1]])
        assert (await reloader.reload()).taken == ()
        assert await code_of(world, purchase()) == "58"

    in_world(script)


def test_what_an_operator_is_shown_is_what_is_in_force() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        file = File()
        reloader = file.reloader(world)
        file.config = with_link("pos", **OTHER_RULES, max_in_flight=7)
        await reloader.reload()
        link = worker.ports["pos"].link
        assert {name: getattr(link, name) for name in RULES} == {
            name: getattr(file.config.acquirers[0], name) for name in RULES
        }
        assert link.max_in_flight == 2000, "not in force before a restart"

    in_world(script)


def test_each_change_of_a_rule_is_one_line_of_the_log() -> None:
    async def script(world: World) -> None:
        file = File()
        reloader = file.reloader(world)
        file.config = with_link("pos", permissions={"messages": ["0100"]}, max_age_s=60.0)
        with structlog.testing.capture_logs() as lines:
            await reloader.reload()
        found = [line for line in lines if line["event"] == "link_rule_changed"]
        assert [(line["link"], line["setting"]) for line in found] == [("pos", "permissions"), ("pos", "max_age_s")]
        assert found[0]["before"] is None and found[0]["after"]["messages"] == ("0100",)
        assert (found[1]["before"], found[1]["after"]) == (86_400.0, 60.0)

    in_world(script)


@pytest.mark.parametrize("kind", [AcquirerLink, IssuerLink])
def test_rules_are_taken_and_nothing_else_is(kind: type[Link]) -> None:
    link = kind(name="one", listen="one:1", dialect="iso87-ascii")
    wanted = kind(
        name="two", address="two:1", dialect="iso87-bcd", max_in_flight=1, mac_key="zak",
        **as_structs(OTHER_RULES),
    )  # fmt: skip
    mixed = with_rules_of(link, wanted)
    assert changed_rules(mixed, wanted) == () and changed_rules(link, wanted) == RULES
    others = [name for name in link.__struct_fields__ if name not in RULES]
    assert [getattr(mixed, name) for name in others] == [getattr(link, name) for name in others]


def as_structs(rules: dict[str, Any]) -> dict[str, Any]:
    """Rules of the file as settings of a link."""
    row = with_link("pos", **rules).acquirers[0]
    return {name: getattr(row, name) for name in rules}
