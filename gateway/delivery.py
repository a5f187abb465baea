"""Webhooks on their way: due deliveries in, signed POSTs out, repeated with growing pauses until one is answered 2xx.

Each delivery is claimed in the database before it is sent, by moving its due time past the time a try may take. A
process that dies in between loses nothing: the delivery comes due again. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
from typing import Any

import asyncpg
import httpx
import msgspec
import structlog

from gateway import objects
from gateway.config import GatewayConfig
from gateway.metrics import Metrics

_IDLE_S = 1.0
_MARGIN_S = 5.0

log = structlog.get_logger("gateway.webhooks")


class Due(msgspec.Struct, frozen=True):
    """A claimed delivery: what to send where. `tries` counts this one."""

    id: int
    tries: int
    url: str
    secret: str
    event_id: str
    body: bytes


def signature(body: bytes, secret: str, at: int) -> str:
    """The Stripe-Signature header: `t=<seconds>,v1=<HMAC-SHA256 of "t.body", hex>`.

    Source: inferred from `stripe.WebhookSignature` of the official package, 16.1.
    """
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def pause_s(tries: int, config: GatewayConfig) -> float:
    """Seconds before the next try: doubled each time up to the cap, spread by a quarter so that they do not gather."""
    full = min(config.webhook_backoff_s * 2.0 ** min(tries - 1, 30), config.webhook_cap_s)
    return full * random.uniform(0.75, 1.0)


class Deliverer:
    """Sends all webhooks of this process, `max_deliveries` at once."""

    def __init__(self, pool: Any, config: GatewayConfig, metrics: Metrics, wake: asyncio.Event) -> None:
        self._pool = pool
        self._config = config
        self._metrics = metrics
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=self._config.webhook_timeout_s,
            limits=httpx.Limits(max_connections=self._config.max_deliveries, max_keepalive_connections=4),
        ) as client:
            try:
                while True:
                    self._wake.clear()
                    if not await self._start_due(client):
                        await self._rest()
            finally:
                tasks = list(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _start_due(self, client: httpx.AsyncClient) -> bool:
        """Start what is due; True where there may be more at once."""
        room = self._config.max_deliveries - len(self._tasks)
        if room <= 0:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            return True
        try:
            async with self._pool.acquire() as connection:
                due = await self._claim(connection, room)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("cannot look for webhooks", error=type(error).__name__)
            return False
        for delivery in due:
            task = asyncio.create_task(self._deliver(client, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(due) == room

    async def _claim(self, connection: Any, room: int) -> list[Due]:
        rows = await connection.fetch(
            """WITH due AS (
                   UPDATE gateway.deliveries SET tries = tries + 1, next_at = now() + make_interval(secs => $1)
                   WHERE id IN (SELECT id FROM gateway.deliveries WHERE state = 'waiting' AND next_at <= now()
                                ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
                   RETURNING id, tries, event_id, endpoint_id)
               SELECT due.id AS delivery_id, due.tries, w.url, w.secret, e.*,
                   (SELECT count(*) FROM gateway.deliveries d WHERE d.event_id = e.id AND d.state = 'waiting')
                       AS pending_webhooks
               FROM due JOIN gateway.events e ON e.id = due.event_id
                   JOIN gateway.webhook_endpoints w ON w.id = due.endpoint_id ORDER BY e.id""",
            *(self._config.webhook_timeout_s + _MARGIN_S, room),
        )
        return [
            Due(
                id=row["delivery_id"],
                tries=row["tries"],
                url=row["url"],
                secret=row["secret"],
                event_id=row["id"],
                body=msgspec.json.encode(objects.event(row)),
            )
            for row in rows
        ]

    async def _deliver(self, client: httpx.AsyncClient, due: Due) -> None:
        result = await self._post(client, due)
        delivered = result.isdigit() and result.startswith("2")
        state = "delivered" if delivered else "failed" if due.tries >= self._config.webhook_tries else "waiting"
        self._metrics.deliveries.labels(state).inc()
        log.info("webhook", event_id=due.event_id, result=result, tries=due.tries, state=state)
        try:
            async with self._pool.acquire() as connection:
                await connection.execute(
                    """UPDATE gateway.deliveries SET state = $2, last_result = $3,
                           next_at = now() + make_interval(secs => $4) WHERE id = $1 AND state = 'waiting'""",
                    *(due.id, state, result, pause_s(due.tries, self._config)),
                )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("webhook's result not stored: it comes due again", error=type(error).__name__)

    async def _post(self, client: httpx.AsyncClient, due: Due) -> str:
        """The status as text, or what went wrong; the answer's body is not read."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "cardswitch-webhooks/1",
            "Stripe-Signature": signature(due.body, due.secret, int(time.time())),
        }
        try:
            async with (
                asyncio.timeout(self._config.webhook_timeout_s),
                client.stream("POST", due.url, content=due.body, headers=headers) as response,
            ):
                return str(response.status_code)
        except TimeoutError:
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return type(error).__name__
