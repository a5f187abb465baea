"""The load generator: authorizations at full speed or a fixed rate, counted, timed, and settled at the end.

A `LoadConfig` goes in, a `LoadResult` and a book file come out. Runs as a process of its own:
`python -m simulators.load CONFIG.json` prints the result as JSON. Unanswered requests are repeated and reversed at the
end by `simulators.acquirer.client`, as by a real acquirer, so that the book can be compared with the ledger.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog
import trio

from hsm.keys.exchange import load_party_keys, load_party_zmk
from messages.address import address_of
from messages.errors import DecodeError, FrameError
from messages.framing import framing
from messages.mti import is_response
from simulators.acquirer.book import Request
from simulators.acquirer.client import AcquirerClient, open_acquirer
from simulators.book import BookLine, write_book
from simulators.errors import Unanswered, WireLost
from simulators.load.lane import Lane, LaneConfig, Waiting
from simulators.load.mix import Mix, MixConfig
from simulators.wire import SocketWire, dial

SWEEP_S = 0.1
TICK_S = 0.002
RECONNECT_S = 0.1
SETTLING = 128  # requests that are settled at the same time
MAX_TRANSACTIONS = 10_000_000


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages and address of a load.

    Args:
        pos: the link for cards, with or without PIN. gateway: the link for surrogates; None: no such third.
        mix: see `simulators.load.mix`.
        seconds: duration of sending; warmup_s: the part of it that is not counted.
        count: stop after so many; 0 for no such limit.
        connections: for each link. in_flight: requests without an answer, all connections together.
        rate: requests a second; 0 for as many as `in_flight` lets.
        timeout_s: an answer later than that counts as none.
        settle_timeout_s: the same for repeats and reversals at the end; settle_s: limit for all of it.
        exchange: directory of the parties' exported keys; "" where there are no keys.
        book_path: where the book goes; "" for nowhere.
        samples_path: where each counted request's time of sending (`time.monotonic()`) and its seconds until the answer
            go, as pairs of native doubles; "" for nowhere.
        bare: frames come back from a relay: nothing is decoded, booked or settled.
    """

    pos: LaneConfig
    gateway: LaneConfig | None = None
    mix: MixConfig = MixConfig()
    surrogates: tuple[str, ...] = ()
    seconds: float = 10.0
    warmup_s: float = 0.0
    count: int = 0
    connections: int = 4
    in_flight: int = 128
    rate: float = 0.0
    timeout_s: float = 10.0
    settle_timeout_s: float = 3.0
    settle_s: float = 60.0
    exchange: str = ""
    book_path: str = ""
    samples_path: str = ""
    bare: bool = False


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a load. Rates and latencies leave the warm-up out; counts do not.

    Args:
        answers: counts by DE 39. unanswered: after the time-out or a dropped connection; of these, `settled` were
            brought to an end and `unsettled` not.
        wrong_macs: of the sample that was verified.
    """

    seconds: float
    sent: int
    answered: int
    unanswered: int
    settled: int
    unsettled: int
    answers: dict[str, int]
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    wrong_macs: int
    reconnects: int
    lines: int


def run_load(config: LoadConfig) -> LoadResult:
    """Run the whole load; blocking.

    Raises:
        WireLost: no connection could be made at the start.
        KeyStoreError: a party's keys cannot be read.
    """
    load = _Load(config)
    try:
        result: LoadResult = trio.run(load.run)
    finally:
        gc.unfreeze()
    if config.samples_path:
        Path(config.samples_path).write_bytes(load.samples.tobytes())
    return result


class _Connection:
    __slots__ = ("fifo", "lane", "unsent", "wire")

    def __init__(self, lane: Lane, wire: SocketWire) -> None:
        self.lane = lane
        self.wire = wire
        self.unsent: list[bytes] = []
        self.fifo: deque[Waiting] = deque()  # for bare relays


class _Load:
    def __init__(self, config: LoadConfig) -> None:
        self._config = config
        self._framing = framing()
        self._lanes = [_lane(config.pos, config.exchange)]
        if config.gateway is not None and config.surrogates:
            self._lanes.append(_lane(config.gateway, config.exchange))
        self._mix = Mix(config.mix, self._lanes, config.surrogates)
        self._live: list[list[_Connection]] = [[] for _ in self._lanes]
        self._dirty: dict[int, _Connection] = {}
        self._sent = self._answered = self._in_flight = self._reconnects = self._wrong_macs = 0
        self._turn = 0
        self._answers: dict[str, int] = {}
        self._latencies = array("d")
        self.samples = array("d")
        self._sending = False
        self._idle = trio.Event()
        self._started = 0.0
        self._counted_from = 0.0
        self._counted_until = float("inf")

    async def run(self) -> LoadResult:
        config = self._config
        cpu = time.process_time()
        async with trio.open_nursery() as nursery:
            for index in range(len(self._lanes)):
                for _ in range(config.connections):
                    wire = await dial(address_of(self._lanes[index].config.address))
                    nursery.start_soon(self._keep, index, wire)
            await trio.sleep(0.05)  # sign-ons go first
            gc.collect()
            gc.freeze()  # templates live for ever: the collector need not look at them
            self._started = time.perf_counter()
            self._counted_from = self._started + config.warmup_s
            nursery.start_soon(self._sweep)
            await self._send_for(config.seconds)
            if not config.count:
                self._counted_until = time.perf_counter()  # counted requests are measured to their last answer
            with trio.move_on_after(config.timeout_s):
                await self._drained()
            elapsed = min(self._counted_until, time.perf_counter()) - self._counted_from
            nursery.cancel_scope.cancel()
        for lane in self._lanes:
            lane.give_up()
        unanswered = sum(len(lane.unanswered) for lane in self._lanes)
        lines = [] if config.bare else await self._settle()
        if config.book_path and not config.bare:
            write_book(Path(config.book_path), lines)
        unsettled = sum(not line.settled for line in lines)
        latencies = self._latencies
        return LoadResult(
            seconds=elapsed,
            sent=self._sent,
            answered=self._answered,
            unanswered=unanswered,
            settled=unanswered - unsettled,
            unsettled=unsettled,
            answers=dict(sorted(self._answers.items())),
            per_s=len(latencies) / elapsed if elapsed > 0 else 0.0,
            p50_ms=percentile_ms(latencies, 0.50),
            p99_ms=percentile_ms(latencies, 0.99),
            max_ms=percentile_ms(latencies, 1.0),
            cpu_s=time.process_time() - cpu,
            wrong_macs=self._wrong_macs,
            reconnects=self._reconnects,
            lines=len(lines),
        )

    async def _send_for(self, seconds: float) -> None:
        """Start transactions until the time or the count is over; answers start the next ones meanwhile."""
        self._sending = True
        with trio.move_on_after(seconds):
            while self._sending:
                self._fill()
                await self._flush()
                await trio.sleep(TICK_S if self._config.rate else SWEEP_S)
        self._sending = False

    async def _drained(self) -> None:
        while self._in_flight:
            self._idle = trio.Event()
            await self._idle.wait()

    def _fill(self) -> None:
        """Start as many transactions as may be under way now."""
        config = self._config
        if not self._sending:
            return
        budget = config.in_flight - self._in_flight
        now = time.perf_counter()
        if config.rate:
            budget = min(budget, int((now - self._started) * config.rate) - self._sent)
        if config.count:
            budget = min(budget, config.count - self._sent)
        budget = min(budget, MAX_TRANSACTIONS - self._sent)
        missed = 0
        while budget > 0 and missed < len(self._mix):
            index, template, amount_minor = self._mix.next()
            live = self._live[index]
            if not live:
                missed += 1  # this link is down just now: others go on
                continue
            self._turn += 1
            connection = live[self._turn % len(live)]
            data, waiting = self._lanes[index].request(template, amount_minor, now)
            connection.unsent.append(self._framing.encode(data))
            if config.bare:
                connection.fifo.append(waiting)
            self._dirty[id(connection)] = connection
            waiting.connection = id(connection)
            self._sent += 1
            self._in_flight += 1
            budget -= 1
        if config.count and self._sent >= config.count:
            self._sending = False

    async def _flush(self) -> None:
        while self._dirty:
            _, connection = self._dirty.popitem()
            data = b"".join(connection.unsent)
            connection.unsent.clear()
            try:
                await connection.wire.send(data)
            except WireLost:
                connection.wire.close()  # its reader finds out

    async def _keep(self, index: int, wire: SocketWire) -> None:
        """Keep one connection of a lane: receive until it drops, then connect again."""
        while True:
            await self._converse(_Connection(self._lanes[index], wire), index)
            while True:
                await trio.sleep(RECONNECT_S)
                try:
                    wire = await dial(address_of(self._lanes[index].config.address))
                    break
                except WireLost:
                    continue
            self._reconnects += 1

    async def _converse(self, connection: _Connection, index: int) -> None:
        lane, wire = connection.lane, connection.wire
        decoder = self._framing.decoder()
        receive = self._echoed if self._config.bare else self._received
        try:
            if not self._config.bare:
                await wire.send(self._framing.encode(lane.sign_on()))
            self._live[index].append(connection)
            while data := await wire.receive():
                now = time.perf_counter()
                for frame in decoder.receive(data):
                    receive(connection, frame, now)
                self._fill()
                if self._dirty:
                    await self._flush()
                if not self._in_flight:
                    self._idle.set()
        except (WireLost, FrameError):
            pass
        finally:
            if connection in self._live[index]:
                self._live[index].remove(connection)
            self._in_flight -= lane.dropped(id(connection))
            wire.close()

    def _received(self, connection: _Connection, frame: bytes, now: float) -> None:
        lane = connection.lane
        try:
            message = lane.codec.decode(frame)
        except DecodeError:
            self._answers["undecodable"] = self._answers.get("undecodable", 0) + 1
            return
        waiting = lane.answered(message)
        if waiting is None:
            if not is_response(message.mti):
                for answer in lane.acquirer.receive(message, datetime.now(UTC)).answers:
                    connection.unsent.append(self._framing.encode(lane.acquirer.encode(answer)))
                    self._dirty[id(connection)] = connection
            return
        self._count(waiting, now)
        code = message.elements.get(39, "")
        self._answers[code] = self._answers.get(code, 0) + 1
        if self._answered % 64 == 0 and not lane.mac_is_right(frame):
            self._wrong_macs += 1

    def _echoed(self, connection: _Connection, frame: bytes, now: float) -> None:
        waiting = connection.fifo.popleft()
        connection.lane.forget(waiting)
        self._count(waiting, now)

    def _count(self, waiting: Waiting, now: float) -> None:
        self._answered += 1
        self._in_flight -= 1
        if waiting.sent_at >= self._counted_from and now <= self._counted_until:
            self._latencies.append(now - waiting.sent_at)
            if self._config.samples_path:
                self.samples.extend((waiting.sent_at, now - waiting.sent_at))

    async def _sweep(self) -> None:
        """Give up what is overdue."""
        while True:
            await trio.sleep(SWEEP_S)
            overdue = time.perf_counter() - self._config.timeout_s
            for lane in self._lanes:
                self._in_flight -= lane.sweep(overdue)
            if not self._in_flight:
                self._idle.set()

    async def _settle(self) -> list[BookLine]:
        """Bring what was not answered to an end; returns the whole book."""
        lines: list[BookLine] = []
        for lane in self._lanes:
            lines += lane.lines()
            if not lane.unanswered:
                continue
            acquirer = lane.acquirer
            pending = deque(acquirer.adopt(message, "authorization", lane.started_at) for message in lane.unanswered)
            address = address_of(lane.config.address)
            with trio.move_on_after(self._config.settle_s):
                async with (
                    open_acquirer(acquirer, address, timeout_s=self._config.settle_timeout_s) as client,
                    trio.open_nursery() as nursery,
                ):
                    for _ in range(min(SETTLING, len(pending))):
                        nursery.start_soon(_settle_some, client, pending)
            lines += acquirer.book()
        return lines


def _lane(config: LaneConfig, exchange: str) -> Lane:
    """A lane with its party's keys."""
    if not (config.party and exchange):
        return Lane(config, {})
    directory = Path(exchange)
    return Lane(config, load_party_keys(directory, config.party), load_party_zmk(directory, config.party))


async def _settle_some(client: AcquirerClient, pending: deque[Request]) -> None:
    while pending:
        try:
            await client.resume(pending.popleft())
        except Unanswered:
            continue  # its line says that it is not settled


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The percentile of so many seconds, in milliseconds; 0.0 where there are none."""
    if not seconds:
        return 0.0
    return round(1000 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))], 3)


def main(arguments: list[str]) -> None:
    """`python -m simulators.load CONFIG.json`: the result as one JSON line on standard output."""
    # Standard output belongs to the result, and one line a settled request would be too much.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    config = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=LoadConfig)
    sys.stdout.write(msgspec.json.encode(run_load(config)).decode() + "\n")
