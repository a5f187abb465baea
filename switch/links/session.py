"""One connection of a link: bytes in, messages out, and the other way round.

`switch.links.acquirer_port` and `switch.links.issuer_line` run sessions and get each message through a `Listener`.
Messages sent within one turn of the scheduler leave in one system call. A connection whose peer does not read, or
whose link is over its limit, is read from no faster than it can be served: unread bytes wait with the peer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from messages.codec import Codec
from messages.errors import DecodeError, EncodeError, FrameError
from messages.exchange import pairing_key
from messages.framing import Decoder, Framing
from messages.message import Message
from messages.mti import is_management
from switch.errors import ExchangeLost, LinkUnavailable, WireError
from switch.links.conduct import Conduct
from switch.links.limits import Gate
from switch.links.mac import LinkMac
from switch.links.network import Wire
from switch.links.pending import Pending
from switch.links.state import LinkEvent, LinkState, after, carries_traffic
from switch.wake import Signal

log = structlog.get_logger("switch.links.session")

MAX_OUTWARD_BYTES = 4 * 1024 * 1024  # unsent; a peer that reads no more loses the connection
FULL_BYTES = 256 * 1024  # unsent, from which on nothing is read,
LOW_BYTES = 64 * 1024  # and until which; also the most that is handed to the peer at once
STALLED_S = 30.0  # a peer that reads nothing for so long while we wait loses the connection
ENDING_S = 1.0  # given to a peer for its last words once we have said ours
MANAGEMENT_PLACES = 100  # in the table of requests, for echoes and advices of a link that is full
FRAMES_A_TURN = 16  # of one connection, then the others have theirs; one that is no message ends the turn
PIECE_BYTES = 4096  # of a read that are taken apart in one turn
MAX_TASKS = 4000  # of one connection, beside those of the pipeline: messages whose MAC is being verified


class Listener(Protocol):
    """Receiver of the messages of a session. Both calls must not wait."""

    def arrived(self, session: Session, message: Message, frame: bytes) -> None: ...

    def undecodable(self, session: Session, frame: bytes, error: DecodeError) -> None: ...


class Session:
    """A connection with its state, its pending requests and its outward buffer.

    Args:
        link: the link's name.
        wire: the connection; the session closes it.
        mac: seals what `exchange` sends.
        max_pending: requests of ours that may wait for an answer at once, besides management and advices.
        sends: limits of the requests that `exchange` sends, shared by all connections of the link; None for none.
        takes: limits of the requests that come, which the listener enters and `served` leaves. While it is full nothing
            is read.
        conduct: facts about the peer; None for one that is known.
        on_half_frame: called when a frame has begun and is not complete yet.
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
        *,
        sends: Gate | None = None,
        takes: Gate | None = None,
        conduct: Conduct | None = None,
        on_half_frame: Callable[[], None] = lambda: None,
    ) -> None:
        self.link = link
        self.peer = wire.peer
        self.codec = codec
        self.mac = mac
        self.state = after(LinkState.CONNECTING, LinkEvent.CONNECTED)
        self.pending = Pending(max_pending + MANAGEMENT_PLACES)
        self.close_reason = ""
        self.framing_lost = False
        self.was_up = False  # whether it has carried traffic at any time
        self.heard = False  # whether anything has come
        self.heard_at = trio.current_time()
        self.echoed_at: float | None = None  # when an echo of ours was answered last
        self.opened_at = trio.current_time()
        self.misbehaved = False  # whether it was closed for too many bad frames
        self._conduct = conduct or Conduct()
        self._on_half_frame = on_half_frame
        self._believed = Signal()
        self._judged = Signal()
        self._frame_begun_at: float | None = None  # since when a frame is half here
        self._framed = False  # whether a whole frame that can be read has come
        self._tasks = 0
        self._nursery: trio.Nursery | None = None
        self._wire = wire
        self._framing = framing
        self._listener = listener
        self._sends = sends
        self._takes = takes
        self._outward: list[bytes] = []
        self._outward_bytes = 0
        self._unsent = Signal()
        self._drained = Signal()
        self._ending = False
        self._scope = trio.CancelScope()

    @property
    def open(self) -> bool:
        return self.state is not LinkState.CLOSED

    @property
    def carries_traffic(self) -> bool:
        return carries_traffic(self.state)

    @property
    def unsent_bytes(self) -> int:
        return self._outward_bytes

    def moved(self, event: LinkEvent) -> None:
        self.state = after(self.state, event)
        if self.state is LinkState.SIGNED_ON:
            self.was_up = True

    def send(self, payload: bytes, answered: bytes = b"") -> bool:
        """Queue an encoded message; False where the connection is gone.

        Args:
            answered: the frame that it answers, as `Listener.arrived` got it; its header goes back.
        """
        if self.state is LinkState.CLOSED or self._ending:
            return False
        frame = self._framing.encode(payload, answered)
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
            LinkUnavailable: nothing has left; OverLimit among them.
            ExchangeLost: the request may have left; no answer will come.
            EncodeError: the dialect or the framing cannot carry the message; nothing has left.
            HsmRefused, HsmUnavailable: there is no MAC for it; nothing has left.
        """
        if payload is None:
            payload = await self.mac.sealed(message)
        # Management keeps a full link alive, and advices have one sender, which waits for each.
        gate = self._sends if not is_management(message.mti) and message.mti[2] == "0" else None
        if gate is not None:
            place = gate.ask()
            if place is not None:
                await gate.wait(place, expires_at)
        try:
            if gate is not None and not self.carries_traffic:  # signed off, or suspended, while it waited
                raise LinkUnavailable(f"{self.link}: {self.state}")
            key = pairing_key(message)
            future = self.pending.open(key, expires_at, message)
            try:
                sent = self.send(payload)
            except FrameError as error:
                self.pending.forget(key)
                raise EncodeError("frame", str(error)) from None
            if not sent:
                self.pending.forget(key)
                raise LinkUnavailable(f"{self.link}: connection closed")
            left_at = trio.current_time()
            try:
                return await future.wait()
            except ExchangeLost as lost:
                lost.had_s = expires_at - left_at
                lost.unread = self._wire.unread
                raise
            finally:
                if not future.done:
                    self.pending.forget(key)
        finally:
            if gate is not None:
                gate.leave()

    def believe(self) -> None:
        """A message has proved that it is the peer's: its MAC was right, or the link has none and it can be served."""
        self._conduct.believe()
        self._believed.set()

    def distrust(self, reason: str) -> None:
        """A frame was no message, or its MAC was missing or wrong; too many in a row end the connection."""
        if self._conduct.distrust() and self.open:
            self.misbehaved = True
            self.close(f"{self._conduct.bad} bad frames in a row, the last: {reason}")

    def taken(self) -> None:
        """A request is looked up in the journal; `judged` must follow."""
        self._conduct.taken()

    def judged(self, new: bool | None) -> None:
        """Whether a request that was taken is new; None where that was not found out. Repeats slow reading down."""
        self._conduct.judged(new, trio.current_time())
        self._judged.set()

    def due(self, silent_s: float, frame_s: float) -> tuple[float, str]:
        """When the connection has to end where nothing more comes, and why; infinite where it may stay.

        Args:
            silent_s: longest wait for the first message; 0: for ever.
            frame_s: longest time from a frame's first to its last byte; 0: for ever.
        """
        ends = [(math.inf, "")]
        if frame_s and self._frame_begun_at is not None:
            ends.append((self._frame_begun_at + frame_s, f"a frame was not complete after {frame_s:g} s"))
        if silent_s and not self._framed:
            ends.append((self.opened_at + silent_s, f"no message in {silent_s:g} s"))
        return min(ends)

    @property
    def silent(self) -> bool:
        """Whether no message has come yet."""
        return not self._framed

    @property
    def believed(self) -> bool:
        """Whether the peer has proved who it is, or is known by itself."""
        return self._conduct.believed

    def served(self) -> None:
        """A request that has entered `takes` is over."""
        if self._takes is not None:
            self._takes.leave()

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

    async def end(self) -> None:
        """Say goodbye: queued bytes leave, the peer sees our end, and has a moment to close its own.

        A connection that is closed with something unread in it takes back what the peer has not read either.
        """
        if self.state is LinkState.CLOSED:
            return
        with trio.move_on_after(ENDING_S):
            # Looked at, not waited for: it happens once a connection, at its end.
            while self._outward_bytes:  # noqa: ASYNC110
                await trio.sleep(ENDING_S / 100)
            self._ending = True
            await self._wire.end()
            while self.open:  # noqa: ASYNC110
                await trio.sleep(ENDING_S / 100)
        self.close("worker stopped")

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
        while data := await self._received():
            self.heard, self.heard_at = True, trio.current_time()
            if len(data) <= PIECE_BYTES:
                if not await self._take_in(decoder, data):
                    return
                continue
            for at in range(0, len(data), PIECE_BYTES):
                if not await self._take_in(decoder, data[at : at + PIECE_BYTES]):
                    return
                await trio.lowlevel.checkpoint()
        self.close("closed by the peer")

    async def _take_in(self, decoder: Decoder, data: bytes) -> bool:
        """Hand on the messages that these bytes complete; False where the connection has ended."""
        try:
            frames = decoder.receive(data)
        except FrameError as error:
            self._lose_framing(error)
            return False
        await self._hand_on(frames)
        if self._outward_bytes > FULL_BYTES:
            await self._until_drained()
        try:
            decoder.receive(b"")
        except FrameError as error:  # behind whole frames: the peer may wait for ever, and send nothing more
            await self._until_sent()
            self._lose_framing(error)
            return False
        if not decoder.buffered:
            self._frame_begun_at = None
        elif frames or self._frame_begun_at is None:
            self._frame_begun_at = self.heard_at
            self._on_half_frame()
        if not frames and (wait_s := self._conduct.read(0, self.heard_at)):
            await trio.sleep(wait_s)
        return self.open

    async def _hand_on(self, frames: list[bytes]) -> None:
        """Decode frames and pass them to the listener, a few a turn: other connections have theirs in between."""
        takes, conduct = self._takes, self._conduct
        for number, frame in enumerate(frames, 1):
            ends_turn = not number % FRAMES_A_TURN
            if takes is not None and takes.full:
                await takes.room()
            if conduct.watched:
                await self._wait_for_trust()
            try:
                message = self.codec.decode(frame)
            except DecodeError as error:
                self._listener.undecodable(self, frame, error)
                ends_turn = True
            else:
                self._framed = True
                if is_management(message.mti) and (wait_s := conduct.management_wait_s(trio.current_time())):
                    await trio.sleep(wait_s)
                self._listener.arrived(self, message, frame)
            if ends_turn:
                await trio.lowlevel.checkpoint()
            if not self.open:
                return
        if frames:
            conduct.read(len(frames), self.heard_at)

    async def _wait_for_trust(self) -> None:
        """The next frame of an unproven peer waits for its turn, or until the peer is proven; and that of one that
        may send recordings, until it is known of those before."""
        while self._conduct.crowded:
            await self._judged.wait()
        if pause_s := self._conduct.pause_s(trio.current_time()):
            await trio.sleep(pause_s)
        if wait_s := self._conduct.frame_wait_s(trio.current_time()):
            with trio.move_on_after(wait_s):
                await self._believed.wait()

    def _lose_framing(self, error: FrameError) -> None:
        self.framing_lost = True
        self.close(f"framing lost: {error}")

    async def _until_sent(self) -> None:
        """A moment for the answers to what came whole: those that are known at once leave."""
        with trio.move_on_after(ENDING_S):
            await trio.sleep(ENDING_S / 100)
            while self._outward_bytes:  # noqa: ASYNC110 - as in `end`
                await trio.sleep(ENDING_S / 100)

    async def _received(self) -> bytes:
        try:
            return await self._wire.receive()
        except WireError as error:
            self.close(str(error))
            return b""

    async def _until_drained(self) -> None:
        """Wait for the peer to read; some peers read only once they have written, so not for ever."""
        while self._outward_bytes > LOW_BYTES:
            before = self._outward_bytes
            with trio.move_on_after(STALLED_S) as scope:
                await self._drained.wait()
            if scope.cancelled_caught and self._outward_bytes >= before:
                self.close("the peer does not read")
                return

    async def _send_all(self) -> None:
        try:
            while True:
                await self._unsent.wait()
                while self._outward:
                    data = b"".join(self._outward)
                    self._outward.clear()
                    # In pieces, so that a slow reader can be distinguished from one that does not read.
                    for at in range(0, len(data), LOW_BYTES):
                        piece = data[at : at + LOW_BYTES]
                        await self._wire.send(piece)
                        self._outward_bytes -= len(piece)
                        self._drained.set()
        except WireError as error:
            self.close(str(error))
