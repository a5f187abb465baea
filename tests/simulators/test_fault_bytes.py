"""Effects of each fault at the peer of a simulated issuer: bytes and their times, on a clock that jumps.

Refused connections and broken ones are looked at on real sockets below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError
from messages.framing import framing
from messages.message import Message
from simulators.errors import WireLost
from simulators.faults import KINDS, FaultRule
from simulators.faults.rule import OF_ACQUIRERS
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import make_issuer, serve_issuer, serve_party
from simulators.issuer.server import IssuerServer
from simulators.link_keys import LinkKeys
from simulators.sealing import MISSING, WRONG, Sealing
from simulators.wire import SocketListener, SocketWire, dial
from tests.simulators.samples import NOW, request

CODEC = Codec(load_dialect("iso87-ascii"))
FRAMES = framing("2-byte-be", 8192)
MAC_KEY = bytes(range(32))


class Peer:
    """The switch's end of a connection in memory, and the simulator's wire: every segment with its time."""

    peer = "test"

    def __init__(self) -> None:
        self.segments: list[tuple[float, bytes]] = []
        self.closed_at: float | None = None  # by the simulator, before the test was over
        self.ended = False
        self._feed, self._inbox = trio.open_memory_channel[bytes](100)

    # The simulator's view

    async def receive(self) -> bytes:
        try:
            return await self._inbox.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.closed_at is not None:
            raise WireLost("gone")
        self.segments.append((trio.current_time(), data))

    def close(self) -> None:
        if self.closed_at is None and not self.ended:
            self.closed_at = trio.current_time()
        self._inbox.close()

    # The test's actions

    def say(self, *messages: Message, encode: Callable[[Message], bytes] = CODEC.encode) -> None:
        """Several messages in one segment; nothing where the connection is closed."""
        self.feed(b"".join(FRAMES.encode(encode(message)) for message in messages))

    def feed(self, data: bytes) -> None:
        if self.closed_at is None:
            self._feed.send_nowait(data)

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.segments)

    @property
    def messages(self) -> list[Message]:
        """Whole frames as messages."""
        return [CODEC.decode(frame) for frame in FRAMES.decoder().receive(self.bytes)]

    @property
    def stans(self) -> list[str]:
        return [message.elements[11] for message in self.messages]

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.segments]


def scenario(*rules: FaultRule, **changes: Any) -> IssuerScenario:
    values = {"name": "alpha", "default": AccountRule(balance_minor=100_000), "fault": rules, "log_messages": False}
    return IssuerScenario(**{**values, **changes})


def played(script: Callable[[Peer], Awaitable[None]], *rules: FaultRule, **changes: Any) -> Peer:
    """Run a script against an issuer on a jumping clock; returns what the peer has seen."""
    made = scenario(*rules, **changes)
    server = IssuerServer(make_issuer(made, {"mac": MAC_KEY}), made, clock=lambda: NOW)
    peers: list[Peer] = []

    async def main() -> None:
        peers.append(Peer())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, peers[0])
            await script(peers[0])
            peers[0].ended = True
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return peers[0]


async def one(peer: Peer) -> None:
    peer.say(request(1))
    await trio.sleep(60)


async def two_apart(peer: Peer) -> None:
    """Two requests, a second between them."""
    peer.say(request(1))
    await trio.sleep(1)
    peer.say(request(2))
    await trio.sleep(60)


async def three_at_once(peer: Peer) -> None:
    peer.say(request(1), request(2), request(3))
    await trio.sleep(60)


def nth(kind: str, number: int = 1, **changes: Any) -> FaultRule:
    """Strikes one request."""
    return FaultRule(kind=kind, nth=number, **changes)  # type: ignore[arg-type]


SHOWN: set[str] = set()


def shows(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Says which kinds a test shows, so that none is without one."""
    SHOWN.update(kinds)
    return lambda test: test


def test_an_honest_answer_is_one_segment_at_once() -> None:
    peer = played(three_at_once)
    assert (peer.stans, peer.times) == (["000001", "000002", "000003"], [0.0])


@shows("delay", "late")
@pytest.mark.parametrize("kind", ["delay", "late"])
def test_a_delayed_answer_comes_later_and_holds_nobody_up(kind: str) -> None:
    peer = played(two_apart, nth(kind, delay_s=4.0))
    assert (peer.stans, peer.times) == (["000002", "000001"], [1.0, 4.0])


@shows("silence")
def test_silence_is_no_byte() -> None:
    peer = played(two_apart, nth("silence"))
    assert (peer.stans, peer.times, peer.closed_at) == (["000002"], [1.0], None)


@shows("duplicate")
def test_a_duplicate_is_the_same_frame_twice() -> None:
    peer = played(one, nth("duplicate"))
    half = len(peer.bytes) // 2
    assert peer.bytes[:half] == peer.bytes[half:]
    assert peer.stans == ["000001", "000001"]


