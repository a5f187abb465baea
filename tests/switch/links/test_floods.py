"""Strangers at the port of a link: their traffic costs little, ends soon, and leaves other connections alone."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import structlog
import trio

from switch.errors import WireError
from switch.links import conduct
from switch.links.conduct import PER_ADDRESS, RATE, Admission, Conduct, Pace, address_key
from switch.links.memory_network import Weather
from switch.links.session import FRAMES_A_TURN
from tests.switch.links.peers import Desk, Peer, management, request, run, until

GARBAGE = b"\x00\x10" + b"\xff" * 16  # a frame that is no message


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(2, "big") + payload


async def _connected(desk: Desk, nursery: trio.Nursery, **settings: Any) -> tuple[Any, Peer]:
    port = desk.port(**settings)
    await port.listen()
    nursery.start_soon(port.run)
    return port, Peer(await desk.memory.dial("port:1", 1.0))


def test_bad_frames_in_a_row_end_a_connection_with_a_reason() -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            port, peer = await _connected(desk, nursery, max_bad_frames=10)
            assert (await peer.asked(management("301"))) is not None
            session = port.sessions[0]
            await peer.wire.send(GARBAGE * 9)
            assert (await peer.asked(management("301"))) is not None  # a good one: the count starts again
            assert session.open
            await peer.wire.send(GARBAGE * 100)
            with trio.fail_after(30):
                assert await peer.receive() is None
            assert session.close_reason.startswith("10 bad frames in a row, the last: ")
            await until(lambda: desk.meters.value("misbehaved", "pos") == 1)
            assert desk.meters.value("undecodable", "pos") == 19
            nursery.cancel_scope.cancel()

    run(script)


def test_a_connection_that_we_dialled_is_not_ended_by_bad_frames() -> None:
    assert Conduct().max_bad == 0


def test_other_connections_have_their_turn_between_the_frames_of_a_flood() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            _, peer = await _connected(desk, nursery)
            await peer.wire.send(b"".join(framed(peer.codec.encode(request(stan))) for stan in range(1, 201)))
            while not desk.served:  # noqa: ASYNC110
                await trio.sleep(0.001)
            seen = [len(desk.served)]
            for _ in range(300):  # an innocent task, which has a turn each time
                await trio.lowlevel.checkpoint()
                seen.append(len(desk.served))
            assert max(after - before for before, after in itertools.pairwise(seen)) <= FRAMES_A_TURN
            nursery.cancel_scope.cancel()

    run(script)


def test_a_bad_frame_ends_the_turn_of_its_connection() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            _, peer = await _connected(desk, nursery, mac_key="zak-pos")
            await peer.wire.send(GARBAGE * (conduct.FREE_FRAMES + conduct.STRANGERS_BURST))
            seen = [0]
            for _ in range(300):  # an innocent task, which has a turn each time
                await trio.lowlevel.checkpoint()
                seen.append(int(desk.meters.value("undecodable", "pos")))
            assert seen[-1] == conduct.FREE_FRAMES + conduct.STRANGERS_BURST
            # One before and one after the innocent task in a pass of the scheduler, which shuffles them.
            assert max(after - before for before, after in itertools.pairwise(seen)) <= 2
            nursery.cancel_scope.cancel()

    run(script)


def test_few_bad_frames_of_many_connections_are_taken_at_once() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            port = desk.port(mac_key="zak-pos")
            await port.listen()
            nursery.start_soon(port.run)
            for _ in range(5):
                wire = await desk.memory.dial("port:1", 1.0)
                await wire.send(GARBAGE * 40)
            await trio.sleep(0.1)
            at_once = 5 * conduct.FREE_FRAMES + conduct.STRANGERS_BURST
            assert at_once <= desk.meters.value("undecodable", "pos") <= at_once + 0.1 * conduct.STRANGERS_PER_S
            nursery.cancel_scope.cancel()

    run(script)


def test_lines_and_dumps_of_bad_frames_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = 0

    def dump(frame: bytes) -> str:
        nonlocal dumps
        dumps += 1
        return ""

    monkeypatch.setattr("switch.links.link_end.masked_hex_dump", dump)

    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            _, peer = await _connected(desk, nursery, max_bad_frames=0)
            with structlog.testing.capture_logs() as lines:
                await peer.wire.send(GARBAGE * 300)
                while desk.meters.value("undecodable", "pos") < 300:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            taken_s = trio.current_time()
            written = [line for line in lines if line["event"] == "undecodable"]
            assert len(written) == dumps <= 5 + 5 * taken_s + 1
            assert sum(line["frames_before"] for line in written) + len(written) <= 300
            nursery.cancel_scope.cancel()

    run(script)


def test_bad_frames_come_no_faster_than_strangers_may() -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            _, peer = await _connected(desk, nursery, max_bad_frames=0)
            begun = trio.current_time()
            await peer.wire.send(GARBAGE * 300)
            while desk.meters.value("undecodable", "pos") < 300:  # noqa: ASYNC110
                await trio.sleep(0.05)
            allowed_s = (300 - conduct.FREE_FRAMES - conduct.STRANGERS_BURST) / conduct.STRANGERS_PER_S
            assert trio.current_time() - begun >= allowed_s - 0.1
            nursery.cancel_scope.cancel()

    run(script)


def test_network_management_is_served_at_a_rate() -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            _, peer = await _connected(desk, nursery, management_rate=10.0)
            begun = trio.current_time()
            count = conduct.MANAGEMENT_BURST + 50
            await peer.wire.send(b"".join(framed(peer.codec.encode(management("301", n))) for n in range(1, count + 1)))
            for _ in range(count):
                assert (await peer.receive()).elements[39] == "00"
            assert trio.current_time() - begun >= 4.9
            nursery.cancel_scope.cancel()

    run(script)


@pytest.mark.parametrize(
    ("bytes_sent", "reason"),
    [(b"", "no message in 60 s"), (b"\x00\x20half", "a frame was not complete after 20 s")],
    ids=["silent", "half a frame"],
)
def test_a_connection_that_sends_no_whole_message_is_closed(bytes_sent: bytes, reason: str) -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            port, peer = await _connected(desk, nursery, silent_s=60.0, frame_s=20.0)
            if bytes_sent:
                await peer.wire.send(bytes_sent)
            await until(lambda: port.sessions)
            ended = port.sessions[0]
            with trio.fail_after(70):
                assert await peer.wire.receive() == b""
            assert ended.close_reason == reason
            speaking = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await speaking.asked(management("301"))) is not None
            session = port.sessions[-1]
            await trio.sleep(600)
            assert session.open  # it has said something once, and may be silent
            nursery.cancel_scope.cancel()

    run(script)


def test_bytes_that_come_one_by_one_do_not_keep_half_a_frame_alive() -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            port, peer = await _connected(desk, nursery, frame_s=20.0)

            async def drip() -> None:
                await peer.wire.send(b"\x00\xff")
                with contextlib.suppress(WireError):
                    for _ in range(100):
                        await trio.sleep(1.0)
                        await peer.wire.send(b"0")

            nursery.start_soon(drip)
            await trio.sleep(1.0)
            session = port.sessions[0]
            await trio.sleep(25.0)
            assert session.close_reason == "a frame was not complete after 20 s"
            nursery.cancel_scope.cancel()

    run(script)


def test_a_silent_connection_makes_room_for_another() -> None:
    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            port, peer = await _connected(desk, nursery, max_connections=2, max_per_address=2)
            assert (await peer.asked(management("301"))) is not None
            silent = await desk.memory.dial("port:1", 1.0)
            await trio.sleep(10.0)
            port.connections._admission.left("dialler of port:1")  # as if the next came from another address
            third = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await third.asked(management("301"))) is not None
            assert await silent.receive() == b""
            assert port.sessions[0].open
            nursery.cancel_scope.cancel()

    run(script)


def test_a_connection_without_a_right_mac_makes_room_for_another() -> None:
    """An echo without MAC is answered, and is no reason to keep a place for ever."""

    async def script() -> None:
        desk = Desk()
        async with trio.open_nursery() as nursery:
            port, peer = await _connected(desk, nursery, max_connections=2, max_per_address=3, mac_key="zak-pos")
            assert (await peer.asked(management("301"))) is not None
            port.sessions[0].believe()  # as after its first message with a MAC
            stranger = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await stranger.asked(management("301"))) is not None
            await trio.sleep(10.0)
            third = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await third.asked(management("301"))) is not None
            assert await stranger.receive() is None
            assert port.sessions[0].open
            nursery.cancel_scope.cancel()

    run(script)


def test_one_address_has_a_share_of_the_connections() -> None:
    admission = Admission(per_address=2)
    assert [admission.refuse(f"198.51.100.7:{port}", 0.0) for port in range(3)] == ["", "", PER_ADDRESS]
    assert admission.refuse("198.51.100.8:1", 0.0) == ""
    admission.left("198.51.100.7:1")
    assert admission.refuse("198.51.100.7:9", 0.0) == ""


def test_one_address_makes_connections_at_a_rate() -> None:
    admission = Admission(per_address=10_000)
    refused = [admission.refuse(f"198.51.100.7:{number}", number / 1000) for number in range(2000)]
    assert refused.count("") <= conduct.CONNECTIONS_BURST + 2 * conduct.CONNECTIONS_PER_S
    assert set(refused) == {"", RATE}


def test_a_connection_that_ends_badly_counts_for_several_of_its_address() -> None:
    admission = Admission(per_address=10_000)
    taken = 0
    for number in range(2000):
        if not admission.refuse(f"198.51.100.7:{number}", number / 100):
            taken += 1
            admission.ended_badly(f"198.51.100.7:{number}", number / 100)
            admission.left(f"198.51.100.7:{number}")
    allowed = conduct.CONNECTIONS_BURST + 20 * conduct.CONNECTIONS_PER_S
    assert allowed / conduct.BAD_END - 1 <= taken <= allowed / conduct.BAD_END + 1
    assert admission.refuse("198.51.100.8:1", 20.0) == ""


def test_an_address_whose_connections_all_end_badly_at_once_is_refused_for_a_bounded_time() -> None:
    admission = Admission(per_address=1000)
    peers = [f"198.51.100.7:{number}" for number in range(conduct.CONNECTIONS_BURST)]
    assert [admission.refuse(peer, 0.0) for peer in peers] == [""] * len(peers)
    for peer in peers:
        admission.ended_badly(peer, 0.0)
        admission.left(peer)
    assert admission.refuse("198.51.100.7:1", conduct.BAD_ENDS_S - 0.2) == RATE
    assert admission.refuse("198.51.100.7:1", conduct.BAD_ENDS_S + 0.2) == ""


@pytest.mark.parametrize(
    "sent", [b"\xff\xff" + b"0" * 20, GARBAGE * 30], ids=["bytes without frames", "frames that are no message"]
)
def test_an_address_whose_connections_end_badly_makes_fewer(sent: bytes) -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            port = desk.port(max_bad_frames=1)
            await port.listen()
            nursery.start_soon(port.run)
            for _ in range(2 * conduct.CONNECTIONS_BURST):
                wire = await desk.memory.dial("port:1", 1.0)
                with contextlib.suppress(WireError):
                    await wire.send(sent)
                assert await wire.receive() == b""
            passed_s = trio.current_time()
            most = (conduct.CONNECTIONS_BURST + conduct.CONNECTIONS_PER_S * passed_s) / conduct.BAD_END + 1
            ended = sum(desk.meters.value(name, "pos") for name in ("framing_lost", "misbehaved"))
            assert ended == desk.meters.value("sessions_closed", "pos") <= most
            nursery.cancel_scope.cancel()

    run(script)


def test_connections_that_are_refused_do_not_keep_others_waiting() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            port, _ = await _connected(desk, nursery, max_per_address=10, max_connections=20)
            begun = trio.current_time()
            for _ in range(10 * conduct.ACCEPTED_BURST):
                await desk.memory.dial("port:1", 1.0)
            refused = 10 * conduct.ACCEPTED_BURST - 9
            reasons = (PER_ADDRESS, RATE)
            await until(lambda: sum(desk.meters.value("connections_refused", "pos", r) for r in reasons) == refused, 60)
            assert trio.current_time() - begun < 1.0
            assert port.connections._accepting.wait_s(trio.current_time()) == 0.0
            nursery.cancel_scope.cancel()

    run(script)


def test_few_new_connections_of_all_addresses_are_taken_at_once() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            port = desk.port(max_connections=100, max_per_address=100)
            await port.listen()
            nursery.start_soon(port.run)
            for _ in range(60):
                await desk.memory.dial("port:1", 1.0)
            await trio.sleep(0.1)
            most = conduct.ACCEPTED_BURST + 1 + 0.1 * conduct.ACCEPTED_PER_S
            assert conduct.ACCEPTED_BURST <= len(port.sessions) <= most
            await until(lambda: len(port.sessions) == 60)
            nursery.cancel_scope.cancel()

    run(script)


def test_lines_about_refused_connections_are_sampled_and_all_are_counted() -> None:
    async def script() -> None:
        desk = Desk(weather=Weather(delay_s=(0.0, 0.0)))
        async with trio.open_nursery() as nursery:
            await _connected(desk, nursery, max_per_address=1)
            with structlog.testing.capture_logs() as lines:
                for _ in range(500):
                    await desk.memory.dial("port:1", 1.0)
                await until(lambda: desk.meters.value("connections_refused", "pos", PER_ADDRESS) == 500)
                taken_s = trio.current_time()
            written = [line for line in lines if line["event"] == "too_many_connections"]
            assert 1 <= len(written) <= 5 + 5 * taken_s + 1
            assert sum(line["connections_before"] for line in written) + len(written) <= 500
            nursery.cancel_scope.cancel()

    run(script)


def test_addresses_are_forgotten_once_there_are_very_many() -> None:
    admission = Admission(per_address=1)
    for number in range(2 * conduct.MAX_ADDRESSES):
        peer = f"host-{number}:1"
        assert admission.refuse(peer, 0.0) == ""
        admission.left(peer)
    assert len(admission._addresses) == conduct.MAX_ADDRESSES


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("198.51.100.7:5010", "198.51.100.7"),
        ("2001:db8::1:5010", "2001:db8::/64"),
        ("[2001:db8::7]:5010", "2001:db8::/64"),
        ("::ffff:198.51.100.7:5010", "198.51.100.7"),
        ("elsewhere", "elsewhere"),
    ],
)
def test_what_counts_as_one_address(peer: str, key: str) -> None:
    assert address_key(peer) == key


def test_a_peer_that_is_believed_waits_for_nothing_and_one_that_is_not_for_its_turn() -> None:
    strangers = Pace(50, 1)
    mine, other = (Conduct(known=False, strangers=strangers, max_bad=5) for _ in range(2))
    assert [mine.frame_wait_s(0.0) for _ in range(conduct.FREE_FRAMES)] == [0.0] * conduct.FREE_FRAMES
    waits = [who.frame_wait_s(0.0) for _ in range(50) for who in (mine, other)]
    assert max(waits) > 1.5  # all strangers of a link together
    mine.believe()
    assert not mine.watched and mine.frame_wait_s(0.0) == 0.0
    assert [mine.distrust() for _ in range(5)] == [False] * 4 + [True]


def judged(seen: Conduct, new: bool | None, now: float = 0.0) -> None:
    seen.taken()
    seen.judged(new, now)


def test_very_many_repeats_slow_a_connection_down() -> None:
    seen = Conduct()
    for _ in range(conduct.REPEATS_BURST):
        judged(seen, False)
    assert not seen.watched
    for _ in range(int(conduct.REPEATS_PER_S)):
        judged(seen, False)
    assert seen.watched and 0.9 < seen.pause_s(0.0) <= 1.1
    seen.believe()  # by the MAC of another repeat
    assert seen.watched and 0.9 < seen.pause_s(0.0) <= 1.1
    assert seen.pause_s(5.0) == 0.0 and not seen.watched


def test_a_connection_has_few_requests_at_once_until_one_of_them_is_new() -> None:
    seen = Conduct()
    for _ in range(conduct.UNJUDGED):
        assert not seen.watched
        seen.taken()
    assert seen.crowded
    seen.judged(None, 0.0)  # neither new nor a repeat: the next one may come, and that is all
    assert not seen.crowded
    seen.taken()
    assert seen.crowded
    seen.judged(True, 0.0)
    for _ in range(1000):
        seen.taken()
    assert not seen.crowded and not seen.watched
    seen.judged(False, 0.0)
    assert seen.crowded
    seen.judged(True, 0.0)
    assert not seen.crowded


def test_repeats_over_many_connections_keep_to_the_pace_of_strangers() -> None:
    strangers = Pace(50, 50)
    many = [Conduct(strangers=strangers) for _ in range(100)]
    for _ in range(10):
        for one in many:
            judged(one, False)
    assert 18.0 < max(one.pause_s(0.0) for one in many) < 20.0  # 1,000 less 50 at once, 50 a second
    honest = Conduct(strangers=strangers)
    for _ in range(10):
        judged(honest, True)
        judged(honest, False)
    assert honest.pause_s(0.0) == 0.0


def test_a_flood_of_keep_alives_is_read_at_a_rate() -> None:
    seen = Conduct(management_per_s=10)
    waits = [seen.read(0, 0.0) for _ in range(200)]
    assert waits[: conduct.EMPTY_READS] == [0.0] * conduct.EMPTY_READS and max(waits) > 10
    assert seen.read(1, 0.0) == 0.0
