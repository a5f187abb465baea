"""One connection of a link: bytes in, messages out, and the other way round.

`switch.links.acquirer_port` and `switch.links.issuer_line` run sessions and hear of each message through a `Listener`.
What goes out within one turn of the scheduler leaves in one system call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from messages.codec import Codec
from messages.errors import DecodeError, FrameError
from messages.exchange import pairing_key
from messages.framing import Framing
from messages.message import Message
from switch.errors import LinkUnavailable, WireError
from switch.links.mac import LinkMac
from switch.links.network import Wire
from switch.links.pending import Pending
from switch.links.state import LinkEvent, LinkState, after, carries_traffic
from switch.wake import Signal

log = structlog.get_logger("switch.links.session")

MAX_OUTWARD_BYTES = 4 * 1024 * 1024  # unsent; a peer that reads no more loses the connection
MAX_TASKS = 4000  # of one connection, beside those of the pipeline: messages whose MAC is being verified


class Listener(Protocol):
    """Who is told what arrives on a session. Both calls must not wait."""

    def arrived(self, session: Session, message: Message, frame: bytes) -> None: ...

    def undecodable(self, session: Session, frame: bytes, error: DecodeError) -> None: ...


class Session:
    """A connection with its state, its pending requests and its outward buffer.

    Args:
        link: the link's name.
        wire: the connection; the session closes it.
        mac: seals what `exchange` sends.
        max_pending: requests of ours that may wait for an answer at once.
    """

    def __init__(
        self,
        link: str,
        wire: Wire,
        codec: Codec,
        framing: Framing,
        mac: LinkMac,
        listener: Listener,
        max_pending: int,
    ) -> None:
        self.link = link
        self.peer = wire.peer
        self.codec = codec
        self.mac = mac
        self.state = after(LinkState.CONNECTING, LinkEvent.CONNECTED)
        self.pending = Pending(max_pending)
        self.close_reason = ""
        self.heard_at = trio.current_time()
        self.echoed_at: float | None = None  # when an echo of ours was answered last
        self._tasks = 0
        self._nursery: trio.Nursery | None = None
        self._wire = wire
        self._framing = framing
        self._listener = listener
        self._outward: list[bytes] = []
        self._outward_bytes = 0
        self._unsent = Signal()
        self._scope = trio.CancelScope()

    @property
    def open(self) -> bool:
        return self.state is not LinkState.CLOSED

    @property
    def carries_traffic(self) -> bool:
        return carries_traffic(self.state)

    def moved(self, event: LinkEvent) -> None:
        self.state = after(self.state, event)

    def send(self, payload: bytes) -> bool:
        """Queue an encoded message; False where the connection is gone."""
        if self.state is LinkState.CLOSED:
            return False
        frame = self._framing.encode(payload)
        self._outward_bytes += len(frame)
        if self._outward_bytes > MAX_OUTWARD_BYTES:
            self.close("the peer does not read")
            return False
        self._outward.append(frame)
        if len(self._outward) == 1:
            self._unsent.set()
        return True

    async def exchange(self, message: Message, expires_at: float, payload: bytes | None = None) -> Message:
        """Send a request and wait for its answer.

        Args:
            message: DE 7 and DE 11 set.
            expires_at: on trio's clock.
            payload: the message encoded and under its MAC, where that has been done.

        Raises:
            LinkUnavailable: nothing has left.
            ExchangeLost: the request may have left; no answer will come.
            EncodeError: the dialect cannot carry the message; nothing has left.
            HsmRefused, HsmUnavailable: there is no MAC for it; nothing has left.
        """
        if payload is None:
            payload = await self.mac.sealed(message)
        key = pairing_key(message)
        future = self.pending.open(key, expires_at)
        if not self.send(payload):
            self.pending.forget(key)
            raise LinkUnavailable(f"{self.link}: connection closed")
        try:
            return await future.wait()
        finally:
            if not future.done:
                self.pending.forget(key)

    def start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> bool:
        """Run a task that ends with the connection at the latest; False where too many run already."""
        if self._nursery is None or self._tasks >= MAX_TASKS:
            return False
        self._tasks += 1
        self._nursery.start_soon(self._run_task, task, arguments)
        return True

    async def _run_task(self, task: Callable[..., Awaitable[None]], arguments: tuple[object, ...]) -> None:
        try:
            await task(*arguments)
        except Exception:  # of one message: the connection goes on
            log.exception("task_failed", link=self.link, peer=self.peer)
        finally:
            self._tasks -= 1

    def close(self, reason: str) -> None:
        """Give the connection up; the first reason counts."""
        if self.state is LinkState.CLOSED:
            return
        self.close_reason = reason
        self.moved(LinkEvent.LOST)
        self._wire.close()
        self._outward.clear()
        self.pending.fail_all(f"connection lost: {reason}")
        self._scope.cancel()

    async def run(self) -> None:
        """Serve the connection until either side closes it."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._send_all)
                    nursery.start_soon(self.pending.sweep)
                    await self._receive_all()
        finally:
            self._nursery = None
            self.close("worker stopped")

    async def _receive_all(self) -> None:
        decoder = self._framing.decoder()
        decode, arrived = self.codec.decode, self._listener.arrived
        while data := await self._wire.receive():
            self.heard_at = trio.current_time()
            try:
                frames = decoder.receive(data)
            except FrameError as error:
                self.close(f"framing lost: {error}")
                return
            for frame in frames:
                try:
                    message = decode(frame)
                except DecodeError as error:
                    self._listener.undecodable(self, frame, error)
                else:
                    arrived(self, message, frame)
        self.close("closed by the peer")

    async def _send_all(self) -> None:
        try:
            while True:
                await self._unsent.wait()
                while self._outward:
                    data = b"".join(self._outward)
                    self._outward.clear()
                    await self._wire.send(data)
                    self._outward_bytes -= len(data)
        except WireError as error:
            self.close(str(error))
