"""MACs on links: nothing is believed without, nothing leaves without, and the HSM is asked once where that will do."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hsm.commands import Dispatch, GenerateMac, HsmRefused, Screen
from hsm.config import KeyConfig
from hsm.keys.attributes import ROLES
from ledger.journal import network_stan
from messages.card import luhn_digit
from messages.framing import framing
from messages.message import Message
from simulators.acquirer import Card
from simulators.acquirer.book import State
from simulators.faults import FaultRule
from switch.config import SwitchConfig, switch_config
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import MASTERCARD, POOR, VISA, in_world, purchase, surrogate, told

CARDS = {"alpha": Card(VISA.pan, pin="1234"), "beta": Card(MASTERCARD.pan, pin="1234")}


def configured(**links: dict[str, Any]) -> SwitchConfig:
    """The world's configuration with other values in some links, by name."""
    table = {**TABLE}
    for section in ("acquirer", "issuer"):
        table[section] = [{**row, **links.get(row["name"], {})} for row in TABLE[section]]
    return switch_config(table)


def number(prefix: str, digits: int) -> str:
    """A test card number of a length."""
    partial = prefix + "1" * (digits - 2)
    return partial + luhn_digit(partial)


class Counted:
    """The switch's commands to the hsm, by name."""

    def __init__(self, world: World) -> None:
        self.asked: list[object] = []
        for name in ("screen", "dispatch", "mac"):
            setattr(world.hsm, name, self._counting(getattr(world.hsm, name)))

    def _counting(self, command: Any) -> Any:
        async def counting(request: object) -> object:
            self.asked.append(request)
            return await command(request)

        return counting

    def of(self, kind: type, key: str = "") -> list[Any]:
        return [
            request for request in self.asked if type(request) is kind and key in ("", getattr(request, "key", key))
        ]


@pytest.mark.parametrize("algorithm", ROLES["mac"].algorithms)
@pytest.mark.parametrize("issuer", ["alpha", "beta"])
def test_all_that_goes_to_an_issuer_has_a_right_mac(issuer: str, algorithm: str) -> None:
    """Requests, advices and the answer to a chargeback: the simulated issuer refuses anything else with 63."""

    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        server = world.issuers[issuer]
        held = await client.perform(client.acquirer.authorization(CARDS[issuer], 1000, "EUR", now()))
        assert held.response_code == "00"
        await client.perform(client.acquirer.capture(held, 600, now()))
        await trio.sleep(5.0)
        server.chargeback(server.issuer.entries.entries()[0].key)
        await trio.sleep(10.0)
        assert server.issuer.stats.get("mac refused", 0) == 0
        assert server.issuer.stats["0432"] == 1 and server.issuer.open_chargebacks() == []
        assert (held.held_minor, held.posted_minor) == (0, 0)
        assert world.counted("mac_failures") == 0
        assert differences(world) == []

    in_world(script, keys=(KeyConfig(name=f"zak-{issuer}", usage="mac", party=issuer, algorithm=algorithm),))


@pytest.mark.parametrize(("fault", "reason"), [("wrong-mac", "mac_invalid"), ("missing-mac", "mac_missing")])
@pytest.mark.parametrize("issuer", ["alpha", "beta"])
def test_an_answer_with_a_bad_mac_is_no_answer(issuer: str, fault: Any, reason: str) -> None:
    """Never an approval: the deadline passes, and the issuer gets a reversal of its booking."""

    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        paid = await client.perform(client.acquirer.purchase(CARDS[issuer], 1000, "EUR", now()))
        assert paid.response_code == "91"
        await trio.sleep(5.0)
        assert world.counted("mac_failures", issuer, reason) == 1
        assert world.issuers[issuer].issuer.entries.entries()[0].reversed
        assert differences(world) == []
        again = await client.perform(client.acquirer.purchase(CARDS[issuer], 1000, "EUR", now()))
        assert again.state is State.APPROVED

    in_world(script, faults={issuer: (FaultRule(kind=fault, count=1),)})


