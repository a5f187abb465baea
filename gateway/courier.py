"""Carries stored messages to the switch until their end is known: sends, repeats, gives up and reverses.

Handlers call `start` after their transaction has committed and `wait` for the end; `run` adopts what a dead process
has left. Two couriers may carry one message without harm: its key is the same and the outcome is decided once, in the
database, by the first.

| message | no answer | after `repeats` |
|---|---|---|
| 0100, 0200 | repeated as 0101, 0201 | decided `reversed`; a 0420 is stored in the same transaction |
| 0220, 0400, 0420 | repeated as 0221, 0401, 0421 | repeated on, with a pause that grows to `repeat_cap_s` |
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import structlog

from gateway.acquirer_link import AcquirerLink
from gateway.attempts import REQUESTS, Attempt, Sender, State, attempt, fetch
from gateway.config import GatewayConfig
from gateway.declines import TRY_LATER
from gateway.errors import AnswerOverdue, LinkBusy, LinkDown
from gateway.metrics import Metrics
from gateway.outcomes import Answer, decide
from messages.errors import MessagesError
from messages.message import Message
from messages.mti import response_mti

FORMAT_ERROR, MAC_REFUSED = "30", "63"
_SWEEP_S = 1.0
_POLL_S = 0.2
_PAUSE_S = 0.25
_ADOPT = 200  # messages taken over at once

log = structlog.get_logger("gateway.courier")


class Courier:
    """Owner of all messages of this process that are under way."""

    def __init__(
        self,
        pool: Any,
        link: AcquirerLink,
        sender: Sender,
        config: GatewayConfig,
        metrics: Metrics,
        wake: asyncio.Event,
    ) -> None:
        self._pool = pool
        self._link = link
        self._sender = sender
        self._config = config
        self._metrics = metrics
        self._wake_webhooks = wake
        # Under a MAC 63 is the switch's, while a new key is in force at one end only: nothing was taken.
        self._later = TRY_LATER if link.access.mac is None else TRY_LATER | {MAC_REFUSED}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._fresh: set[int] = set()  # stored by this process and never sent yet

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < self._config.max_in_flight

    def start(self, message: Attempt, *, fresh: bool = True) -> None:
        """Carry a message in the background; once for each message.

        Args:
            fresh: False where another process may have sent it before.
        """
        if message.id in self._tasks or message.state is not State.PENDING:
            return
        if fresh:
            self._fresh.add(message.id)
        task = asyncio.create_task(self._carry(message), name=f"attempt-{message.id}")
        self._tasks[message.id] = task
        self._metrics.pending.set(len(self._tasks))
        task.add_done_callback(lambda done: self._finished(message.id, done))

    async def wait(self, attempt_id: int, timeout_s: float) -> Attempt:
        """The message when it has ended, or as it is after `timeout_s`; another process may be carrying it."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            remaining = deadline - asyncio.get_running_loop().time()
            if task := self._tasks.get(attempt_id):
                await asyncio.wait([task], timeout=max(remaining, 0))
            async with self._pool.acquire() as connection:
                current = await fetch(connection, attempt_id)
            if current.state is not State.PENDING or remaining <= 0:
                return current
            await asyncio.sleep(min(_POLL_S, remaining))

    async def run(self) -> None:
        """Adopt messages that nobody carries, until cancelled; then stop carrying (they are adopted again later)."""
        first = True
        try:
            while True:
                try:
                    first = await self._adopt(everything=first) and first
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    log.warning("cannot look for messages", error=type(error).__name__)
                await asyncio.sleep(_SWEEP_S)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _adopt(self, *, everything: bool) -> bool:
        """Claim pending messages whose holder is silent; at a start all of them, because repeats do no harm.

        Returns: True where there may be more.
        """
        room = min(_ADOPT, self._config.max_in_flight - len(self._tasks))
        if room <= 0:
            return True
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                """UPDATE gateway.attempts SET claimed_by = $1, claimed_until = now() + make_interval(secs => $2)
                   WHERE id IN (SELECT id FROM gateway.attempts
                                WHERE state = 'pending' AND id <> ALL($3::bigint[])
                                  AND ($4 OR claimed_by = $1 OR claimed_until < now())
                                ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED)
                   RETURNING *""",
                *(self._sender.holder, self._sender.claim_s, list(self._tasks), everything, room),
            )
            await connection.execute(
                """UPDATE gateway.attempts SET claimed_until = now() + make_interval(secs => $1)
                   WHERE id = ANY($2::bigint[]) AND state = 'pending'
                       AND claimed_until < now() + make_interval(secs => $3)""",
                *(self._sender.claim_s, list(self._tasks), self._sender.claim_s / 2),
            )
        for row in rows:
            taken = attempt(row)
            log.info("message taken over", trace_id=taken.trace_id, kind=taken.kind.value, attempt=taken.id)
            self.start(taken, fresh=False)
        return len(rows) == room

    def _finished(self, attempt_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(attempt_id, None)
        self._fresh.discard(attempt_id)
        self._metrics.pending.set(len(self._tasks))
        if not task.cancelled() and (error := task.exception()):
            log.error("message dropped; it will be taken over", attempt=attempt_id, exc_info=error)

    async def _carry(self, message: Attempt) -> None:
        with structlog.contextvars.bound_contextvars(trace_id=message.trace_id, kind=message.kind.value):
            answer = await self._answer(message)
            async with self._pool.acquire() as connection:
                decided = await decide(connection, self._sender, message.id, answer)
        self._metrics.messages.labels(message.kind.value, decided.attempt.response_code or "none").inc()
        if decided.won and decided.attempt.state is State.REVERSED:
            self._metrics.reversed.labels(message.kind.value).inc()
        self._wake_webhooks.set()
        if decided.reversal is not None:
            self.start(decided.reversal)

    async def _answer(self, message: Attempt) -> Answer | None:
        """Send and repeat; None where a request has to be given up."""
        sends, fresh = 0, message.id in self._fresh
        while message.kind not in REQUESTS or sends <= self._config.repeats:
            if sends:
                self._metrics.repeats.labels(message.kind.value).inc()
            answer = await self._send(message, sends)
            sends += 1
            if answer is None:
                continue
            response_code = answer.elements.get(39, "")
            if message.kind not in REQUESTS and response_code in self._later:
                await asyncio.sleep(self._pause(sends))
                continue
            log.info("answered", response_code=response_code, sends=sends)
            return Answer(response_code, answer.elements.get(38, "").strip(), repeated=sends > 1 or not fresh)
        log.warning("no answer: reversing", sends=sends)
        return None

    async def _send(self, message: Attempt, sends: int) -> Message | None:
        """One try; None after its time without an answer that can be used."""
        timeout_s = self._config.answer_timeout_s
        try:
            if not await self._link.wait_signed_on(timeout_s):
                return None
            # A message taken over from a dead process may have left before: then the first try is a repeat, too.
            repeat = sends > 0 or message.id not in self._fresh
            self._fresh.discard(message.id)
            answer = await self._link.exchange(message.request(repeat=repeat), timeout_s)
        except AnswerOverdue:
            return None
        except (LinkDown, LinkBusy) as error:
            log.info("not answered", error=str(error))
            await asyncio.sleep(self._pause(sends))
            return None
        except MessagesError as error:  # the dialect cannot express it, so it has never left
            log.error("message cannot be sent", error=str(error))
            if message.mti != "0420":
                return Message(response_mti(message.mti), {39: FORMAT_ERROR})
            await asyncio.sleep(self._pause(sends))
            return None
        if not answer.elements.get(39):
            log.warning("answer without DE 39")
            return None
        return answer

    def _pause(self, sends: int) -> float:
        return float(min(_PAUSE_S * 2 ** min(sends, 20), self._config.repeat_cap_s))
