"""The traffic of `bench flood` is bounded, goes to loopback, and is what its name says."""

from __future__ import annotations

import socket
import threading
from array import array
from typing import cast

import msgspec
import pytest

from console.bench.flood import (
    NONE,
    ROUNDS,
    SHAPE,
    SHAPES,
    TURN_S,
    UNCOUNTED_S,
    FloodFigures,
    FloodKind,
    Round,
    _kind,
    _measured,
    _processors,
    by_turn,
)
from console.errors import ConsoleError
from console.supervisor import System
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, FrameError
from messages.framing import framing
from simulators.load import LoadResult
from simulators.load.hostile import KINDS, MAX_CONNECTIONS, MAX_RATE, FloodConfig, FloodResult, is_flooded, run_flood
from simulators.load.lane import Lane, LaneConfig

MAC_KEY = bytes(range(16))


def lane(address: str = "127.0.0.1:1") -> Lane:
    return Lane(LaneConfig(link="pos", address=address, mac_key="zak"), {"zak": MAC_KEY})


def _frames(kind: str, count: int = 20) -> list[bytes]:
    decoder = framing().decoder()
    sent = KINDS[kind](lane())
    return [frame for _ in range(count) for frame in decoder.receive(next(sent))]


@pytest.mark.parametrize("kind", ["without-mac", "wrong-mac", "repeats", "echo-storm", "cut-overs"])
def test_valid_messages_can_be_read(kind: str) -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    messages = [codec.decode(frame) for frame in _frames(kind)]
    assert len(messages) == 20
    numbers = {message.elements[11] for message in messages}
    assert len(numbers) == (1 if kind == "repeats" else 20)
    assert all((64 in message.elements) == (kind in ("wrong-mac", "repeats")) for message in messages)


def test_cut_overs_open_today_without_a_mac() -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    for message in map(codec.decode, _frames("cut-overs")):
        assert (message.mti, message.elements[70]) == ("0800", "201")
        assert message.elements[15] == message.elements[7][:4] and 64 not in message.elements


@pytest.mark.parametrize("kind", ["random-frames", "unknown"])
def test_frames_that_are_no_message_are_whole(kind: str) -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    frames = _frames(kind)
    assert len(frames) == 20
    unread = 0
    for frame in frames:
        try:
            codec.decode(frame)
        except DecodeError:
            unread += 1
    assert unread >= 10


def test_unreadable_requests_can_be_answered_and_have_the_mac_of_another() -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    for frame in _frames("unreadable"):
        with pytest.raises(DecodeError, match="DE 22"):
            codec.decode(frame)
        assert {7, 11} <= set(codec.partial(frame).elements)
        codec.mac_input(frame)
        assert not lane().mac_is_right(frame)


def test_wrong_macs_are_wrong_and_repeats_right() -> None:
    innocent = lane()
    assert not any(innocent.mac_is_right(frame) for frame in _frames("wrong-mac"))
    assert all(innocent.mac_is_right(frame) for frame in _frames("repeats"))


def test_lengths_beyond_the_largest_lose_the_framing() -> None:
    with pytest.raises(FrameError):
        _frames("oversize")


def test_half_frames_are_never_whole() -> None:
    assert _frames("half-frames", 200) == []


@pytest.mark.parametrize(
    "change",
    [
        {"lane": LaneConfig(link="pos", address="192.0.2.1:5010")},
        {"source": "192.0.2.1"},
        {"connections": MAX_CONNECTIONS + 1},
        {"rate": MAX_RATE + 1},
        {"turns": 10_000},
    ],
)
def test_a_flood_is_bounded_and_goes_to_loopback(change: dict[str, object]) -> None:
    config = FloodConfig(kind="garbage", lane=LaneConfig(link="pos", address="127.0.0.1:1"))
    with pytest.raises(ValueError, match=r"loopback|at most"):
        run_flood(msgspec.structs.replace(config, **change))