def test_a_forged_answer_does_not_keep_the_true_one_away() -> None:
    async def script(world: World) -> None:
        client, server = world.clients["pos"], world.issuers["alpha"]
        answers: list[str] = []

        async def buy() -> None:
            paid = await client.perform(client.acquirer.purchase(POOR, 1000, "EUR", world.clock.now()))
            answers.append(paid.response_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(buy)
            await trio.sleep(0.5)
            ((intent_id, intent),) = world.journal._intents.items()
            elements = {7: f"{intent.created_at:%m%d%H%M%S}", 11: network_stan(intent_id), 32: "10001", 39: "00"}
            forged = server._codec.encode(Message("0210", elements))
            await server._lines[0].wire.send(framing().encode(forged))
        assert answers == ["51"]
        assert world.counted("mac_failures", "alpha", "mac_missing") == 1

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=1.0),)})


def test_a_chargeback_that_an_overloaded_hsm_cannot_verify_is_not_refused() -> None:
    """63 would end it at its issuer; without an answer it comes again."""

    async def script(world: World) -> None:
        client, server = world.clients["pos"], world.issuers["alpha"]
        await client.perform(client.acquirer.purchase(VISA, 1000, "EUR", world.clock.now()))
        screen = world.hsm.screen

        async def refused(request: Screen) -> object:
            raise HsmRefused("overloaded", "too many commands wait")

        world.hsm.screen = refused  # type: ignore[method-assign,assignment]
        server.chargeback(server.issuer.entries.entries()[0].key)
        await trio.sleep(2.0)
        assert world.counted("mac_failures", "alpha", "hsm_overloaded") >= 1
        assert "0432" not in server.issuer.stats
        world.hsm.screen = screen  # type: ignore[method-assign]
        await trio.sleep(30.0)
        assert server.issuer.stats["0432"] == 1 and server.issuer.open_chargebacks() == []
        assert differences(world) == []

    in_world(script)


def test_an_acknowledgement_of_an_acquirer_without_a_right_mac_is_none() -> None:
    async def script(world: World) -> None:
        client, server = world.clients["pos"], world.issuers["alpha"]
        await client.perform(client.acquirer.purchase(VISA, 1000, "EUR", world.clock.now()))
        sealing = client.acquirer._sealing
        honest = sealing.encode
        sealing.encode = lambda message, spoiled="": honest(message, spoiled="wrong-mac")  # type: ignore[method-assign]
        server.chargeback(server.issuer.entries.entries()[0].key)
        await trio.sleep(30.0)
        assert world.counted("advices_acknowledged", "pos", "00") == 0
        assert world.counted("advices_sent", "pos", "0423") >= 1
        sealing.encode = honest  # type: ignore[method-assign]
        await trio.sleep(30.0)
        assert world.counted("advices_acknowledged", "pos", "00") == 1
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("issuer", ["alpha", "beta"])
def test_an_advice_that_the_issuer_does_not_believe_is_sent_again(issuer: str) -> None:
    """While the two ends do not have the same key, 63 says nothing about the payment."""

    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        server = world.issuers[issuer]
        held = await client.perform(client.acquirer.authorization(CARDS[issuer], 1000, "EUR", now()))
        keys = server.issuer.keys
        believed = keys.mac_is_right
        keys.mac_is_right = lambda data, mac: False  # type: ignore[method-assign]
        await client.perform(client.acquirer.reversal(held, now()))
        await trio.sleep(10.0)
        assert server.issuer.stats["mac refused"] >= 2
        keys.mac_is_right = believed  # type: ignore[method-assign]
        await trio.sleep(60.0)
        assert server.issuer.entries.entries()[0].reversed
        assert world.counted("advices_acknowledged", issuer, "63") == 0
        assert world.counted("advices_acknowledged", issuer, "00") == 1
        assert differences(world) == []

    in_world(script)


def test_63_ends_an_advice_where_there_are_no_macs() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        held = await client.perform(client.acquirer.authorization(CARDS["alpha"], 1000, "EUR", now()))
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="decline", mti=("0420", "0421"), response_code="63"))
        await client.perform(client.acquirer.reversal(held, now()))
        await trio.sleep(10.0)
        assert world.counted("advices_acknowledged", "alpha", "63") == 1

    in_world(script, config=configured(alpha={"mac_key": ""}))


