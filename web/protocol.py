"""One HTTP connection under limits: uvicorn's protocol, fed piece by piece, with a deadline for everything.

Sockets in, ASGI calls out, as with uvicorn itself, whose parser takes a header of any length and waits for it for ever.
`web.request_reader` decides what the parser sees; this file keeps the time, answers refusals in the API's error shape
and ends connections so that the last answer can still be read. `web.server` makes one for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.places import EXTENSION, Place, PlacedRequest
from web.refusals import Refused, response
from web.request_reader import Body, End, Head, RequestReader

_BODY_GRACE_S = 5.0
_LINGER_S = 2.0
_MAX_LINGER_BYTES = 1_048_576
_MAX_AHEAD_BYTES = 65_536
_PIECES_PER_TURN = 4
_MAX_BEHIND_BYTES = 524_288


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        place: its own, given back when the connection is lost.
        http: the limits. max_body_bytes: of one body.
    """

    def __init__(
        self,
        place: Place,
        http: HttpConfig,
        max_body_bytes: int,
        metrics: HttpMetrics,
        config: uvicorn.Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._place = place
        self._http = http
        self._metrics = metrics
        self._reader = RequestReader(http, max_body_bytes)
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_body = False
        self._complete = False
        self._idle = False
        self._next_turn = False
        self.ending = False
        self._linger_bytes = 0
        self._request: PlacedRequest | None = None
        self._body_began = 0.0
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._place.close = self._make_room
        # A client that connects and sends nothing is late, too.
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ending = True
        self._end_deadline()
        self._end_unread()
        self._place.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.ending:
            self._linger_bytes += len(data)
            if self._linger_bytes > _MAX_LINGER_BYTES:
                self.transport.abort()
            return
        if self._idle:
            self._expect_head()
        try:
            self._reader.receive(data)
            if self._next_turn:
                self.flow.pause_reading()
                if self._reader.waiting_bytes > _MAX_BEHIND_BYTES:
                    raise Refused("chunks_too_many")
                return
            self._advance()
        except Refused as refused:
            self._refuse(refused.reason)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # The reader is stricter than the parser, so this is a fault of one of the two.
            self._refuse("header_malformed")

    def _advance(self) -> None:
        """Hand on what has come, up to the end of the request; further bytes wait for its response.

        A few pieces in a turn of the loop, so that other connections are served in between.
        """
        for _ in range(_PIECES_PER_TURN):
            if self._complete or self.ending:
                break
            piece = self._reader.next_piece()
            if piece is None:
                return
            self._hand_on(piece)
        if self.ending:
            return
        if not self._complete:
            self._next_turn = True
            self.flow.pause_reading()
            self.loop.call_soon(self._take_turn)
            return
        if self._reader.waiting_bytes > _MAX_AHEAD_BYTES:
            raise Refused("pipeline_too_long")
        if self._reader.waiting_bytes:
            self.flow.pause_reading()

    def _hand_on(self, piece: Head | Body | End) -> None:
        if isinstance(piece, Head):
            self._end_deadline()
            self.parser.feed_data(piece.data)
            if piece.has_body:
                self._in_body, self._body_began, self._body_bytes = True, self.loop.time(), 0
                self._check_body_later()
        elif isinstance(piece, Body):
            self._body_bytes += piece.size
            self.parser.feed_data(piece.data)
        else:
            self._end_deadline()
            self._in_body, self._complete = False, True
            if self._request is not None and not self.cycle.response_complete:
                self._request.received()
            if piece.data:
                self.parser.feed_data(piece.data)
            if self.cycle.response_complete:
                self._next_request()

    def on_headers_complete(self) -> None:
        self._request = self._place.begin_request()
        extensions: dict[str, Any] = {EXTENSION: self._request}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        self.cycle.transport = _Outgoing(self)  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.ending or self.transport.is_closing():
            return
        if self._in_body and self.expect_100_continue and not self._body_bytes:
            self.hang_up()  # the client need not send its body now, so nobody knows where the next request begins
        elif self._complete:
            self._next_request()
            if self._reader.waiting_bytes:
                # Taken up outside the task of the request before.
                self.loop.call_soon(self._go_on)
        else:
            self.flow.resume_reading()

    def _next_request(self) -> None:
        self._complete = False
        self._reader.start_next()
        self.flow.resume_reading()
        if self._reader.waiting_bytes:
            self._expect_head()
        else:
            self._idle = True
            self._set_deadline(self._http.idle_timeout_s, self._close_idle)

    def _take_turn(self) -> None:
        self._next_turn = False
        if not self.ending:
            self.flow.resume_reading()
            self._go_on()

    def _go_on(self) -> None:
        if not self.ending:
            self.data_received(b"")

    def _expect_head(self) -> None:
        self._idle = False
        self._set_deadline(self._http.header_timeout_s, self._refuse, "header_late")

    def _check_body(self) -> None:
        """Refuse a body that is late or slow; look again when it would be."""
        elapsed = self.loop.time() - self._body_began
        ours = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if elapsed >= self._http.body_timeout_s:
            self._refuse("body_late")
        elif not ours and elapsed >= _BODY_GRACE_S + self._body_bytes / self._http.min_body_bytes_per_s:
            self._refuse("body_slow")
        else:
            self._check_body_later()

    def _check_body_later(self) -> None:
        slow_at = _BODY_GRACE_S + self._body_bytes / self._http.min_body_bytes_per_s
        due = self._body_began + min(slow_at, self._http.body_timeout_s)
        self._set_deadline(max(due - self.loop.time(), 0.05), self._check_body)

    def _set_deadline(self, seconds: float, call: Any, *arguments: Any) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(seconds, call, *arguments)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_unread()
        self._unread = self.loop.call_later(self._http.send_timeout_s, self._give_up, "unread")

    def resume_writing(self) -> None:
        self._end_unread()
        super().resume_writing()

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _refuse(self, reason: str) -> None:
        """Answer a refusal, unless another answer has begun, and hang up."""
        if self.ending:
            return
        self._metrics.refused(reason)
        cycle = self.cycle
        between = cycle is None or cycle.response_complete
        # A body whose request has been answered already gets no second answer.
        if (between and not self._in_body) or (not between and not cycle.response_started):
            self.transport.write(response(reason))
        self._disconnect_application()
        self.hang_up()

    def _disconnect_application(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_writing()

    def _close_idle(self) -> None:
        self._metrics.closed("idle")
        self.hang_up()

    def _make_room(self) -> None:
        """Another connection needs this place; an idle one loses nothing by it."""
        self._end_deadline()
        self.ending = True
        self.transport.abort()

    def _give_up(self, reason: str) -> None:
        self._metrics.closed(reason)
        self.transport.abort()

    def shutdown(self) -> None:
        """End after the request in progress, at once where there is none."""
        if self.cycle is None or self.cycle.response_complete:
            self.hang_up()
        else:
            self.cycle.keep_alive = False

    def hang_up(self) -> None:
        """End the connection after all that is written. Input is discarded for a while, else a reset destroys it."""
        if self.ending:
            return
        self.ending = True
        self._end_deadline()
        if not self.transport.is_closing():
            self.flow.resume_reading()
        quiet = self._idle or (self._complete and not self._reader.waiting_bytes)
        if quiet:
            self.transport.close()
            self.loop.call_later(self._http.send_timeout_s, self.transport.abort)
            return
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has reset the connection between two turns
                self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        self.transport.close()
        self.loop.call_later(self._http.send_timeout_s, self.transport.abort)


class _Outgoing:
    """The transport as uvicorn's response writer uses it; its end is ours to decide."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: GuardedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        if not self._protocol.ending:
            self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.ending or self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.hang_up()