def test_a_flood_ends_in_time_and_counts_what_it_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        got = bytearray()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    got.extend(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        place = LaneConfig(link="pos", address=f"127.0.0.1:{server.getsockname()[1]}")
        config = FloodConfig(kind="random-frames", lane=place, connections=1, rate=200.0, turns=4, turn_s=0.2)
        result = run_flood(config)
        thread.join(5)
    assert 0 < result.sent <= 0.4 * 200
    assert result.bytes == len(got)


def test_a_flood_is_off_in_as_many_turns_as_it_is_on_and_neither_side_comes_first() -> None:
    on = [is_flooded(turn) for turn in range(8)]
    assert on == [False, True, True, False, False, True, True, False]
    assert sum(turn for turn in range(8) if on[turn]) == sum(turn for turn in range(8) if not on[turn])


def test_samples_go_by_the_turn_they_were_sent_in_and_the_end_of_a_flood_does_not_count() -> None:
    def pairs(*samples: tuple[float, float]) -> bytes:
        return array("d", [value for sample in samples for value in sample]).tobytes()

    before, late = (99.0, 9.0), (100 + 4 * TURN_S, 8.0)
    turns = [(100 + turn * TURN_S + into_s, turn + into_s) for turn in range(4) for into_s in (0.1, UNCOUNTED_S, 1.0)]
    quiet, flooded = by_turn(pairs(before, *turns, late), 100.0, 4)
    assert list(quiet) == [0.5, 1.0, 3.5, 4.0]
    assert list(flooded) == [1.1, 1.5, 2.0, 2.1, 2.5, 3.0]  # the beginning of a flood counts
    with pytest.raises(ConsoleError, match="began after"):
        by_turn(pairs(*turns), 100.0, 4)


def test_a_request_without_an_answer_counts_as_a_decline() -> None:
    result = LoadResult(
        seconds=1, sent=100, answered=99, unanswered=1, settled=1, unsettled=0, answers={"00": 97, "91": 2}, per_s=99,
        p50_ms=1, p99_ms=30, max_ms=40, cpu_s=0, wrong_macs=0, reconnects=0, lines=0,
    )  # fmt: skip
    flood = FloodResult(5, 6, 7)
    kind = _kind("garbage", [Round(([0.02] * 99 + [1.0], [0.03] * 99), result, flood, (0.5, 0.6))])
    assert (kind.quiet_p99_ms, kind.flooded_p99_ms, kind.quiet_p50_ms) == (1000.0, 30.0, 20.0)
    kind = _kind("garbage", [Round(([0.02] * 99, [0.03] * 99), result, flood, (0.5, 0.6))])
    assert (kind.ratio, kind.innocent_declines, kind.sent, kind.closed) == (1.5, 3, 5, 7)
    assert (kind.quiet_cpu, kind.flooded_cpu, kind.rounds) == (0.5, 0.6, 1)
    shown = msgspec.json.decode(msgspec.json.encode(FloodFigures([kind], kind, 100.0, 5.0, 2, 2)))
    assert {"kind", "quiet_p99_ms", "flooded_p99_ms", "ratio", "innocent_declines"} <= set(shown["kinds"][0])
    assert isinstance(kind, FloodKind) and set(SHAPES) <= set(KINDS) and SHAPE[1] <= MAX_RATE


def measurement(ratio: float) -> Round:
    result = LoadResult(
        seconds=1, sent=100, answered=100, unanswered=0, settled=1, unsettled=0, answers={"00": 100}, per_s=99,
        p50_ms=1, p99_ms=30, max_ms=40, cpu_s=0, wrong_macs=0, reconnects=0, lines=0,
    )  # fmt: skip
    return Round(([0.02] * 100, [0.02 * ratio] * 100), result, FloodResult(10, 0, 1), (0.5, 0.7))


@pytest.mark.parametrize(
    ("ratios", "rounds", "ratio"),
    [([1.2], 1, 1.2), ([4.0, 1.0], 3, 4.0), ([4.0, 4.0], 3, 4.0)],
    ids=["within the bound", "a good round does not outweigh a bad one", "above the bound"],
)
def test_a_kind_above_the_bound_is_measured_again_and_all_samples_count(
    ratios: list[float], rounds: int, ratio: float
) -> None:
    measured = iter([*ratios, *ratios[-1:] * ROUNDS])
    kind = _measured("garbage", lambda: measurement(next(measured)))
    assert (kind.rounds, kind.ratio, kind.sent, kind.closed) == (rounds, ratio, 10 * rounds, rounds)
    assert (kind.quiet_cpu, kind.flooded_cpu) == (0.5, 0.7)


def test_the_measurement_without_a_flood_is_one_and_sends_nothing() -> None:
    kind = _measured(NONE, lambda: measurement(4.0))
    assert (kind.kind, kind.rounds, kind.connections, kind.rate_per_s) == (NONE, 1, 0, 0.0)
    assert NONE not in KINDS


def test_processors_are_counted_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    used_s = iter([0.0, 1.0, 3.0, 5.0, 6.0])  # quiet turns use 1 s, flooded ones 2 s
    monkeypatch.setattr("console.bench.flood.time.monotonic", lambda: now[0])
    monkeypatch.setattr("console.bench.flood.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr("console.bench.flood.cpu_s", lambda pid: next(used_s) if pid == 1 else 0.0)

    class OneWorker:
        def pids_by_group(self) -> dict[str, list[int]]:
            return {"switch": [1], "hsm": [2], "postgresql": [3]}

    quiet, flooded = _processors(cast(System, OneWorker()), 103.0, 4)
    assert (quiet, flooded) == (1 / TURN_S, 2 / TURN_S)
