"""What peers send that cannot be served: a clear answer where one is possible, and the link stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
import trio

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError
from messages.framing import framing
from messages.message import Message
from switch.links.network import Wire
from switch.salvage import salvage
from tests.simulation.world import World
from tests.switch.desk import VISA, in_world, purchase, surrogate, told


@pytest.fixture
def events() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def raw(wire: Wire, payload: bytes, wait_s: float = 5.0) -> Message | None:
    """Send bytes in a frame; the answer, None where none comes."""
    codec = Codec(load_dialect("iso87-ascii"))
    await wire.send(framing().encode(payload))
    with trio.move_on_after(wait_s):
        data = await wire.receive()
        return codec.decode(framing().decoder().receive(data)[0]) if data else None
    return None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"de3": ""}, "30"),
        ({"de4": ""}, "30"),
        ({"de49": ""}, "30"),
        ({"de2": ""}, "30"),
        ({"de32": "", "de41": ""}, "30"),
        ({"de49": "000"}, "30"),
        ({"de7": "1332010101"}, "30"),
        ({"de4": "000000000000"}, "13"),
        ({"de3": "990000"}, "12"),
        ({"mti": "0300"}, "12"),
        ({"mti": "0220"}, "30"),
        ({"mti": "0400"}, "30"),
        ({"de2": "9999999999999999"}, "14"),
    ],
)
def test_wrong_content_is_answered(changes: dict[str, str], code: str) -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(**{"de2": surrogate(world), **changes}))
        assert answer is not None and answer.elements[39] == code
        assert (answer.elements.get(11), answer.elements.get(4)) == (
            "000001",
            changes.get("de4", "000000002500") or None,
        )
        assert len(world.issuers["alpha"].issuer.entries) == 0
        good = await told(world, purchase("000002", de2=surrogate(world)))
        assert good is not None and good.elements[39] == "00"

    in_world(script)


def test_a_broken_element_is_answered_30_and_the_link_stays(events: list[structlog.typing.EventDict]) -> None:
    async def script(world: World) -> None:
        payload = Codec(load_dialect("iso87-ascii")).encode(purchase())
        broken = payload.replace(b"TERM0001", b"TERM000\xff")
        wire = await world.network.dial("gateway:1", 1.0)
        answer = await raw(wire, broken)
        assert answer is not None
        assert (answer.mti, answer.elements[39], answer.elements[11]) == ("0210", "30", "000001")
        good = await raw(wire, Codec(load_dialect("iso87-ascii")).encode(purchase("000002", de2=surrogate(world))))
        assert good is not None and good.elements[39] == "00"
        assert world.counted("undecodable", "gateway") == 1

    in_world(script)
    (event,) = [event for event in events if event["event"] == "undecodable"]
    assert "DE 41" in event["error"]
    assert VISA.pan not in repr(events)
    assert VISA.pan.encode().hex() not in repr(events).replace(" ", "")


@pytest.mark.parametrize("payload", [b"", b"02", b"XXXXXXXXXXXXXXXXXXXX", b"0200", b"0200" + b"F" * 32, b"\x00" * 40])
def test_bytes_that_are_no_message_get_no_answer_and_the_link_stays(payload: bytes) -> None:
    async def script(world: World) -> None:
        wire = await world.network.dial("gateway:1", 1.0)
        assert await raw(wire, payload, 1.0) is None
        good = await raw(wire, Codec(load_dialect("iso87-ascii")).encode(purchase(de2=surrogate(world))))
        assert good is not None and good.elements[39] == "00"

    in_world(script)


def test_lost_framing_closes_the_link_with_a_reason(events: list[structlog.typing.EventDict]) -> None:
    async def script(world: World) -> None:
        wire = await world.network.dial("gateway:1", 1.0)
        await wire.send(b"\xff\xff" + b"GET / HTTP/1.1\r\n")
        assert await wire.receive() == b""
        good = await told(world, purchase(de2=surrogate(world)))
        assert good is not None and good.elements[39] == "00"

    in_world(script)
    reasons = [event["reason"] for event in events if event["event"] == "disconnected" and "reason" in event]
    assert any("framing lost" in reason for reason in reasons)


def test_a_wrong_or_missing_mac_is_63() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        encoded = client.acquirer.encode(purchase())
        wire = await world.network.dial("pos:1", 1.0)
        wrong = encoded[:-1] + (b"0" if encoded[-1:] != b"0" else b"1")
        missing = Codec(load_dialect("iso87-ascii")).encode(purchase())
        nothing_to_pay = purchase()
        nothing_to_pay.elements[4] = "000000000000"
        encoded = client.acquirer.encode(nothing_to_pay)
        wrong_twice = encoded[:-1] + (b"0" if encoded[-1:] != b"0" else b"1")
        for payload in (wrong, missing, wrong_twice):
            answer = await raw(wire, payload)
            assert answer is not None and answer.elements[39] == "63"
        assert world.journal._intents == {}

    in_world(script)


def test_salvage_reads_up_to_the_fault_in_both_dialects() -> None:
    for name in ("iso87-ascii", "iso87-bcd"):
        dialect = load_dialect(name)
        codec = Codec(dialect)
        payload = codec.encode(purchase())
        broken = payload[:-20]
        with pytest.raises(DecodeError) as caught:
            codec.decode(broken)
        message = salvage(codec, dialect, broken, caught.value)
        assert message is not None
        assert (message.mti, message.elements[7], message.elements[11]) == ("0200", "0314092653", "000001")


def test_an_unknown_message_from_an_issuer_is_answered_12() -> None:
    async def script(world: World) -> None:
        server = world.issuers["alpha"]
        wire = server._wires[0]
        await wire.send(framing().encode(server._sealing.encode(purchase(mti="0300"))))
        await trio.sleep(1.0)
        assert world.counted("unexpected", "alpha") == 1
        assert server.issuer.stats["0310"] == 1

    in_world(script)
