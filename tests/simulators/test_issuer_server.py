"""The shell of a simulated party on a wire: framings, headers, what it starts, what it refuses, broken input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError
from messages.framing import FRAMINGS, TERMINATED
from messages.message import Message
from messages.mti import response_mti
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import make_issuer
from simulators.issuer.server import STARTED_TRIES, IssuerServer
from tests.simulators.samples import NOW, PAN, request
from tests.simulators.test_fault_bytes import FRAMES, Peer

DIALECT = load_dialect("iso87-ascii")
CODEC = Codec(DIALECT)


def scenario(**changes: Any) -> IssuerScenario:
    values = {"name": "alpha", "default": AccountRule(balance_minor=100_000), "log_messages": False}
    return IssuerScenario(**{**values, **changes})


def played(script: Callable[[Peer, IssuerServer], Awaitable[None]], **changes: Any) -> Peer:
    """Run a script against an issuer on a jumping clock; returns what the peer has seen."""
    made = scenario(**changes)
    server = IssuerServer(make_issuer(made, {"mac": bytes(range(32))}), made, clock=lambda: NOW)
    peers: list[Peer] = []

    async def main() -> None:
        peers.append(Peer())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, peers[0])
            nursery.start_soon(server.run_started)
            await trio.testing.wait_all_tasks_blocked()
            await script(peers[0], server)
            peers[0].ended = True
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return peers[0]


FRAMED = [
    (name, header) for name in FRAMINGS for header in ("", "tpdu", "vap", 7) if not (header and name in TERMINATED)
]


@pytest.mark.parametrize(("name", "header"), FRAMED)
def test_every_framing_and_header_and_garbage_in_it(name: str, header: str | int) -> None:
    made = scenario(framing=name, header=header)
    framing = made.framed(DIALECT)
    start = {"": b"", "tpdu": bytes.fromhex("6000010002")}.get(header, b"") if isinstance(header, str) else b""
    ours = scenario(framing=name, header=header, header_bytes=start.hex()).framed(DIALECT)

    async def script(peer: Peer, server: IssuerServer) -> None:
        peer.feed(b"".join(ours.encode(CODEC.encode(request(stan))) for stan in (1, 2, 3)))
        await trio.sleep(1)

    rule = FaultRule(kind="garbage", nth=2)
    peer = played(script, framing=name, header=header, fault=(rule,))
    first, noise, last = framing.decoder().receive(peer.bytes)
    assert [CODEC.decode(frame).elements[11] for frame in (first, last)] == ["000001", "000003"]
    with pytest.raises(DecodeError):
        CODEC.decode(noise)
    if header == "tpdu":
        assert first.header.hex() == "6000020001"  # type: ignore[attr-defined]


def test_bytes_that_are_no_message_do_not_end_the_connection() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        peer.feed(FRAMES.encode(b"0100 nothing more") + FRAMES.encode(CODEC.encode(request(1))))
        await trio.sleep(1)

    peer = played(script)
    assert (peer.stans, peer.closed_at) == (["000001"], None)


def test_lost_framing_ends_the_connection() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        peer.feed(FRAMES.encode(CODEC.encode(request(1))) + b"\xff\xff" + b"x" * 100)
        await trio.sleep(1)

    peer = played(script, max_frame=1_000)
    assert peer.closed_at == 0.0


def test_more_connections_than_allowed_are_closed() -> None:
    others: list[Peer] = []

    async def script(peer: Peer, server: IssuerServer) -> None:
        others.append(Peer())
        await server.serve(others[0])
        assert server.connections == 1

    peer = played(script, max_connections=1)
    assert (others[0].closed_at, peer.closed_at) == (0.0, None)


def test_a_message_without_its_mac_is_refused() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        peer.say(request(1))
        peer.say(Message("0110", request(2).elements))
        await trio.sleep(1)
        assert server.issuer.stats == {"mac refused": 2}

    [answer] = played(script, mac_key="mac").messages
    assert answer.elements[39] == "63"


def test_a_party_signs_on_by_itself_where_it_should() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        await trio.lowlevel.checkpoint()

    [message] = played(script, sign_on=True).messages
    assert (message.mti, message.elements[70]) == ("0800", "001")
    assert played(script).messages == []


def answered(message: Message, code: str = "00") -> Message:
    return Message(response_mti(message.mti), {**message.elements, 39: code})


def test_what_is_started_is_repeated_until_it_is_answered() -> None:
    codes: list[str] = []

    async def script(peer: Peer, server: IssuerServer) -> None:
        message = server.list_card(PAN, "add")
        await trio.sleep(7)
        peer.say(answered(message))
        codes.append(await server.answer_of(message))
        await trio.sleep(30)

    peer = played(script)
    assert [message.mti for message in peer.messages] == ["0302", "0303", "0303"]
    assert peer.times == [0.0, 3.0, 6.0]
    assert len({tuple(message.elements.items()) for message in peer.messages}) == 1
    assert codes == ["00"]


def test_what_nobody_answers_is_given_up_but_a_chargeback_is_not() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        peer.say(request(1, 500, "0200"))
        await trio.sleep(1)
        echo = server.manage("echo")
        assert await server.answer_of(echo) == ""
        server.chargeback("606300000001")
        await trio.sleep(600)
        assert [message.mti for message in server.issuer.open_messages()] == ["0422"]

    peer = played(script)
    mtis = [message.mti for message in peer.messages]
    assert mtis.count("0800") + mtis.count("0801") == STARTED_TRIES
    assert mtis.count("0423") > 2 * STARTED_TRIES


def test_dropped_connections_may_come_again() -> None:
    async def script(peer: Peer, server: IssuerServer) -> None:
        server.drop()
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections == 0
        again = Peer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, again)
            await trio.testing.wait_all_tasks_blocked()
            assert server.connections == 1
            nursery.cancel_scope.cancel()

    assert played(script).closed_at == 0.0


@pytest.mark.parametrize(("max_frame", "said"), [(8_192, {74, 76, 88, 97}), (150, set()), (44, None)])
def test_what_there_is_no_room_for_is_left_out_of_an_answer(max_frame: int, said: set[int] | None) -> None:
    """Totals that differ are answered with the right ones, where a frame can hold them."""

    async def script(peer: Peer, server: IssuerServer) -> None:
        server.issuer.receive(request(1, 500, "0200"), NOW)
        asked = Message("0500", {7: "0304050607", 11: "000009", 15: "0304", 49: "978"})
        peer.feed(FRAMES.encode(CODEC.encode(asked)))
        await trio.sleep(1)

    peer = played(script, max_frame=max_frame)
    if said is None:
        assert peer.messages == []
    else:
        [answer] = peer.messages
        assert answer.elements[39] == "00"
        assert set(answer.elements) & {74, 76, 88, 97} == said