@shows("reorder")
def test_a_reordered_answer_leaves_behind_the_next_one() -> None:
    assert played(three_at_once, nth("reorder", 2)).stans == ["000001", "000003", "000002"]
    assert played(three_at_once, nth("reorder")).stans == ["000002", "000001", "000003"]
    peer = played(two_apart, nth("reorder", delay_s=30.0))
    assert (peer.stans, peer.times) == (["000002", "000001"], [1.0])


def test_a_reordered_answer_that_nothing_follows_comes_after_its_delay() -> None:
    peer = played(one, nth("reorder", delay_s=30.0))
    assert (peer.stans, peer.times) == (["000001"], [30.0])
    assert played(one, nth("reorder")).times == [1.0]


@shows("wrong-stan")
def test_a_wrong_stan_is_in_an_answer_that_is_right_otherwise() -> None:
    honest, wrong = played(one).messages[0], played(one, nth("wrong-stan")).messages[0]
    assert wrong.elements.pop(11) != honest.elements.pop(11)
    assert wrong == honest


@shows("wrong-card", "wrong-currency", "wrong-processing-code", "wrong-amount")
@pytest.mark.parametrize(
    ("kind", "number", "value"),
    [
        ("wrong-card", 2, "4242424242424243"),
        ("wrong-currency", 49, "840"),
        ("wrong-processing-code", 3, "200000"),
        ("wrong-amount", 4, "000000001001"),
    ],
)
def test_a_wrong_element_is_in_an_answer_that_is_right_otherwise(kind: str, number: int, value: str) -> None:
    honest, wrong = played(one).messages[0], played(one, nth(kind)).messages[0]
    assert honest.elements[number] != value
    assert wrong == Message(honest.mti, {**honest.elements, number: value})


@shows("approve-after-decline")
def test_an_approval_after_a_decline_is_two_answers_to_one_request() -> None:
    honest = played(one).messages[0]
    declined, approved = played(one, nth("approve-after-decline", response_code="51")).messages
    assert approved == honest
    assert {n: v for n, v in declined.elements.items() if honest.elements.get(n) != v} == {39: "51"}
    assert 38 in honest.elements and 38 not in declined.elements


@shows("wrong-mac", "missing-mac")
@pytest.mark.parametrize(("kind", "problem"), [("wrong-mac", WRONG), ("missing-mac", MISSING)])
def test_a_wrong_mac_is_in_an_answer_that_is_right_otherwise(kind: str, problem: str) -> None:
    sealing = Sealing(CODEC, LinkKeys(mac=MAC_KEY), management=False)

    async def script(peer: Peer) -> None:
        peer.say(request(1), request(2), encode=sealing.encode)
        await trio.sleep(1)

    peer = played(script, nth(kind), mac_key="mac")
    frames = FRAMES.decoder().receive(peer.bytes)
    assert [sealing.problem(CODEC.decode(frame), frame) for frame in frames] == [problem, ""]
    assert [message.elements[39] for message in peer.messages] == ["00", "00"]


@shows("garbage")
def test_garbage_is_a_whole_frame_that_is_no_message() -> None:
    honest, peer = played(one), played(two_apart, nth("garbage"))
    noise, answer = FRAMES.decoder().receive(peer.bytes)
    assert len(noise) == len(honest.bytes) - 2
    with pytest.raises(DecodeError):
        CODEC.decode(noise)
    assert CODEC.decode(answer).elements[11] == "000002"  # the framing is intact


