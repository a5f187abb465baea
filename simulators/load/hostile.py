"""Hostile peers of one link: a kind of flood at a bounded rate, over few connections, for a bounded time, on loopback.

A `FloodConfig` goes in; the counts of what was sent come out as one JSON line. `cardswitch bench flood` runs it as a
process of its own beside innocent load: `python -m simulators.load.hostile CONFIG.json`. The flood comes in turns, so
that innocents can be measured without and with it within seconds. Its frames are made beforehand: a flood should cost
the switch its processors, not the machine that sends it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, cycle, islice
from pathlib import Path

import msgspec

from hsm.keys.exchange import load_party_keys
from messages.address import address_of
from messages.exchange import de7
from messages.framing import framing
from messages.message import Message
from simulators.load.lane import Lane, LaneConfig
from simulators.load.population import population

TICK_S = 0.005
RECONNECTS_PER_S = 50  # of connections that the switch has closed
PREPARED = 1_000  # frames, which are sent again and again
MAX_CONNECTIONS, MAX_RATE, MAX_SECONDS = 500, 20_000.0, 600.0
READ_BYTES = 65_536


class FloodConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kind and target of a flood.

    Args:
        kind: one of `KINDS`. lane: the link; its keys are used by `repeats` only.
        source: the loopback address that it comes from.
        connections: number at a time. rate: frames (or connections, for a storm) a second, all together.
        begins_at: on `time.monotonic()`. turns: number, of `turn_s` seconds each; `is_flooded` has the flooded ones.
        exchange: directory of the parties' exported keys.
    """

    kind: str
    lane: LaneConfig
    source: str = "127.0.0.66"
    connections: int = 3
    rate: float = 2_000.0
    begins_at: float = 0.0
    turns: int = 4
    turn_s: float = 2.5
    exchange: str = ""


class FloodResult(msgspec.Struct, frozen=True):
    """Sent traffic: frames (or connections) and bytes; `closed` counts connections that the switch has closed."""

    sent: int
    bytes: int
    closed: int


Frames = Iterator[bytes]


def is_flooded(turn: int) -> bool:
    """Whether the flood is on in a turn, counted from 0: off, on, on, off, and so on, so that a machine that becomes
    slower or faster by itself favours neither."""
    return turn % 4 in (1, 2)


def _garbage(lane: Lane) -> Frames:
    """Bytes that are not even frames."""
    source = random.Random(1)
    while True:
        yield source.randbytes(200)


def _random_frames(lane: Lane) -> Frames:
    """Frames of the right length with random bytes in them."""
    source = random.Random(2)
    while True:
        yield framing().encode(source.randbytes(120))


def _requests(lane: Lane) -> Frames:
    template = lane.template(population(1)[0], "", "HOSTILE", "HOSTILE", "DE")
    while True:
        yield lane.request(template, 100, time.perf_counter())[0]


def _without_mac(lane: Lane) -> Frames:
    """Requests that are right but for the MAC, which is not there."""
    for data in _requests(lane):
        message = lane.codec.decode(data)
        elements = {number: value for number, value in message.elements.items() if number not in (64, 128)}
        yield framing().encode(lane.codec.encode(Message(message.mti, elements)))


def _wrong_mac(lane: Lane) -> Frames:
    """Requests that are right but for the MAC, which is another one."""
    for data in _requests(lane):
        yield framing().encode(data[:-8] + (b"00000000" if data[-8:] != b"00000000" else b"11111111"))


def _unreadable(lane: Lane) -> Frames:
    """Requests with letters for digits in DE 22 and a MAC that is not theirs, which the switch answers with 30."""
    for data in _requests(lane):
        at = lane.codec.offset(lane.codec.decode(data), 22)
        yield framing().encode(data[:at] + b"xxx" + data[at + 3 :])


def _echoes(lane: Lane) -> Frames:
    """Network management: an echo after the other."""
    for number in count(1):
        elements = {7: de7(datetime.now(UTC)), 11: f"{number % 999_999 + 1:06d}", 70: "301"}
        yield framing().encode(lane.codec.encode(Message("0800", elements)))


def _cut_overs(lane: Lane) -> Frames:
    """Cut-overs without a MAC, each to today, which would each be a row of the journal."""
    for number in count(1):
        now = de7(datetime.now(UTC))
        elements = {7: now, 11: f"{number % 999_999 + 1:06d}", 15: now[:4], 32: "66666", 70: "201"}
        yield framing().encode(lane.codec.encode(Message("0800", elements)))


def _repeats(lane: Lane) -> Frames:
    """One request with its right MAC, recorded once, again and again."""
    data = framing().encode(next(_requests(lane)))
    while True:
        yield data


def _oversize(lane: Lane) -> Frames:
    """Lengths beyond what a frame may have."""
    while True:
        yield b"\xff\xff" + b"0" * 100


def _unknown(lane: Lane) -> Frames:
    """Types and elements that no dialect has."""
    bitmaps = cycle(["8000000000000001", "0000000000000001", "FFFFFFFFFFFFFFFF", "4000000000000000"])
    for number, bitmap in zip(cycle(["0150", "9999", "0199", "0620", "0100"]), bitmaps, strict=False):
        yield framing().encode(f"{number}{bitmap}".encode() + b"0" * 60)