def test_an_answer_that_nobody_can_verify_is_no_answer() -> None:
    """The hsm goes away between request and answer."""

    async def script(world: World) -> None:
        client = world.clients["pos"]

        async def away() -> None:
            await trio.sleep(1.0)
            world.hsm.available = False
            await trio.sleep(2.0)
            world.hsm.available = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(away)
            paid = await client.perform(client.acquirer.purchase(VISA, 1000, "EUR", world.clock.now()))
        assert paid.response_code == "91"
        await trio.sleep(10.0)
        assert world.counted("mac_failures", "alpha", "hsm_unavailable") == 1
        assert differences(world) == []

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0, count=1),)})


def test_network_management_carries_macs_where_that_is_agreed() -> None:
    async def script(world: World) -> None:
        lines = world.workers[0][0].lines
        assert lines["alpha"].session is not None and lines["beta"].session is not None
        assert not lines["alpha"].mac.covers("0800") and lines["beta"].mac.covers("0800")
        world.issuers["beta"].issuer.faults.add(FaultRule(kind="missing-mac", mti=("0800",)))
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="missing-mac", mti=("0800",)))
        world.network.cut("alpha:1")
        world.network.cut("beta:1")
        await trio.sleep(10.0)
        assert lines["alpha"].session is not None  # there it means nothing
        assert lines["beta"].session is None
        assert world.counted("mac_failures", "beta", "mac_missing") >= 1
        world.issuers["beta"].issuer.faults.clear()
        await trio.sleep(15.0)
        assert lines["beta"].session is not None

    in_world(script)