@shows("half-frame")
def test_half_a_frame_and_then_silence_with_the_connection_open() -> None:
    honest, peer = played(two_apart), played(two_apart, nth("half-frame"))
    assert peer.closed_at is None
    size = len(honest.segments[0][1])
    assert peer.bytes == honest.bytes[: size // 2]
    assert FRAMES.decoder().receive(peer.bytes) == []


def test_half_a_frame_comes_behind_what_was_answered_before() -> None:
    honest, peer = played(three_at_once), played(three_at_once, nth("half-frame", 2))
    size = len(honest.bytes) // 3
    assert peer.bytes == honest.bytes[: size + size // 2]


@shows("byte-at-a-time")
def test_a_byte_at_a_time_over_its_delay() -> None:
    honest, peer = played(one), played(one, nth("byte-at-a-time", delay_s=5.0))
    assert peer.bytes == honest.bytes
    assert {len(data) for _, data in peer.segments} == {1}
    assert peer.times == sorted(peer.times)
    assert 4.9 < peer.times[-1] < 5.0


def test_answers_stay_whole_behind_slow_bytes() -> None:
    honest, peer = played(two_apart), played(two_apart, nth("byte-at-a-time", delay_s=5.0))
    assert peer.bytes == honest.bytes
    assert peer.times[-1] == 5.0


@shows("disconnect-before", "disconnect-after")
@pytest.mark.parametrize(("kind", "stans"), [("disconnect-before", []), ("disconnect-after", ["000001"])])
def test_a_disconnect_closes_the_connection_at_once(kind: str, stans: list[str]) -> None:
    peer = played(two_apart, nth(kind))
    assert (peer.stans, peer.closed_at) == (stans, 0.0)


def test_a_disconnect_keeps_what_was_answered_before() -> None:
    peer = played(three_at_once, nth("disconnect-before", 3))
    assert (peer.stans, peer.closed_at) == (["000001", "000002"], 0.0)


@shows("decline")
def test_a_decline_on_purpose_looks_like_any_other() -> None:
    [answer] = played(one, nth("decline", response_code="61")).messages
    assert answer.elements[39] == "61"


@pytest.mark.parametrize("kind", sorted(set(KINDS) - OF_ACQUIRERS))
def test_the_same_seed_gives_the_same_bytes_at_the_same_time(kind: str) -> None:
    rules = (
        FaultRule(kind=kind, rate=0.5, delay_s=3.0, distribution="lognormal"),  # type: ignore[arg-type]
        FaultRule(kind="garbage", rate=0.2),
    )

    async def script(peer: Peer) -> None:
        for number in range(1, 20):
            peer.say(request(number))
            await trio.sleep(1)
        await trio.sleep(3600)

    def seen(seed: int) -> tuple[list[tuple[float, bytes]], float | None]:
        peer = played(script, *rules, seed=seed)
        return [(round(at, 6), data) for at, data in peer.segments], peer.closed_at

    assert seen(7) == seen(7)
    assert any(seen(7) != seen(other) for other in range(8, 12))


# Real sockets


async def listening(nursery: trio.Nursery, *rules: FaultRule) -> tuple[str, int]:
    address: tuple[str, int] = await nursery.start(partial(serve_issuer, scenario(*rules), keys={}))
    return address


async def received(wire: SocketWire) -> bytes:
    """All until the peer closes."""
    data = b""
    with trio.fail_after(5):
        while more := await wire.receive():
            data += more
    return data


async def asked(address: tuple[str, int], stan: int) -> bytes:
    """One request on a connection of its own; everything that comes until it ends or nothing more comes."""
    wire = await dial(address)
    data = b""
    with trio.move_on_after(0.3):
        await wire.send(FRAMES.encode(CODEC.encode(request(stan))))
        data = await received(wire)
    wire.close()
    return data


@shows("refuse")
def test_refused_connections_are_closed_at_once_until_the_time_is_over() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            address = await listening(nursery, nth("refuse", delay_s=0.4))
            first, second = await dial(address), await dial(address)
            await first.send(FRAMES.encode(CODEC.encode(request(1))))
            assert await received(first) == b""
            assert await received(second) == b""  # every connection drops
            third = await dial(address)
            assert await received(third) == b""
            await trio.sleep(0.5)
            fourth = await dial(address)
            await fourth.send(FRAMES.encode(CODEC.encode(request(2))))
            with trio.fail_after(5):
                assert CODEC.decode((await fourth.receive())[2:]).elements[39] == "00"
            for wire in (first, second, third, fourth):
                wire.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_closed_port_refuses_connections_until_the_time_is_over() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            address = await listening(nursery, nth("refuse", delay_s=0.5, listening=False))
            first = await dial(address)
            await first.send(FRAMES.encode(CODEC.encode(request(1))))
            assert await received(first) == b""
            await trio.sleep(0.2)  # the port is closed within 50 ms
            with pytest.raises(WireLost, match="cannot connect"):
                await dial(address)
            await trio.sleep(0.6)
            again = await dial(address)
            await again.send(FRAMES.encode(CODEC.encode(request(2))))
            with trio.fail_after(5):
                assert CODEC.decode((await again.receive())[2:]).elements[39] == "00"
            first.close()
            again.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_party_that_dials_stays_away_as_long_as_it_refuses() -> None:
    async def main() -> None:
        listener = SocketListener(("127.0.0.1", 0))
        made = scenario(nth("refuse", delay_s=0.4, listening=False), dial=f"127.0.0.1:{listener.address[1]}")
        server = IssuerServer(make_issuer(made, {}), made)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_party, server, made)
            first = await listener.accept()
            await first.send(FRAMES.encode(CODEC.encode(request(1))))
            assert await received(first) == b""
            start = trio.current_time()
            with trio.fail_after(5):
                second = await listener.accept()
            assert trio.current_time() - start > 0.3
            await second.send(FRAMES.encode(CODEC.encode(request(2))))
            with trio.fail_after(5):
                assert CODEC.decode((await second.receive())[2:]).elements[39] == "00"
            first.close()
            second.close()
            nursery.cancel_scope.cancel()
        listener.close()

    trio.run(main)


def test_faults_on_a_real_socket() -> None:
    """The peer's own socket: half a frame with the connection open, an end of stream, and single bytes."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            rules = (nth("half-frame", 2), nth("disconnect-before", 2), nth("byte-at-a-time", 2, delay_s=0.05))
            address = await listening(nursery, *rules)
            honest = await asked(address, 1)
            assert await asked(address, 2) == honest[: len(honest) // 2]
            assert await asked(address, 3) == b""
            assert await asked(address, 4) == honest.replace(b"000001", b"000004")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_every_kind_is_shown() -> None:
    assert set(KINDS) - OF_ACQUIRERS == SHOWN
