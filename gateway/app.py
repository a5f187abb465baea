"""The merchants' API over HTTP: a request in, Stripe's shape out. `gateway.server` runs it on uvicorn.

Every request takes the same way: limits, key, parameters, refusal of card data, idempotency, the handler. Nothing of
a request is logged but its route, and nothing of it is repeated in an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import endpoints, execution, payments, refunds, shapes
from gateway.errors import ApiError, invalid, refused_by_server, too_many, unavailable
from gateway.execution import Answer
from gateway.keys import Caller, Kind
from gateway.operations import Begin, Context, Services
from gateway.parameters import Params, card_data_refused, convert, decode_body, decode_form, merged, refuse_card_data
from gateway.reading import RESOURCES, page, retrieve
from messages.trace import trace_id as new_trace_id
from web.addresses import Clients, Proxies
from web.buckets import Buckets
from web.keyless import KeylessLimit, valid_key
from web.readiness import Kept
from web.refusals import Refused

_ID = re.compile(r"[A-Za-z0-9_]{1,100}")
_BURST_S = 2.0  # so many seconds' requests may come at once
_TRACE_DIGITS = 16  # after "req_", of the length that merchants know

log = structlog.get_logger("gateway.api")

Handler = Callable[[Context, dict[str, str], Any], Awaitable[Begin]]
Read = Callable[[Any, Context, dict[str, str], Any], Awaitable[dict[str, Any]]]


SERVER: frozenset[Kind] = frozenset({"secret"})
PAGE: frozenset[Kind] = frozenset({"secret", "publishable"})  # the visible members of an object: `gateway.client_view`


class Call(msgspec.Struct, frozen=True):
    """One line of the API: which kinds of keys may make it, and either `begin` (changes something) or `read`."""

    method: str
    path: str
    keys: frozenset[Kind]
    shape: type[shapes.Shape]
    begin: Handler | None = None
    read: Read | None = None


def _lister(name: str) -> Read:
    async def read(connection: Any, context: Context, ids: dict[str, str], params: Any) -> dict[str, Any]:
        return await page(connection, context, RESOURCES[name], params)

    return read


def _retriever(name: str) -> Read:
    async def read(connection: Any, context: Context, ids: dict[str, str], params: Any) -> dict[str, Any]:
        return await retrieve(connection, context, RESOURCES[name], ids["id"], params)

    return read


_INTENTS, _INTENT = "/v1/payment_intents", "/v1/payment_intents/{id}"

CALLS = (
    Call("POST", _INTENTS, SERVER, shapes.IntentCreate, begin=payments.create),
    Call("POST", _INTENT, SERVER, shapes.IntentUpdate, begin=payments.update),
    Call("POST", f"{_INTENT}/confirm", SERVER, shapes.IntentConfirm, begin=payments.confirm),
    Call("POST", f"{_INTENT}/capture", SERVER, shapes.IntentCapture, begin=payments.capture),
    Call("POST", f"{_INTENT}/cancel", SERVER, shapes.IntentCancel, begin=payments.cancel),
    Call("GET", _INTENTS, SERVER, shapes.Page, read=_lister("payment_intent")),
    Call("GET", _INTENT, PAGE, shapes.Retrieve, read=_retriever("payment_intent")),
    Call("POST", "/v1/refunds", SERVER, shapes.RefundCreate, begin=refunds.create),
    Call("GET", "/v1/refunds", SERVER, shapes.RefundPage, read=_lister("refund")),
    Call("GET", "/v1/refunds/{id}", SERVER, shapes.Retrieve, read=_retriever("refund")),
    Call("GET", "/v1/charges", SERVER, shapes.ChargePage, read=_lister("charge")),
    Call("GET", "/v1/charges/{id}", SERVER, shapes.Retrieve, read=_retriever("charge")),
    Call("GET", "/v1/disputes", SERVER, shapes.ChargePage, read=_lister("dispute")),
    Call("GET", "/v1/disputes/{id}", SERVER, shapes.Retrieve, read=_retriever("dispute")),
    Call("GET", "/v1/events", SERVER, shapes.EventPage, read=_lister("event")),
    Call("GET", "/v1/events/{id}", SERVER, shapes.Retrieve, read=_retriever("event")),
    Call("GET", "/v1/payment_methods/{id}", SERVER, shapes.Retrieve, read=_retriever("payment_method")),
    Call("POST", "/v1/webhook_endpoints", SERVER, shapes.EndpointCreate, begin=endpoints.create),
    Call("GET", "/v1/webhook_endpoints", SERVER, shapes.Page, read=_lister("webhook_endpoint")),
    Call("GET", "/v1/webhook_endpoints/{id}", SERVER, shapes.Retrieve, read=_retriever("webhook_endpoint")),
    Call("DELETE", "/v1/webhook_endpoints/{id}", SERVER, shapes.Nothing, read=endpoints.delete),
)
REFUSED = ("/v1/tokens", "/v1/payment_methods")  # these are the tokenizer's


def build_app(services: Services) -> Starlette:
    """The application; its services live longer than it."""
    api = Api(services)
    routes = [Route(call.path, api.endpoint(call), methods=[call.method]) for call in CALLS]
    routes += [Route(path, api.refuse, methods=["POST"]) for path in REFUSED]
    routes += [
        Route("/healthz", api.healthz, methods=["GET"]),
        Route("/readyz", api.readyz, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
    ]
    keyless = Middleware(
        KeylessLimit,
        config=services.config.http,
        clients=api.clients,
        known_holder=services.keys.known_holder,
        metrics=services.metrics.http,
    )
    app = Starlette(routes=routes, middleware=[keyless], exception_handlers={HTTPException: api.no_such_route})
    # A redirect would be an absolute address made of the request's Host.
    app.router.redirect_slashes = False
    return app


class Api:
    """The way of a request from the socket to a handler and back."""

    def __init__(self, services: Services) -> None:
        self.clients = Clients(Proxies(services.config.http.trusted_proxies))
        self._services = services
        rate_per_s = services.config.requests_per_s
        self._rate = Buckets(rate_per_s, rate_per_s * _BURST_S)
        self._page_rate = Buckets(rate_per_s, rate_per_s * _BURST_S)
        self._readiness = Kept(self._ready_parts)
        self._rendered = Kept(self._render_metrics)
        self._in_flight = 0

    def endpoint(self, call: Call) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            trace_id, started = _new_trace_id(), time.perf_counter()
            with structlog.contextvars.bound_contextvars(trace_id=trace_id, request_id=f"req_{trace_id}"):
                given = await self._guarded(call, request, trace_id)
                seconds = time.perf_counter() - started
                metrics = self._services.metrics
                metrics.requests.labels(call.path, call.method, str(given.status)).inc()
                metrics.request_seconds.labels(call.path).observe(seconds)
                log.info(
                    "request", method=call.method, route=call.path, status=given.status, ms=round(seconds * 1000, 1)
                )
            return _response(given, trace_id)

        return answer

    async def _guarded(self, call: Call, request: Request, trace_id: str) -> Answer:
        """The answer, in every case."""
        try:
            return await self._answer(call, request, trace_id)
        except ApiError as error:
            return execution.error_answer(error)
        except Refused as refused:
            return execution.error_answer(refused_by_server(refused))
        except ClientDisconnect:
            return Answer(499, b"")
        except Exception as error:
            return execution.failure(error)

    async def _answer(self, call: Call, request: Request, trace_id: str) -> Answer:
        caller = await self._caller(call, request)
        self._take_rate(caller, request)
        key = request.headers.get("idempotency-key") if call.begin is not None else None
        context = Context(self._services, caller, trace_id, key or "")
        ids = {name: str(value) for name, value in request.path_params.items()}
        if any(not _ID.fullmatch(value) for value in ids.values()):
            raise invalid("The id in the address cannot be one", "id", "resource_missing")
        # Not request.url: that is put together with the Host header, which may be anything.
        raw = decode_form(request.scope["query_string"].decode("latin-1"))
        if call.method == "POST":
            body = await _body(request, self._services.config.max_body_bytes)
            raw = merged(raw, decode_body(body, request.headers.get("content-type", "")))
        refuse_card_data(raw, self._services.tokenizer.url)
        refuse_card_data(dict(ids), self._services.tokenizer.url)
        params = convert(raw, call.shape)
        with self._busy():
            return await self._work(call, context, ids, params, raw, key)

    def _take_rate(self, caller: Caller, request: Request) -> None:
        """Count a request. Raises ApiError 429. A publishable key is everybody's: a visitor must not use up the
        requests of the merchant's server, nor those of other visitors."""
        if caller.kind == "secret":
            wait_s = self._rate.take(caller.account.id)
        else:
            wait_s = self._page_rate.take(f"{caller.account.id} {self.clients.name(request)}")
        if wait_s:
            raise too_many("Too many requests hit the API too quickly. Slow down.", wait_s)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        """Count a finished request. Raises ApiError 503 where there are too many of all accounts."""
        if self._in_flight >= self._services.config.max_requests:
            raise unavailable("The service is overloaded. Try again with the same key.")
        self._in_flight += 1
        self._services.metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._services.metrics.in_flight.set(self._in_flight)

    async def _work(
        self, call: Call, context: Context, ids: dict[str, str], params: Any, raw: Params, key: str | None
    ) -> Answer:
        """Read, or begin and finish."""
        if call.read is not None:
            async with self._services.pool.acquire() as connection:
                return execution.json_answer(200, await call.read(connection, context, ids, params))
        assert call.begin is not None
        work = execution.Work(context, call.begin, ids, params)
        if key is None:
            return await execution.execute(work)
        refuse_card_data({"Idempotency-Key": key}, self._services.tokenizer.url)
        path = call.path.replace("{id}", ids.get("id", ""))
        return await execution.execute_once(work, key, call.method, path, raw)

    async def _caller(self, call: Call, request: Request) -> Caller:
        caller = await self._services.keys.caller(request.headers.get("authorization", ""))
        valid_key(request.scope, caller.account.id, caller.kind)
        if caller.kind not in call.keys:
            raise ApiError(
                403,
                "invalid_request_error",
                "This API call cannot be made with a publishable API key. Use a secret key (sk_test_…), "
                "and only on your server.",
                code="secret_key_required",
            )
        return caller

    async def refuse(self, request: Request) -> Response:
        """Card data come from people who have not read the documentation: no key is asked for, no body is read."""
        return _response(execution.error_answer(card_data_refused(self._services.tokenizer.url, None)), _new_trace_id())

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        message = (
            "The method is not allowed for this address"
            if status == 405
            else "Unrecognized request URL. The API is below /v1/; see the documentation for what it serves"
        )
        answer = execution.error_answer(ApiError(status, "invalid_request_error", message, code="url_unknown"))
        if isinstance(error, HTTPException) and error.headers:  # Allow
            answer = Answer(answer.status, answer.body, {**answer.headers, **error.headers})
        return _response(answer, _new_trace_id())

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200 where payments can be made: database, a link that is signed on, the tokenizer.

        However many ask, database and tokenizer are asked ten times a second at most.
        """
        parts = await self._readiness.get()
        ready = all(parts.values())
        return JSONResponse({"ready": ready, **parts}, status_code=200 if ready else 503)

    async def _ready_parts(self) -> dict[str, bool]:
        database, tokenizer = await asyncio.gather(self._database_alive(), self._services.tokenizer.alive())
        return {"database": database, "link": self._services.link.signed_on, "tokenizer": tokenizer}

    async def _database_alive(self) -> bool:
        try:
            async with asyncio.timeout(2.0), self._services.pool.acquire() as connection:
                return bool(await connection.fetchval("SELECT true"))
        except Exception as error:
            log.warning("database not reachable", error=type(error).__name__)
            return False

    async def metrics(self, request: Request) -> Response:
        return Response(await self._rendered.get(), media_type="text/plain; version=0.0.4")

    async def _render_metrics(self) -> bytes:
        return self._services.metrics.render()


async def _body(request: Request, limit: int) -> bytes:
    """The whole body, whose time `web.protocol` keeps. Raises ApiError 413 for more than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, "invalid_request_error", f"The body is longer than {limit} bytes")
    return bytes(body)


def _new_trace_id() -> str:
    return new_trace_id(secrets.randbits, _TRACE_DIGITS)


def _response(answer: Answer, trace_id: str) -> Response:
    headers = {"Request-Id": f"req_{trace_id}", "Cache-Control": "no-store", **answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")
