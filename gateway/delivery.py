"""Webhooks on their way: due deliveries in, signed POSTs out, repeated with growing pauses until one is answered 2xx.

Each delivery is claimed in the database before it is sent, by moving its due time past the time a try may take. A
process that dies in between loses nothing: the delivery comes due again. `gateway.shares` says whose is next,
`gateway.destinations` where it may go: a name is resolved once, and the address that was checked is connected to, under
the name for Host, SNI and certificate. Redirects are not followed, an answer's body is not read, and no connection is
kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import random
import time
from concurrent.futures import Future
from typing import Any

import asyncpg
import httpx
import msgspec
import structlog

from gateway import objects
from gateway.config import GatewayConfig
from gateway.destinations import Resolver, chosen, port_permitted
from gateway.metrics import Metrics
from gateway.sealing import Sealer, SealError, endpoint_secret
from gateway.shares import Limits, Shares, Waiting

_IDLE_S = 1.0
_MARGIN_S = 5.0
_CONNECT_S = 5.0
_MAX_ADDRESSES = 2  # of a name, tried one after the other
_MAX_CANDIDATES = 1000
_PORTS = {"http": 80, "https": 443}
REFUSED = "address refused"

log = structlog.get_logger("gateway.webhooks")


class Due(msgspec.Struct, frozen=True):
    """A claimed delivery: content and address. `tries` counts this one."""

    id: int
    tries: int
    url: str
    secret: str
    event_id: str
    body: bytes
    waiting: Waiting


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


_CANDIDATES = """
WITH RECURSIVE busy AS (
    (SELECT endpoint_id FROM gateway.deliveries WHERE state = 'waiting' ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint_id FROM gateway.deliveries d
            WHERE d.state = 'waiting' AND d.endpoint_id > b.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
    FROM busy b WHERE b.endpoint_id IS NOT NULL)
SELECT due.id, w.account_id AS account, w.id AS endpoint,
    lower(substring(w.url FROM '^[^:]+://(\\[[^]]*\\]|[^/:?#]*)')) AS host
FROM busy JOIN gateway.webhook_endpoints w ON w.id = busy.endpoint_id
    CROSS JOIN LATERAL (SELECT id, next_at FROM gateway.deliveries d
        WHERE d.endpoint_id = w.id AND d.state = 'waiting' AND d.next_at <= now()
        ORDER BY d.next_at, d.id LIMIT $1) due
WHERE w.id <> ALL($2::text[]) AND w.account_id <> ALL($3::text[])
ORDER BY due.next_at, due.id LIMIT $4
"""
_CLAIM = """
WITH due AS (
    UPDATE gateway.deliveries SET tries = tries + 1, next_at = now() + make_interval(secs => $1)
    WHERE id IN (SELECT id FROM gateway.deliveries WHERE id = ANY($2::bigint[]) AND state = 'waiting'
                     AND next_at <= now() FOR UPDATE SKIP LOCKED)
    RETURNING id, tries, event_id, endpoint_id)
SELECT due.id AS delivery_id, due.tries, w.url, w.sealed_secret, w.key_version, w.id AS endpoint_id, e.*,
    (SELECT count(*) FROM gateway.deliveries d WHERE d.event_id = e.id AND d.state <> 'delivered') AS pending_webhooks
FROM due JOIN gateway.events e ON e.id = due.event_id
    JOIN gateway.webhook_endpoints w ON w.id = due.endpoint_id ORDER BY e.id
"""


class Deliverer:
    """Sends all webhooks of this process, `max_deliveries` at once."""

    def __init__(
        self,
        pool: Any,
        config: GatewayConfig,
        metrics: Metrics,
        wake: asyncio.Event,
        sealer: Sealer,
        resolver: Resolver | None = None,
    ) -> None:
        self._pool = pool
        self._config = config
        self._metrics = metrics
        self._wake = wake
        self._sealer = sealer
        self._resolver = resolver or Resolver()
        self._allowed = config.webhook_destinations()
        self._shares = Shares(
            Limits(
                total=config.max_deliveries,
                account=config.deliveries_per_account,
                endpoint=config.deliveries_per_endpoint,
                host=config.deliveries_per_host,
            )
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        seconds = self._config.webhook_timeout_s
        async with httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_S)),
            # No connection is kept: with addresses in place of names, one could be used for another name's webhook.
            limits=httpx.Limits(max_connections=self._config.max_deliveries, max_keepalive_connections=0),
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
                self._resolver.close()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _start_due(self, client: httpx.AsyncClient) -> bool:
        """Start what is due and has room; True where there may be more at once."""
        if self._shares.room <= 0:
            await self._rest()
            return True
        picked: list[Waiting] = []
        try:
            async with self._pool.acquire() as connection:
                picked = self._shares.pick(await self._candidates(connection))
                due = await self._claim(connection, picked) if picked else []
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("cannot look for webhooks", error=type(error).__name__)
            for waiting in picked:
                self._shares.release(waiting)
            return False
        claimed = {delivery.id for delivery in due}
        for waiting in picked:
            if waiting.id not in claimed:  # another process was faster
                self._shares.release(waiting)
        for delivery in due:
            task = asyncio.create_task(self._deliver(client, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(picked)

    async def _candidates(self, connection: Any) -> list[Waiting]:
        """The oldest due deliveries of each endpoint that has room, no more of one than may be sent at once."""
        rows = await connection.fetch(
            _CANDIDATES,
            *(self._config.deliveries_per_endpoint, self._shares.full_endpoints(), self._shares.full_accounts()),
            _MAX_CANDIDATES,
        )
        return [Waiting(row["id"], row["account"], row["endpoint"], row["host"] or "") for row in rows]

    async def _claim(self, connection: Any, picked: list[Waiting]) -> list[Due]:
        by_id = {waiting.id: waiting for waiting in picked}
        rows = await connection.fetch(_CLAIM, self._config.webhook_timeout_s + _MARGIN_S, list(by_id))
        return [due for row in rows if (due := self._due(row, by_id[row["delivery_id"]])) is not None]

    def _due(self, row: Any, waiting: Waiting) -> Due | None:
        """None where the secret does not open: the delivery comes due again, perhaps at a gateway that has the key."""
        try:
            secret = endpoint_secret(self._sealer, {**row, "id": row["endpoint_id"]})
        except SealError as error:
            log.error("webhook cannot be signed", event_id=row["id"], endpoint=row["endpoint_id"], error=str(error))
            return None
        return Due(
            id=row["delivery_id"],
            tries=row["tries"],
            url=row["url"],
            secret=secret,
            event_id=row["id"],
            body=msgspec.json.encode(objects.event(row)),
            waiting=waiting,
        )

    async def _deliver(self, client: httpx.AsyncClient, due: Due) -> None:
        lookups: list[Future[list[str]]] = []
        try:
            result = await self._post(client, due, lookups)
            await self._store(due, result)
        finally:
            self._release(due.waiting, lookups)

    def _release(self, waiting: Waiting, lookups: list[Future[list[str]]]) -> None:
        """Give the share back, once the thread that looks the name up has ended: there are so many threads only."""
        loop = asyncio.get_running_loop()

        def over(_: object = None) -> None:
            self._shares.release(waiting)
            self._wake.set()

        def thread_over(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(over)

        if lookups and not lookups[0].done():
            lookups[0].cancel()
            lookups[0].add_done_callback(thread_over)
        else:
            over()

    async def _store(self, due: Due, result: str) -> None:
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

    async def _post(self, client: httpx.AsyncClient, due: Due, lookups: list[Future[list[str]]]) -> str:
        """The status as text, or what went wrong, for the log; all of it takes `webhook_timeout_s` at most."""
        try:
            async with asyncio.timeout(self._config.webhook_timeout_s):
                url = httpx.URL(due.url)
                port = url.port or _PORTS.get(url.scheme, 0)
                if not port_permitted(port):
                    return REFUSED
                lookups.append(self._resolver.start(url.raw_host.decode("ascii"), port))
                found = await asyncio.shield(asyncio.wrap_future(lookups[0]))
                addresses = chosen(found, self._allowed)[:_MAX_ADDRESSES]
                for number, address in enumerate(addresses, 1):
                    try:
                        return await self._send(client, due, url, address)
                    except (httpx.ConnectError, httpx.ConnectTimeout):
                        if number == len(addresses):
                            raise
                return REFUSED
        except TimeoutError:
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return type(error).__name__

    async def _send(self, client: httpx.AsyncClient, due: Due, url: httpx.URL, address: str) -> str:
        """POST to that address, under the URL's name. Raises httpx's errors."""
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "cardswitch-webhooks/1",
            "Stripe-Signature": signature(due.body, due.secret, int(time.time())),
        }
        extensions = {"sni_hostname": url.raw_host.decode("ascii").strip("[]").rstrip(".")}
        request = client.stream(
            "POST", url.copy_with(host=address), content=due.body, headers=headers, extensions=extensions
        )
        async with request as response:
            return str(response.status_code)
