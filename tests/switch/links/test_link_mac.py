"""MACs on links: nothing is believed without, nothing leaves without, and the HSM is asked once where that will do."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hsm.commands import Dispatch, GenerateMac, HsmRefused, MacCheck, Screen
from hsm.config import KeyConfig
from hsm.keys.attributes import ROLES
from ledger.journal import network_stan
from messages.card import luhn_digit
from messages.exchange import original_data
from messages.framing import framing
from messages.message import Message
from simulators.acquirer import Card
from simulators.acquirer.book import State
from simulators.faults import FaultRule
from switch.config import SwitchConfig, switch_config
from switch.links.limits import OverLimit
from switch.links.mac import LinkMac
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import MASTERCARD, NOW, POOR, VISA, in_world, purchase, surrogate, told

PAIRING = {7, 11, 32, 33, 41, 70}  # elements that pair an answer with its request
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


@pytest.mark.parametrize("mac", ["right", "wrong", "missing"])
def test_the_answer_to_a_message_that_cannot_be_read_has_a_mac_only_for_a_right_one(mac: str) -> None:
    """Else it has nothing of the message but the elements that pair the two."""

    async def script(world: World) -> None:
        acquirer = world.clients["pos"].acquirer
        message = purchase(de22="051")
        if mac == "missing":
            payload = acquirer.codec.encode(message)
        else:
            payload = acquirer.codec.encode(LinkMac.with_mac(message))
        payload = payload.replace(b"051", b"0x1")
        if mac != "missing":
            covered = acquirer.codec.mac_input(payload)[0]
            made = (await world.hsm.mac(GenerateMac(key="zak-pos", data=covered))).mac
            payload = acquirer.codec.replace_mac(payload, made if mac == "right" else bytes(8))
        wire = await world.network.dial("pos:1", 1.0)
        await wire.send(framing().encode(payload))
        (frame,) = framing().decoder().receive(await wire.receive())
        answer = acquirer.codec.decode(frame)
        assert (answer.elements[39], answer.elements[44]) == ("30", "DE 22 expected digits")
        if mac == "right":
            await world.hsm.screen(Screen(mac=MacCheck("zak-pos", *acquirer.codec.mac_input(frame))))
            assert answer.elements[2] == VISA.pan
        else:
            assert set(answer.elements) <= {7, 11, 32, 39, 41, 44}
            assert world.counted("mac_failures", "pos", f"mac_{'invalid' if mac == 'wrong' else 'missing'}") == 1

    in_world(script)


async def bare(world: World, message: Message, spoiled: str = "") -> Message:
    """The answer to a message of `pos`, whose own check of MACs is not asked."""
    client = world.clients["pos"]
    encode = client.acquirer.encode
    with pytest.MonkeyPatch.context() as patch:
        if spoiled:
            patch.setattr(client.acquirer, "encode", lambda sent: encode(sent, spoiled=spoiled))
        (frame,) = await world.send_aside(client, message)
    return client.acquirer.codec.decode(frame)


CHOSEN: dict[str, dict[str, str]] = {
    "authorization": {"mti": "0100"},
    "purchase": {},
    "advice": {"mti": "0120", "de39": "00"},
    "capture": {"mti": "0220", "de3": "", "de90": "0100000009".ljust(42, "0")},
    "reversal": {"mti": "0400", "de90": "0200000009".ljust(42, "0")},
    "unserved": {"mti": "0300"},
    "text": {"mti": "0600", "de48": "paper is out"},
}


@pytest.mark.parametrize("spoiled", ["wrong-mac", "missing-mac"])
@pytest.mark.parametrize("name", CHOSEN)
def test_nobody_gets_elements_of_his_choice_under_our_mac(name: str, spoiled: str) -> None:
    """The answer to a message without its right MAC has none of ours, and only the elements that pair the two."""

    async def script(world: World) -> None:
        answer = await bare(world, purchase("000009", NOW, **CHOSEN[name]), spoiled)
        assert answer.elements[39] == "63"
        assert set(answer.elements) <= PAIRING | {39}

    in_world(script)


def _over_the_links_limit(world: World) -> None:
    def full() -> None:
        raise OverLimit("rate", "too many")

    world.workers[0][0].ports["pos"].gate.ask = full  # type: ignore[method-assign,assignment]


def _draining(world: World) -> None:
    port = world.workers[0][0].ports["pos"]
    port._served = lambda session, message, frame: port._turn_away(session, message, frame, "draining")  # type: ignore[method-assign]
    port.reception._serve = port._served


def _over_the_workers_limit(world: World) -> None:
    world.workers[0][0].pipeline.in_flight = 10**6


def _hsm_away(world: World) -> None:
    world.hsm.available = False


# What goes wrong; DE 39 for the acquirer and whether it has our MAC, DE 39 for a stranger.
TURNED_AWAY = {
    "link": (_over_the_links_limit, "91", True, "63"),
    "draining": (_draining, "91", True, "63"),
    "worker": (_over_the_workers_limit, "91", False, "91"),
    "hsm": (_hsm_away, "96", False, "96"),
}


@pytest.mark.parametrize("name", TURNED_AWAY)
def test_who_is_turned_away_gets_our_mac_for_the_right_one_only(name: str) -> None:
    async def script(world: World) -> None:
        begin, code, sealed, strangers = TURNED_AWAY[name]
        begin(world)
        answer = await bare(world, purchase("000001", NOW))
        assert answer.elements[39] == code
        assert (64 in answer.elements) is sealed
        assert (2 in answer.elements) is sealed
        answer = await bare(world, purchase("000002", NOW), "wrong-mac")
        assert answer.elements[39] == strangers
        assert set(answer.elements) <= PAIRING | {39}

    in_world(script)


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


def test_what_an_issuer_starts_without_a_right_mac_is_answered_63_and_does_nothing() -> None:
    async def script(world: World) -> None:
        client, server = world.clients["pos"], world.issuers["alpha"]
        await client.perform(client.acquirer.purchase(VISA, 1000, "EUR", world.clock.now()))
        entry = server.issuer.entries.entries()[0]
        chargeback = Message(
            "0422",
            {3: "000000", 4: "000000001000", 7: "0314092655", 11: "000777", 49: "978",
             90: original_data(entry.mti, entry.stan, entry.de7, "10001")},
        )  # fmt: skip
        before = len(world.journal._intents)
        for spoiled in ("wrong-mac", "missing-mac"):
            await server._lines[0].wire.send(framing().encode(server._sealing.encode(chargeback, spoiled=spoiled)))
        heard: list[Message] = []
        server.issuer.receive = lambda message, now: heard.append(message) or []  # type: ignore[method-assign,func-returns-value]
        server._sealing.problem = lambda message, data: ""  # type: ignore[method-assign]  # they have no MAC
        await trio.sleep(1.0)
        assert [(message.mti, message.elements[39]) for message in heard] == [("0432", "63")] * 2
        assert all(set(message.elements) <= PAIRING | {39} for message in heard)
        assert len(world.journal._intents) == before
        assert world.counted("mac_failures", "alpha", "mac_invalid") == 1
        assert world.counted("mac_failures", "alpha", "mac_missing") == 1

    in_world(script)


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


def test_an_acquirers_network_management_without_its_mac_is_63() -> None:
    async def script(world: World) -> None:
        echo = Message("0800", {7: "0314092653", 11: "000099", 70: "301"})
        answer = await told(world, echo, "pos")
        assert answer is not None and answer.elements[39] == "00"
        client = world.clients["pos"]
        client.acquirer._sealing._management = False
        answer = await bare(world, echo)
        assert (answer.elements[39], answer.elements[70]) == ("63", "301")
        assert set(answer.elements) <= PAIRING | {39}

    in_world(script, config=configured(pos={"mac_management": True}))


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


@pytest.mark.parametrize("mti", ["0800", "0820"])
@pytest.mark.parametrize("fault", ["missing-mac", "wrong-mac"])
def test_a_cut_over_without_its_mac_is_63_and_not_recorded(mti: str, fault: str) -> None:
    """Whatever `mac_management` says: a stranger must not open a business day, nor fill the journal."""

    async def script(world: World) -> None:
        client = world.clients["pos"]
        sealing = client.acquirer._sealing
        cut_over = client.acquirer.cut_over(f"{world.clock.now():%m%d}", world.clock.now()).message
        message = Message(mti, cut_over.elements)
        data = sealing.encode(message, spoiled=fault)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sealing, "encode", lambda message, spoiled="": data)
            answer = await bare(world, message)
        assert answer.elements[39] == "63" and set(answer.elements) <= PAIRING | {39}
        assert not world.journal._intents
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "00"
        assert 64 in answer.elements or 128 in answer.elements
        assert [intent.kind for intent in world.journal._intents.values()] == ["cut_over"]

    in_world(script)


@pytest.mark.parametrize("fault", ["missing-mac", "wrong-mac"])
def test_an_issuers_cut_over_without_its_mac_is_63_and_not_recorded(fault: str) -> None:
    async def script(world: World) -> None:
        server, day = world.issuers["alpha"], f"{world.clock.now():%m%d}"
        sealing = server._sealing
        encode = sealing.encode
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sealing, "encode", lambda message, spoiled="": encode(message, spoiled=fault))
            server.manage("cut-over", day)
            await trio.sleep(5.0)
        assert not world.journal._intents
        assert world.counted("mac_failures", "alpha", "mac_missing" if fault == "missing-mac" else "mac_invalid") >= 1
        server.manage("cut-over", day)
        await trio.sleep(5.0)
        assert "cut_over" in [intent.kind for intent in world.journal._intents.values()]

    in_world(script)
