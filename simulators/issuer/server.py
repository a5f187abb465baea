"""The issuer's shell: connections of the switch in, answers out; called by `cardswitch sim issuer` and by tests.

One read of a socket is one batch: every message in it is decoded, answered by the core, and all answers leave in one
send. Delayed answers leave by tasks of their own. Chargebacks are sent, and repeated, until they are acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog
import trio

from messages.address import address_of
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, FrameError
from messages.framing import framing
from messages.message import Message
from messages.mti import repeat_mti
from simulators.control import serve_control
from simulators.errors import BookError, ScenarioError, WireLost
from simulators.issuer import Action, Disconnect, Issuer
from simulators.issuer.book import IssuerBook, encode_entry
from simulators.issuer.scenario import IssuerScenario
from simulators.sealing import Sealing
from simulators.wire import SocketListener, Wire

MAX_DELAYED = 20_000  # answers waiting for their time; more are sent at once
CHARGEBACK_TIMEOUT_S = 3.0
KEY_TIMEOUT_S = 2.0
KEY_TRIES = 3

log = structlog.get_logger("simulators.issuer")


class IssuerServer:
    """Connections of one issuer.

    Args:
        issuer: the core.
        scenario: dialect, framing and limits.
        clock: the time of day, aware UTC.
        lost: what a wire raises where the connection is gone.
        store: called with records of the book after each batch; None keeps it in memory only.
    """

    def __init__(
        self,
        issuer: Issuer,
        scenario: IssuerScenario,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lost: tuple[type[Exception], ...] = (WireLost,),
        store: Callable[[bytes], None] | None = None,
    ) -> None:
        self.issuer = issuer
        self._codec = Codec(load_dialect(scenario.dialect))
        self._sealing = Sealing(self._codec, issuer.keys, management=scenario.mac_management)
        self._framing = framing(scenario.framing, scenario.max_frame)
        self._log_messages = scenario.log_messages
        self._max_connections = scenario.max_connections
        self._clock = clock
        self._lost = lost
        self._store = store
        self._wires: list[Wire] = []
        self._delayed = 0
        self._charged = trio.Event()

    async def serve(self, wire: Wire) -> None:
        """Answer one connection until it ends; closes it."""
        if len(self._wires) >= self._max_connections:
            log.warning("connection refused: too many", issuer=self.issuer.name, peer=wire.peer)
            wire.close()
            return
        decoder = self._framing.decoder()
        self._wires.append(wire)
        log.info("connected", issuer=self.issuer.name, peer=wire.peer)
        reason = "closed by the peer"
        try:
            async with trio.open_nursery() as nursery:
                while data := await wire.receive():
                    answers, goes_on = self._batch(decoder.receive(data), wire, nursery)
                    if answers:
                        await wire.send(answers)
                    if not goes_on:
                        reason = "closed by a fault"
                        break
                nursery.cancel_scope.cancel()
        except* FrameError as errors:
            reason = f"framing lost: {errors.exceptions[0]}"
        except* self._lost:
            reason = "connection lost"
        finally:
            self._wires.remove(wire)
            wire.close()
            log.info("disconnected", issuer=self.issuer.name, peer=wire.peer, reason=reason)

    async def run_chargebacks(self) -> None:
        """Send chargebacks over any connection until each is acknowledged; runs for ever."""
        attempts: dict[tuple[str, str], int] = {}
        while True:
            open_messages = self.issuer.open_chargebacks()
            if not open_messages:
                attempts.clear()
                self._charged = trio.Event()
                await self._charged.wait()
                continue
            for message in open_messages:
                key = (message.elements[7], message.elements[11])
                if await self._send_somewhere(message, attempts.get(key, 0)):
                    attempts[key] = attempts.get(key, 0) + 1
            self._charged = trio.Event()
            with trio.move_on_after(CHARGEBACK_TIMEOUT_S):
                await self._charged.wait()

    def chargeback(self, reference: str, amount_minor: int | None = None) -> Message:
        """Start a chargeback; `run_chargebacks` delivers it. Errors as in `Issuer.chargeback`."""
        message = self.issuer.chargeback(reference, self._clock(), amount_minor)
        self._record()
        self._charged.set()
        return message

    async def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key over any connection, again and again until it answers, for a few seconds.

        Returns:
            Whether the switch has it in force.
        Raises:
            LinkKeyError: there is no such key.
        """
        message = self.issuer.key_change(kind, self._clock())
        done = len(self._key_changes(kind))
        for attempt in range(KEY_TRIES):
            await self._send_somewhere(message, attempt)
            with trio.move_on_after(KEY_TIMEOUT_S):
                while len(self._key_changes(kind)) == done:  # noqa: ASYNC110 (a simulator, seldom)
                    await trio.sleep(0.02)
            if len(changes := self._key_changes(kind)) > done:
                return changes[-1] == "00"
        return False

    def _key_changes(self, kind: str) -> list[str]:
        return [code for changed, code in self.issuer.key_changes if changed == kind]

    async def _send_somewhere(self, message: Message, attempts: int) -> bool:
        if not self._wires:
            return False
        sent = Message(repeat_mti(message.mti), message.elements) if attempts else message
        wire = self._wires[attempts % len(self._wires)]
        try:
            await wire.send(self._framing.encode(self._sealing.encode(sent)))
        except self._lost:
            return False
        log.info(
            "sent",
            issuer=self.issuer.name,
            mti=sent.mti,
            trace_id=self.issuer.trace_id(message),
            attempt=attempts + 1,
        )
        return True

    def _batch(self, frames: list[bytes], wire: Wire, nursery: trio.Nursery) -> tuple[bytes, bool]:
        """Answer the frames of one read; returns what leaves at once and whether the connection goes on."""
        receive, decode, encode = self._received, self._codec.decode, self._sealing.encode
        answers: list[bytes] = []
        goes_on = True
        now = self._clock()
        for frame in frames:
            try:
                message = decode(frame)
            except DecodeError as error:
                log.warning("undecodable", issuer=self.issuer.name, peer=wire.peer, error=str(error), bytes=len(frame))
                continue
            for action in receive(message, frame, now):
                if isinstance(action, Disconnect):
                    goes_on = False
                    continue
                answer = self._framing.encode(encode(action.message, spoiled=action.spoiled))
                if action.delay_s > 0 and self._delayed < MAX_DELAYED:
                    nursery.start_soon(self._send_later, wire, answer, action.delay_s)
                else:
                    answers.append(answer)
                if self._log_messages:
                    self._log_answer(message, action.message)
            if self.issuer.last_fault is not None:
                self._log_fault(message)
            if not goes_on:
                break
        self._record()
        return b"".join(answers), goes_on

    def _received(self, message: Message, frame: bytes, now: datetime) -> list[Action]:
        if problem := self._sealing.problem(message, frame):
            log.warning("mac refused", issuer=self.issuer.name, mti=message.mti, problem=problem)
            return self.issuer.refuse(message)
        return self.issuer.receive(message, now)

    async def _send_later(self, wire: Wire, answer: bytes, delay_s: float) -> None:
        self._delayed += 1
        try:
            await trio.sleep(delay_s)
            await wire.send(answer)
        except self._lost:
            pass  # the connection has gone meanwhile, and the answer with it
        finally:
            self._delayed -= 1

    def _record(self) -> None:
        if self._store is not None and (records := self.issuer.entries.drain_records()):
            self._store(records)

    def _log_answer(self, request: Message, answer: Message) -> None:
        log.info(
            "answered",
            issuer=self.issuer.name,
            trace_id=self.issuer.trace_id(request),
            mti=request.mti,
            stan=request.elements.get(11, ""),
            response_code=answer.elements.get(39, ""),
        )

    def _log_fault(self, message: Message) -> None:
        fault = self.issuer.last_fault
        assert fault is not None
        log.info(
            "fault",
            issuer=self.issuer.name,
            trace_id=self.issuer.trace_id(message),
            mti=message.mti,
            fault=fault.name,
            delay_s=round(fault.delay_s, 3),
        )


