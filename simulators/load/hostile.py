"""Hostile peers of one link: a kind of flood at a bounded rate, over few connections, for a bounded time, on loopback.

A `FloodConfig` goes in; the counts of what was sent come out as one JSON line. `cardswitch bench flood` runs it as a
process of its own beside innocent load: `python -m simulators.load.hostile CONFIG.json`.
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
from itertools import count, cycle
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
MAX_CONNECTIONS, MAX_RATE, MAX_SECONDS = 500, 20_000.0, 600.0
READ_BYTES = 65_536


class FloodConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do to whom.

    Args:
        kind: one of `KINDS`. lane: the link; its keys are used by `repeats` only.
        source: the loopback address that it comes from.
        connections: how many at a time. rate: frames (or connections, for a storm) a second, all together.
        seconds: how long.
        exchange: directory of the parties' exported keys.
    """

    kind: str
    lane: LaneConfig
    source: str = "127.0.0.66"
    connections: int = 3
    rate: float = 2_000.0
    seconds: float = 5.0
    exchange: str = ""


class FloodResult(msgspec.Struct, frozen=True):
    """What was sent: frames (or connections) and bytes; `closed` counts connections that the switch has closed."""

    sent: int
    bytes: int
    closed: int


Frames = Iterator[bytes]


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


def _echoes(lane: Lane) -> Frames:
    """Network management: an echo after the other."""
    for number in count(1):
        elements = {7: de7(datetime.now(UTC)), 11: f"{number % 999_999 + 1:06d}", 70: "301"}
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
    """One byte at a time of frames that are never whole."""
    yield b"\x01"
    yield b"\xff"
    while True:
        yield b"0"


def _nothing(lane: Lane) -> Frames:
    while True:
        yield b""


# kind → what is sent; whether by connections that are made and closed again.
KINDS: dict[str, Callable[[Lane], Frames]] = {
    "garbage": _garbage,
    "random-frames": _random_frames,
    "without-mac": _without_mac,
    "wrong-mac": _wrong_mac,
    "half-frames": _half,
    "connect-storm": _nothing,
    "idle-connections": _nothing,
    "echo-storm": _echoes,
    "repeats": _repeats,
    "oversize": _oversize,
    "unknown": _unknown,
}


def run_flood(config: FloodConfig) -> FloodResult:
    """Flood until the time is over; blocking. Raises ValueError for what is not bounded or not loopback."""
    host, port = address_of(config.lane.address)
    if not (ipaddress.ip_address(host).is_loopback and ipaddress.ip_address(config.source).is_loopback):
        raise ValueError("floods go to loopback only")
    if config.connections > MAX_CONNECTIONS or config.rate > MAX_RATE or config.seconds > MAX_SECONDS:
        raise ValueError(f"at most {MAX_CONNECTIONS} connections, {MAX_RATE:g} a second, {MAX_SECONDS:g} s")
    keys = load_party_keys(Path(config.exchange), config.lane.party) if config.exchange and config.lane.party else {}
    frames = KINDS[config.kind](Lane(config.lane, keys))
    return _Flood(config, (host, port), frames).run()


class _Flood:
    def __init__(self, config: FloodConfig, target: tuple[str, int], frames: Frames) -> None:
        self._config = config
        self._target = target
        self._frames = frames
        self._open: list[socket.socket] = []
        self._sent = self._bytes = self._closed = 0

    def run(self) -> FloodResult:
        began = last = time.monotonic()
        owed = connects = 0.0
        try:
            while (now := time.monotonic()) < began + self._config.seconds:
                passed_s, last = now - last, now
                connects = min(RECONNECTS_PER_S, connects + passed_s * RECONNECTS_PER_S)
                if self._config.kind == "connect-storm":
                    owed = self._storm(min(owed + passed_s * self._config.rate, self._config.rate))
                else:
                    while len(self._open) < self._config.connections and connects >= 1:
                        connects -= 1
                        self._connect()
                    owed = self._send(min(owed + passed_s * self._config.rate, self._config.rate))
                    self._read()
                time.sleep(TICK_S)
        finally:
            for connection in self._open:
                connection.close()
        return FloodResult(self._sent, self._bytes, self._closed)

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
        """Send as much as is due, to connections that take it; what they do not take is not made up for."""
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
