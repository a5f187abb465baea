"""Messages without their right MAC: their answers have no MAC of ours, and nothing follows."""

from __future__ import annotations

import pytest
import trio

from hsm.commands import GenerateMac, MacCheck, Screen
from messages.exchange import original_data
from messages.framing import framing
from messages.message import Message
from switch.links.limits import OverLimit
from switch.links.mac import LinkMac
from tests.simulation.world import World
from tests.switch.desk import NOW, VISA, in_world, purchase, told
from tests.switch.links.test_link_mac import configured

PAIRING = {7, 11, 32, 33, 41, 70}  # elements that pair an answer with its request


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
