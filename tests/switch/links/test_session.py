"""One connection of a link: framings and headers, limits and back-pressure, peers that do not read, the goodbye."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

import specs
from messages.framing import FRAMINGS, Framing, framing
from messages.message import Message
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.acquirer_port import AcquirerPort
from switch.links.issuer_line import IssuerLine
from switch.links.limits import IN_FLIGHT, RATE, OverLimit
from switch.links.memory_network import Weather
from switch.links.network import SocketNetwork
from switch.links.session import FULL_BYTES, MAX_OUTWARD_BYTES, STALLED_S
from switch.links.state import LinkState
from tests.switch.links.peers import Desk, Peer, management, request, run, until


@asynccontextmanager
async def on_port(
    desk: Desk, framed: Framing | None = None, **settings: Any
) -> AsyncIterator[tuple[AcquirerPort, Peer]]:
    port = desk.port(**settings)
    async with trio.open_nursery() as nursery:
        await port.listen()
        nursery.start_soon(port.run)
        yield port, Peer(await desk.memory.dial("port:1", 1.0), port.link.dialect, framed)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def on_line(desk: Desk, **settings: Any) -> AsyncIterator[tuple[IssuerLine, Peer]]:
    line = desk.line(sign_on=False, **settings)
    acceptor = await desk.memory.listen("issuer:1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        peer = Peer(await acceptor.accept(), line.link.dialect)
        await until(lambda: line.session)
        yield line, peer
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", FRAMINGS)
def test_every_framing_carries_requests_and_answers(name: str) -> None:
    async def script() -> None:
        desk = Desk()
        async with on_port(desk, framing(name), framing=name) as (_, peer):
            await peer.wire.send(framing(name).encode(b"") * 3)  # keep-alives
            await peer.send(request(1))
            await until(lambda: desk.served)
            desk.answer()
            answered = await peer.receive()
            assert (answered.mti, answered.elements[39]) == ("0210", "00")

    run(script)


@pytest.mark.parametrize(
    ("header", "came", "back"),
    [
        ("tpdu", "6000030001", "6000010003"),
        ("vap", "160102" + "0000" + "111111222222" + "AA" * 11, "160102" + "0000" + "222222111111" + "AA" * 11),
        (4, "01020304", "01020304"),
    ],
)
def test_every_answer_goes_back_by_the_header_of_its_request(header: str | int, came: str, back: str) -> None:
    """Those of the pipeline, of network management, and refusals."""

    async def script() -> None:
        desk = Desk()
        framed = framing(header=header, header_bytes=bytes.fromhex(came))
        async with on_port(desk, framed, header=header) as (port, peer):
            for message in (request(1), management("301"), management("101")):
                await peer.send(message)
                if message.mti == "0200":
                    await until(lambda: desk.served)
                    desk.answer()
                await peer.receive()
            await peer.wire.send(framed.encode(peer.codec.encode(request(2))[:-3]))  # DE 41 is cut off
            refused = await peer.receive()
            assert refused.elements[39] == "30"
            headers = [frame.header for frame in peer.frames]  # type: ignore[attr-defined]
            lengths = slice(3, 5) if header == "vap" else slice(0, 0)  # the length of the whole is its own
            assert {got[: lengths.start] + got[lengths.stop :] for got in headers} == {
                bytes.fromhex(back)[: lengths.start] + bytes.fromhex(back)[lengths.stop :]
            }
            if header == "vap":
                assert [int.from_bytes(got[3:5], "big") for got in headers] == [len(f) + 22 for f in peer.frames]
            assert port.sessions[0].open

    run(script)


def test_what_we_start_goes_with_the_header_of_the_link() -> None:
    async def script() -> None:
        desk = Desk()
        framed = framing(header="tpdu")
        async with on_port(desk, framed, header="tpdu", header_bytes="6000020004", echo_s=5.0) as (_, peer):
            echo = await peer.receive()
            assert echo.elements[70] == "301"
            assert peer.frames[0].header == bytes.fromhex("6000020004")  # type: ignore[attr-defined]

    run(script)


def test_a_frame_above_the_limit_closes_the_connection_with_a_reason() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_port(desk, max_frame=200) as (port, peer):
            await peer.send(request(1))
            await until(lambda: desk.served)
            with capture_logs() as events:
                await peer.wire.send(b"\x00\xc9" + bytes(201))
                assert await peer.receive() is None
                await until(lambda: not port.sessions)
            (event,) = [event for event in events if event["event"] == "disconnected"]
            assert event["reason"] == "framing lost: a frame of 201 bytes is larger than the largest of 200"
            assert desk.meters.value("framing_lost", "pos") == 1

    run(script)


def test_a_frame_above_the_limit_closes_the_connection_behind_whole_frames_too() -> None:
    """In one segment: no more may come, and a connection that is lost must not wait for it."""

    async def script() -> None:
        desk = Desk()
        framed = framing()
        async with on_port(desk, framed, max_frame=200) as (port, peer):
            await until(lambda: port.sessions)
            session = port.sessions[0]
            echo = framed.encode(peer.codec.encode(management("301")))
            await peer.wire.send(echo + b"\x00\xc9" + bytes(201))
            answered = await peer.receive()
            assert (answered.mti, answered.elements[39]) == ("0810", "00")
            await until(lambda: not session.open)
            assert session.close_reason == "framing lost: a frame of 201 bytes is larger than the largest of 200"
            assert desk.meters.value("framing_lost", "pos") == 1

    run(script)


def test_a_keep_alive_that_the_dialect_does_not_know_closes_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "strict.toml"
    file.write_text("keepalive = false\n" + Path(str(specs.__file__)).with_name("iso87-ascii.toml").read_text())

    async def script() -> None:
        desk = Desk()
        async with on_port(desk, dialect=str(file)) as (port, peer):
            await until(lambda: port.sessions)
            session = port.sessions[0]
            await peer.wire.send(b"\x00\x00")
            await until(lambda: not session.open)
            assert session.close_reason == "framing lost: a frame without payload, which this link does not use"

    run(script)


def test_nothing_is_read_while_the_link_is_full() -> None:
    """Excess messages wait with the peer: memory holds those in flight and one read, for any traffic."""

    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0), window=4096))
        async with on_port(desk, max_in_flight=10) as (port, peer):
            sent: list[int] = []

            async def flood() -> None:
                for stan in range(1, 2001):
                    await peer.send(request(stan))
                    sent.append(stan)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                await trio.sleep(5.0)
                assert len(desk.served) == 10 and port.gate.full
                assert len(sent) < 200, "the peer could go on sending"
                answered = 0
                while answered < 2000:
                    await until(lambda: desk.served)
                    desk.answer()
                    assert len(desk.served) <= 10
                    answered += 1
                    assert (await peer.receive()).elements[39] == "00"
            assert port.gate.in_flight == 0 and not desk.refused

    run(script)


def test_a_queue_takes_what_is_above_and_refuses_what_waits_too_long() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_port(desk, max_in_flight=1, queue=2, queue_s=1.0) as (port, peer):
            for stan in (1, 2, 3, 4):
                await peer.send(request(stan))
            await peer.send(request(5, "0201"))
            await trio.sleep(0.5)
            assert (len(desk.served), port.gate.waiting) == (1, 2)
            desk.answer()
            assert (await peer.receive()).elements[11] == "000001"
            await trio.sleep(0.1)
            assert (desk.served[0][1].elements[11], port.gate.waiting) == ("000002", 2)
            refused = [await peer.receive() for _ in range(2)]
            assert [(m.elements[11], m.elements[39]) for m in refused] == [("000003", "91"), ("000004", "91")]
            await trio.sleep(2.0)
            # The original of a repeat may be approved: it gets no answer at all.
            assert desk.meters.value("unanswered", "overloaded") == 1
            assert desk.meters.value("over_limit", "pos", "queue") == 3
            desk.answer()
            await peer.send(request(6))
            await until(lambda: desk.served)

    run(script)


def test_requests_come_no_faster_than_the_rate() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with on_port(desk, rate=10.0) as (_, peer):
            for stan in range(1, 61):
                await peer.send(request(stan))
            for seconds in range(1, 6):
                await trio.sleep(1.0)
                assert abs(len(desk.served) - 10 * (seconds + 1)) <= 1

    run(script)


def test_a_full_link_still_answers_and_sends_network_management() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_line(desk, max_in_flight=2, deadline_s=3.0) as (line, peer):
            ended: list[str] = []

            async def ask(stan: int) -> None:
                try:
                    answer = await line.sessions[0].exchange(request(stan), trio.current_time() + 60.0)
                    ended.append(answer.elements[11])
                except OverLimit as over:
                    ended.append(over.limit)

            async with trio.open_nursery() as nursery:
                for stan in (1, 2):
                    nursery.start_soon(ask, stan)
                    assert (await peer.receive()).elements[11] == f"{stan:06d}"
                await ask(3)
                assert ended == [IN_FLIGHT] and not line.fit
                # Advices and echoes are not held up, in neither direction.
                nursery.start_soon(ask_with, line, request(4, "0420"))
                advice = await peer.receive()
                assert (advice.mti, advice.elements[11]) == ("0420", "000004")
                await peer.answer(advice)
                assert (await peer.asked(management("301"))).elements[39] == "00"
                for stan in (1, 2):
                    await peer.answer(request(stan))
            assert ended == [IN_FLIGHT, "000001", "000002"] and line.fit

    async def ask_with(line: IssuerLine, message: Message) -> None:
        assert (await line.sessions[0].exchange(message, trio.current_time() + 5.0)).elements[39] == "00"

    # `answer` of a peer answers the frame that came last; links without headers do not care which that is.
    run(script)


def test_requests_to_an_issuer_above_its_rate_are_refused_at_once() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_line(desk, rate=2.0) as (line, _):
            limits: list[str] = []

            async def ask(stan: int) -> None:
                try:
                    await line.sessions[0].exchange(request(stan), trio.current_time() + 1.0)
                except OverLimit as over:
                    limits.append(over.limit)
                except ExchangeLost:
                    limits.append("sent")

            async with trio.open_nursery() as nursery:
                for stan in range(1, 6):
                    nursery.start_soon(ask, stan)
                await trio.testing.wait_all_tasks_blocked()
                assert limits == [RATE] * 3
            assert sorted(limits) == [RATE] * 3 + ["sent"] * 2

    run(script)


def test_what_waited_for_a_place_does_not_go_out_on_a_link_that_was_suspended_meanwhile() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_line(desk, max_in_flight=1, queue=1, queue_s=5.0) as (line, peer):
            refused: list[str] = []

            async def ask(stan: int) -> None:
                try:
                    await line.sessions[0].exchange(request(stan), trio.current_time() + 9.0)
                except LinkUnavailable as error:
                    refused.append(str(error))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, 1)
                first = await peer.receive()
                nursery.start_soon(ask, 2)
                await until(lambda: line.gate.waiting)
                line.connections.suspend()
                await peer.answer(first)
            assert refused == ["alpha: suspended"] and line.gate.in_flight == 0
            line.connections.resume()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, 3)
                third = await peer.receive()
                assert third.elements[11] == "000003", "the second never left"
                await peer.answer(third)

    run(script)


def test_a_peer_that_does_not_read_is_not_read_from_and_dropped_in_the_end() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0), window=1024))
        async with on_port(desk, management_rate=0.0) as (port, peer):
            sent: list[int] = []

            async def flood() -> None:
                try:
                    for stan in range(1, 100_000):
                        await peer.send(management("301", stan))
                        sent.append(stan)
                except Exception:
                    return

            await until(lambda: port.sessions)
            session = port.sessions[0]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                await trio.sleep(STALLED_S / 2)
                held = session.unsent_bytes
                assert FULL_BYTES < held < FULL_BYTES + 2 * 65536
                stopped_at = len(sent)
                await trio.sleep(STALLED_S / 4)
                assert len(sent) == stopped_at and session.unsent_bytes == held
                await until(lambda: not session.open, STALLED_S)
            assert session.close_reason == "the peer does not read"

    run(script)


def test_a_peer_that_reads_slowly_keeps_its_connection() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0), window=1))
        async with on_port(desk, management_rate=0.0) as (port, peer):
            count = 3 * FULL_BYTES // 60

            async def flood() -> None:
                for stan in range(1, count + 1):
                    await peer.send(management("301", stan))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                await trio.sleep(1.0)
                for _ in range(count):
                    if not peer._ready:
                        await trio.sleep(STALLED_S / 3)  # one piece at a time
                    assert (await peer.receive()).elements[39] == "00"
            assert port.sessions[0].open

    run(script)


def test_what_is_sent_to_a_peer_that_does_not_read_has_a_limit() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(window=1))
        async with on_port(desk) as (port, _):
            await until(lambda: port.sessions)
            session = port.sessions[0]
            sent = 0
            while session.send(bytes(8000)):
                sent += 8002
                assert session.unsent_bytes <= MAX_OUTWARD_BYTES
            assert session.close_reason == "the peer does not read"
            assert MAX_OUTWARD_BYTES - 8002 < sent <= MAX_OUTWARD_BYTES
            with pytest.raises(LinkUnavailable):
                await session.exchange(request(1), trio.current_time() + 1.0)

    run(script)


def test_the_goodbye_lets_everything_arrive() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.1, 0.2)))
        async with on_port(desk) as (port, peer):
            for stan in range(1, 51):
                await peer.send(request(stan))
            await until(lambda: len(desk.served) == 50)
            port.drain()
            session = port.sessions[0]
            assert session.state is LinkState.DRAINING
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    desk.answer()
                nursery.start_soon(port.connections.end)
                got = [await peer.receive() for _ in range(51)]
                assert [message.elements[11] for message in got[:-1]] == [f"{n:06d}" for n in range(1, 51)]
                assert got[-1] is None  # the end is seen,
                peer.wire.close()
            assert session.close_reason == "closed by the peer"  # and waited for

    run(script)


def test_a_peer_that_does_not_end_its_side_does_not_hold_up_the_goodbye() -> None:
    async def script() -> None:
        desk = Desk()
        async with on_port(desk) as (port, _):
            await until(lambda: port.sessions)
            session = port.sessions[0]
            begun = trio.current_time()
            await port.connections.end()
            assert trio.current_time() - begun == pytest.approx(1.0, abs=0.1)
            assert session.close_reason == "worker stopped"

    run(script)


def test_seeds_of_the_network_do_not_matter_to_frames() -> None:
    """Messages arrive whole in any pieces of the network."""

    async def script() -> None:
        desk = Desk()
        rng = random.Random(5)
        async with on_port(desk) as (_, peer):
            stream = b"".join(framing().encode(peer.codec.encode(request(stan))) for stan in range(1, 101))
            at = 0
            while at < len(stream):
                size = rng.randint(1, 40)
                await peer.wire.send(stream[at : at + size])
                at += size
            await until(lambda: len(desk.served) == 100)
            assert [message.elements[11] for _, message, _ in desk.served] == [f"{n:06d}" for n in range(1, 101)]

    run(script)


def test_back_pressure_reaches_the_peer_on_real_sockets() -> None:
    """Unread bytes fill the buffers of both kernels, and then the peer's send waits."""

    async def script() -> None:
        desk = Desk(network=SocketNetwork())
        total = 1_000_000  # messages, more than kernels hold
        async with trio.open_nursery() as nursery:
            port = desk.port(listen="127.0.0.1:0", max_in_flight=5)
            await port.listen()
            nursery.start_soon(port.run)
            peer = Peer(await SocketNetwork().dial(port.address, 1.0))
            frame = framing().encode(peer.codec.encode(request(1)))
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while sent < total:
                    await peer.wire.send(frame * 100)
                    sent += 100

            with trio.move_on_after(5.0) as scope:
                nursery.start_soon(flood)
                stood = -1
                while stood != sent or not sent:
                    stood = sent
                    await trio.sleep(0.1)
            assert not scope.cancelled_caught and sent < total
            assert len(desk.served) == 5 and not desk.refused
            for stan in range(50):  # it goes on as places become free
                desk.answer()
                await until(lambda: len(desk.served) == 5, 5.0)
                assert (await peer.receive()).elements[39] == "00", stan
            nursery.cancel_scope.cancel()
        peer.wire.close()

    trio.run(script)