@pytest.mark.parametrize("function", ["301", "101"])
def test_network_management_above_the_limit_of_a_connection_is_counted(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task for its answer, MAC or new key: it is left to its repeat, and no such thing goes by unseen."""

    async def script(world: World) -> None:
        port = world.workers[0][0].ports["pos"]
        session = port.session
        assert session is not None
        monkeypatch.setattr("switch.links.session.MAX_TASKS", 0)
        port.reception._take(session, Message("0800", {7: "0314092653", 11: "000099", 70: function}), b"")
        assert world.counted("unanswered", "overloaded") == 1

    in_world(script, config=configured(pos={"mac_management": True}))


@pytest.mark.parametrize("issuer", ["alpha", "beta"])
@pytest.mark.parametrize("digits", [12, 13, 16, 19])
def test_pan_pin_and_mac_cost_one_command(issuer: str, digits: int) -> None:
    """In both dialects, and for card numbers of an odd length."""
    route = {"alpha": "4", "beta": "5"}[issuer]
    card = Card(number(route, digits), pin="1234")

    async def script(world: World) -> None:
        counted = Counted(world)
        client = world.clients["pos"]
        paid = await client.perform(client.acquirer.purchase(card, 1000, "EUR", world.clock.now()))
        assert paid.response_code == "00"
        (dispatch,) = counted.of(Dispatch)
        assert dispatch.mac is not None and dispatch.mac.key == f"zak-{issuer}"
        assert counted.of(GenerateMac, f"zak-{issuer}") == []
        assert len(counted.of(GenerateMac, "zak-pos")) == 1  # the acquirer's answer
        assert len(counted.of(Screen)) == 2  # the request, and the issuer's answer
        if digits == 16:  # a surrogate, whose number nobody here knows
            counted.asked.clear()
            bought = await told(world, purchase(de2=surrogate(world, Card(card.pan))))
            assert bought is not None and bought.elements[39] == "00"
            assert len(counted.of(Dispatch)) == 1 and counted.of(GenerateMac) == []

    in_world(script)


def ebcdic_hex_pin(tmp_path: Path) -> str:
    """A dialect whose DE 52 the HSM cannot fill in."""
    file = tmp_path / "ebcdic.toml"
    text = resources.files("specs").joinpath("iso87-ebcdic.toml").read_text("utf-8")
    file.write_text(text.replace('52 = { format = "b 64"', '52 = { encoding = "ebcdic-hex", format = "b 64"'), "utf-8")
    return str(file)


@pytest.mark.parametrize("commands", [1, 2])
def test_an_issuer_in_ebcdic_gets_pan_pin_and_mac_in_its_encoding(commands: int, tmp_path: Path) -> None:
    dialect = "iso87-ebcdic" if commands == 1 else ebcdic_hex_pin(tmp_path)

    async def script(world: World) -> None:
        counted = Counted(world)
        client = world.clients["pos"]
        paid = await client.perform(
            client.acquirer.purchase(Card(VISA.pan, pin="1234"), 1000, "EUR", world.clock.now())
        )
        assert paid.response_code == "00"
        assert len(counted.of(GenerateMac, "zak-alpha")) == commands - 1
        bought = await told(world, purchase(de2=surrogate(world)))
        assert bought is not None and bought.elements[39] == "00"
        assert len(counted.of(GenerateMac, "zak-alpha")) == commands - 1  # without a PIN both can be filled in

    in_world(script, config=configured(alpha={"dialect": dialect}))


@pytest.mark.parametrize("issuer", ["alpha", "beta"])
@pytest.mark.parametrize("digits", [12, 13, 15, 19])
def test_a_surrogate_has_the_length_of_its_card_when_it_leaves(issuer: str, digits: int) -> None:
    async def script(world: World) -> None:
        counted = Counted(world)
        pan = number({"alpha": "4", "beta": "5"}[issuer], digits)
        bought = await told(world, purchase(de2=surrogate(world, Card(pan))))
        assert bought is not None and bought.elements[39] == "00"
        assert counted.of(GenerateMac) == []

    in_world(script)


def test_a_template_that_cannot_be_written_costs_a_second_command() -> None:
    """The vault knows an expiry date that the message did not have."""

    async def script(world: World) -> None:
        counted = Counted(world)
        number = world.hsm.add_card(VISA.pan, "3012")
        bought = await told(world, purchase(de2=number, de14=""))
        assert bought is not None and bought.elements[39] == "00"
        (dispatch,) = counted.of(Dispatch)
        assert dispatch.mac is None
        assert len(counted.of(GenerateMac, "zak-alpha")) == 1

    in_world(script)


def test_an_hsm_that_does_not_fill_templates_is_asked_twice() -> None:
    async def script(world: World) -> None:
        counted = Counted(world)
        dispatch = world.hsm.dispatch

        async def without(request: Dispatch) -> object:
            return msgspec.structs.replace(await dispatch(request), mac=b"")

        world.hsm.dispatch = without  # type: ignore[method-assign,assignment]
        bought = await told(world, purchase(de2=surrogate(world)))
        assert bought is not None and bought.elements[39] == "00"
        assert len(counted.of(GenerateMac, "zak-alpha")) == 1

    in_world(script)


def test_chip_data_passes_untouched() -> None:
    """DE 55 with an ARQC, byte for byte, and the answer's to nobody."""
    chip = "9F2608AABBCCDDEEFF00119F2701809F10120110A0000F040000000000000000000000FF9F3704DEADBEEF9F36020042"

    async def script(world: World) -> None:
        seen: list[str] = []
        for server in world.issuers.values():
            receive = server.issuer.receive

            def spy(message: Message, now: Any, receive: Any = receive) -> Any:
                seen.append(message.elements.get(55, ""))
                return receive(message, now)

            server.issuer.receive = spy  # type: ignore[method-assign]
        for stan, card in enumerate((VISA, MASTERCARD), 1):
            answer = await told(world, purchase(f"{stan:06d}", de2=surrogate(world, card), de55=chip, de22="051"))
            assert answer is not None and answer.elements[39] == "00"
            answer = await told(world, purchase(f"{stan:06d}", de2=card.pan, de55=chip, de22="051"), "pos")
            assert answer is not None and answer.elements[39] == "00"
        assert seen == [chip] * 4

    in_world(script)