def _half(lane: Lane) -> Frames:
    """One byte at a time of frames of 257, which nobody waits for the end of."""
    while True:
        yield b"\x01"


def _nothing(lane: Lane) -> Frames:
    while True:
        yield b""


# kind → what is sent; whether by connections that are made and closed again.
KINDS: dict[str, Callable[[Lane], Frames]] = {
    "garbage": _garbage,
    "random-frames": _random_frames,
    "without-mac": _without_mac,
    "wrong-mac": _wrong_mac,
    "unreadable": _unreadable,
    "half-frames": _half,
    "connect-storm": _nothing,
    "idle-connections": _nothing,
    "echo-storm": _echoes,
    "cut-overs": _cut_overs,
    "repeats": _repeats,
    "oversize": _oversize,
    "unknown": _unknown,
}


def run_flood(config: FloodConfig) -> FloodResult:
    """Flood until the turns are over; blocking. Raises ValueError for what is not bounded or not loopback."""
    host, port = address_of(config.lane.address)
    if not (ipaddress.ip_address(host).is_loopback and ipaddress.ip_address(config.source).is_loopback):
        raise ValueError("floods go to loopback only")
    seconds = max(0.0, config.begins_at - time.monotonic()) + config.turns * config.turn_s
    if config.connections > MAX_CONNECTIONS or config.rate > MAX_RATE or seconds > MAX_SECONDS:
        raise ValueError(f"at most {MAX_CONNECTIONS} connections, {MAX_RATE:g} a second, {MAX_SECONDS:g} s")
    keys = load_party_keys(Path(config.exchange), config.lane.party) if config.exchange and config.lane.party else {}
    frames = list(islice(KINDS[config.kind](Lane(config.lane, keys)), PREPARED))
    return _Flood(config, (host, port), cycle(frames)).run()


class _Flood:
    def __init__(self, config: FloodConfig, target: tuple[str, int], frames: Frames) -> None:
        self._config = config
        self._target = target
        self._frames = frames
        self._open: list[socket.socket] = []
        self._sent = self._bytes = self._closed = 0

    def run(self) -> FloodResult:
        config = self._config
        time.sleep(max(0.0, config.begins_at - time.monotonic()))
        began = time.monotonic()
        try:
            for turn in range(config.turns):
                ends_at = began + (turn + 1) * config.turn_s
                if is_flooded(turn):
                    self._flood(ends_at)
                else:
                    self._close_all()
                    time.sleep(max(0.0, ends_at - time.monotonic()))
        finally:
            self._close_all()
        return FloodResult(self._sent, self._bytes, self._closed)

    def _flood(self, ends_at: float) -> None:
        config, last, owed, connects = self._config, time.monotonic(), 0.0, float(self._config.connections)
        while (now := time.monotonic()) < ends_at:
            passed_s, last = now - last, now
            connects += passed_s * RECONNECTS_PER_S
            owed = min(owed + passed_s * config.rate, config.rate)
            if config.kind == "connect-storm":
                owed = self._storm(owed)
            else:
                while len(self._open) < config.connections and connects >= 1:
                    connects -= 1
                    self._connect()
                connects = min(connects, RECONNECTS_PER_S)
                owed = self._send(owed)
                self._read()
            time.sleep(TICK_S)

    def _close_all(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _connect(self) -> None:
        connection = socket.socket()
        try:
            connection.bind((self._config.source, 0))
            connection.settimeout(0.2)
            connection.connect(self._target)
            connection.setblocking(False)
        except OSError:
            connection.close()
        else:
            self._open.append(connection)

    def _storm(self, owed: float) -> float:
        while owed >= 1:
            owed -= 1
            connection = socket.socket()
            with contextlib.suppress(OSError), connection:
                connection.setblocking(False)
                connection.bind((self._config.source, 0))
                connection.connect_ex(self._target)
                self._sent += 1
        return owed

    def _send(self, owed: float) -> float:
        """Send as much as is due, to connections that take it; the part that they do not take is not made up for."""
        if not self._open:
            return 0.0
        each = int(owed / len(self._open))
        for connection in list(self._open):
            data = b"".join(next(self._frames) for _ in range(each))
            if not data:
                continue
            try:
                self._bytes += connection.send(data)
                self._sent += each
            except BlockingIOError:
                continue
            except OSError:
                self._drop(connection)
        return owed - each * len(self._open) if each else owed

    def _read(self) -> None:
        for connection in list(self._open):
            try:
                if not connection.recv(READ_BYTES):
                    self._drop(connection)
            except BlockingIOError:
                continue
            except OSError:
                self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._closed += 1
        connection.close()
        if connection in self._open:
            self._open.remove(connection)


def main(arguments: list[str]) -> None:
    """`python -m simulators.load.hostile CONFIG.json`: the counts as one JSON line on standard output."""
    config = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=FloodConfig)
    sys.stdout.write(msgspec.json.encode(run_flood(config)).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
