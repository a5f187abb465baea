"""The way to the switch: messages in, their answers out, over N sockets that sign on, echo and come back by themselves.

`gateway.courier` calls `exchange`; messages that the switch starts (chargeback advices, echoes) go to the `on_advice`
handler and are answered with its result. One socket is a `gateway.connection`, made by `gateway.switch_access`.
Nothing is stored here: the sender has stored the message before.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import structlog

from gateway.connection import Connection
from gateway.errors import AnswerOverdue, LinkBusy, LinkDown, SwitchRefused
from gateway.metrics import Metrics
from gateway.switch_access import Access, Tls, connected
from messages.address import shown_address
from messages.codec import Codec
from messages.exchange import pairing_key
from messages.message import Message

_BACKOFF_S, _BACKOFF_CAP_S = 0.05, 5.0

Handler = Callable[[Message], Awaitable[str | None]]
"""Takes a request of the switch's, returns DE 39 of the answer, or None where it is not to be answered."""

log = structlog.get_logger("gateway.link")


class AcquirerLink:
    """N connections to one switch, used in turn.

    Args:
        name: the link's name. access: address of the switch, and the proofs of both ends. codec: of the link's dialect.
        connections: number of sockets. acquirer_id: DE 32 of sign-on and echo.
        max_in_flight: messages without an answer, over all connections.
        echo_s: silence after which a connection is tried with an echo.
    """

    def __init__(
        self,
        name: str,
        access: Access,
        codec: Codec,
        on_advice: Handler,
        metrics: Metrics,
        *,
        connections: int,
        acquirer_id: str,
        max_in_flight: int,
        echo_s: float,
    ) -> None:
        self.name = name
        self.access = access
        self.codec = codec
        self.on_advice = on_advice
        self.metrics = metrics
        self.acquirer_id = acquirer_id
        self.echo_s = echo_s
        self._wanted = connections
        self._max_in_flight = max_in_flight
        self._up: list[Connection] = []
        self._signed_on = asyncio.Event()
        self._turn = 0
        if access.tls is not None:
            metrics.watch_certificate(partial(_seconds_left, access.tls))
        self._waiting: dict[tuple[str, ...], tuple[asyncio.Future[Message], Connection]] = {}

    @property
    def signed_on(self) -> bool:
        return bool(self._up)

    async def wait_signed_on(self, timeout_s: float) -> bool:
        """True as soon as a connection is signed on, False after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._signed_on.wait()
        return self.signed_on

    async def run(self) -> None:
        """Keep all connections up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._wanted):
                group.create_task(self._keep(number))

    async def exchange(self, message: Message, timeout_s: float) -> Message:
        """Send a request and return its answer.

        Raises:
            LinkDown: no connection is signed on, or the one it was sent on was lost: it may have arrived.
            AnswerOverdue: no answer within `timeout_s`.
            LinkBusy: too many in flight; it was not sent.
            MessagesError: the dialect cannot express it; it was not sent.
        """
        if not self._up:
            raise LinkDown("no connection to the switch is signed on")
        key = pairing_key(message)
        if len(self._waiting) >= self._max_in_flight or key in self._waiting:
            raise LinkBusy(f"{len(self._waiting)} messages are in flight")
        self._turn += 1
        connection = self._up[self._turn % len(self._up)]
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (answer, connection)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.send(message)
                return await answer
        except TimeoutError:
            raise AnswerOverdue(f"no answer within {timeout_s} s") from None
        except OSError as error:
            raise LinkDown(f"the connection was lost: {type(error).__name__}") from None
        finally:
            del self._waiting[key]

    def answered(self, message: Message) -> None:
        """Hand an answer to the task that waits for it; a late one is dropped, because the repeat fetches it again."""
        answer, _ = self._waiting.get(pairing_key(message), (None, None))
        if answer is None or answer.done():
            log.info("late answer", link=self.name, mti=message.mti, response_code=message.elements.get(39))
            return
        answer.set_result(message)

    def joined(self, connection: Connection) -> None:
        self._up.append(connection)
        self._signed_on.set()
        self.metrics.link_connections.set(len(self._up))
        log.info("signed on", link=self.name, connections=len(self._up))

    def left(self, connection: Connection) -> None:
        """Forget a connection; a task that waits for an answer on it learns so at once."""
        if connection not in self._up:
            return
        self._up.remove(connection)
        self.metrics.link_connections.set(len(self._up))
        if not self._up:
            self._signed_on.clear()
        for answer, used in self._waiting.values():
            if used is connection and not answer.done():
                answer.set_exception(LinkDown("the connection was lost before the answer came"))
        log.warning("connection lost", link=self.name, connections=len(self._up))

    async def _keep(self, number: int) -> None:
        pause_s = _BACKOFF_S
        while True:
            try:
                connection = Connection(self, *await connected(self.access), number)
                try:
                    if await connection.serve():
                        pause_s = _BACKOFF_S
                finally:
                    self.left(connection)
            except SwitchRefused as error:
                self._not_connected(error.reason, str(error))
            except TimeoutError:
                self._not_connected("timeout", "TimeoutError")
            except OSError as error:
                self._not_connected("unreachable", type(error).__name__)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _BACKOFF_CAP_S)

    def _not_connected(self, reason: str, detail: str) -> None:
        self.metrics.dials_failed.labels(reason).inc()
        address = shown_address(self.access.address)
        log.info("no connection", link=self.name, switch=address, reason=reason, error=detail)


def _seconds_left(tls: Tls) -> float:
    return (tls.ends_at - datetime.now(UTC)).total_seconds() if tls.ends_at is not None else 0.0