async def serve_issuer(
    scenario: IssuerScenario,
    *,
    keys: dict[str, bytes],
    zmk: bytes = b"",
    control_path: Path | None = None,
    book_path: Path | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a simulated issuer until cancelled.

    Args:
        scenario: see `simulators.issuer.scenario`.
        keys: its clear keys by name, as from `hsm.keys.exchange.load_party_keys`.
        zmk: the zone master key, as from `hsm.keys.exchange.load_party_zmk`; b"" where no keys are exchanged.
        control_path: where the unix control socket is made; None for none.
        book_path: a file that keeps the book over a restart; None keeps it in memory.
        ready: called with the address once it listens.
        task_status: gets the address, for `nursery.start`.
    Raises:
        ScenarioError: a key of the scenario is not among `keys`.
        WireLost: the address cannot be had.
        BookError: the book file is broken.
    """
    missing = [name for name in (scenario.pin_key, scenario.mac_key) if name and name not in keys]
    if missing:
        raise ScenarioError(
            scenario.name, tuple(f"there is no key {name!r} for party {scenario.party!r}" for name in missing)
        )
    book = IssuerBook(scenario.name, keep_records=book_path is not None)
    writer = None if book_path is None else _open_book(book, book_path)
    mac_key = keys.get(scenario.mac_key, b"")
    issuer = Issuer(scenario, keys.get(scenario.pin_key, b""), book, mac_key=mac_key, zmk=zmk)
    server = IssuerServer(issuer, scenario, store=None if writer is None else writer.append)
    listener = SocketListener(address_of(scenario.listen))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run_chargebacks)
            if control_path is not None:
                await nursery.start(serve_control, control_path, server)
            log.info("listening", issuer=scenario.name, address=f"{listener.address[0]}:{listener.address[1]}")
            if ready is not None:
                ready(listener.address)
            task_status.started(listener.address)
            while True:
                nursery.start_soon(server.serve, await listener.accept())
    finally:
        listener.close()
        if writer is not None:
            writer.close()


class _BookFile:
    """Appends records; what was written survives the process, as the operating system has it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, records: bytes) -> None:
        view = memoryview(records)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        os.close(self._descriptor)


def _open_book(book: IssuerBook, path: Path) -> _BookFile:
    """Read the book back, rewrite its file with one record an entry, and open it for more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            book.restore(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BookError(f"{path}: {error}") from None
        compact = path.with_name(path.name + ".new")
        compact.write_bytes(b"".join(encode_entry(entry) for entry in book.entries()))
        compact.replace(path)
    return _BookFile(path)
