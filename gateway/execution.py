"""The work of one request: begin in a transaction, send, wait, answer; once for each idempotency key.

Called by `gateway.app`. The order is what keeps money safe: the message and its continuation are durable before it is
sent, the answer is stored before it is given.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
import structlog

from gateway import idempotency, objects
from gateway.attempts import Attempt, Kind, State
from gateway.declines import card_error
from gateway.errors import ApiError, unavailable
from gateway.idempotency import Claim, Stored
from gateway.operations import Context, Continuation
from gateway.reading import RESOURCES, expand, row_of
from gateway.sealing import endpoint_secret

log = structlog.get_logger("gateway.api")


class Answer(msgspec.Struct, frozen=True):
    """The response."""

    status: int
    body: bytes
    headers: dict[str, str] = {}


class Work(msgspec.Struct, frozen=True):
    """A handler with what it is called with."""

    context: Context
    handler: Any
    ids: dict[str, str]
    params: Any


async def execute(work: Work, held: Claim | None = None) -> Answer:
    """Begin and finish. Raises ApiError where nothing was begun."""
    services = work.context.services
    begin = await work.handler(work.context, work.ids, work.params)
    async with services.pool.acquire() as connection, connection.transaction():
        begun = await begin(connection)
        if held is not None:
            await idempotency.bind(connection, held, begun.continuation)
    services.webhooks_waiting.set()
    if begun.attempt is not None:
        services.courier.start(begun.attempt)
    return await _finish(work.context, begun.continuation)


async def execute_once(work: Work, key: str, method: str, path: str, raw: dict[str, Any]) -> Answer:
    """The same under an idempotency key: do it, go on with it, or give the stored answer again."""
    services = work.context.services
    account_id = work.context.account.id
    digest = idempotency.request_digest(method, path, raw)
    async with services.pool.acquire() as connection:
        process, claim_s = services.sender.holder, services.config.claim_s
        held = await idempotency.claim(connection, account_id, key, digest, process, claim_s, services.sealer)
    replayed = {"Idempotency-Key": key, "Idempotent-Replayed": "true"}
    if isinstance(held, Stored):
        return Answer(held.status, held.body, {**replayed, **original_headers(held.status)})
    try:
        if held.continuation is not None:
            log.info("going on where a request had ended", resource=held.continuation.resource)
            answer = await _finish(work.context, held.continuation)
        else:
            answer = await execute(work, held)
    except ApiError as error:
        if error.status in (409, 429) or error.status >= 500:
            await _release(services.pool, held)
            raise
        answer = error_answer(error)
    except Exception:
        await _release(services.pool, held)
        raise
    async with services.pool.acquire() as connection:
        await idempotency.finish(connection, held, Stored(answer.status, answer.body), services.sealer)
    return Answer(answer.status, answer.body, {"Idempotency-Key": key, **answer.headers})


async def _finish(context: Context, continuation: Continuation) -> Answer:
    """Wait for the message, if there is one, and show the object as it is then."""
    services = context.services
    attempt: Attempt | None = None
    if continuation.attempt_id is not None:
        attempt = await services.courier.wait(continuation.attempt_id, services.config.request_timeout_s)
    resource = RESOURCES[continuation.resource]
    async with services.pool.acquire() as connection:
        row = await row_of(connection, context.account.id, resource, continuation.id)
        if continuation.created and continuation.resource == "webhook_endpoint":
            return json_answer(200, objects.webhook_endpoint(row, endpoint_secret(services.sealer, row)))
        shown = resource.show(row)
        if attempt is not None and (error := _refusal(attempt, shown)) is not None:
            return error_answer(error)
        await expand(connection, context.account.id, [shown], continuation.expand)
    return json_answer(200, shown)


def _refusal(attempt: Attempt, shown: objects.Object) -> ApiError | None:
    """The error that a declined message ends in; refunds have none, their status says `failed`."""
    if attempt.state not in (State.DECLINED, State.REVERSED) or attempt.kind is Kind.REFUND:
        return None
    if attempt.kind in (Kind.AUTHORIZATION, Kind.PURCHASE):
        told = attempt.response_code if attempt.state is State.DECLINED else ""
        error = card_error(told, attempt.charge)
        kind, message, code = error.pop("type"), error.pop("message"), error.pop("code")
        last = shown["last_payment_error"] or {}
        method = {"payment_method": last["payment_method"]} if last.get("charge") == attempt.charge else {}
        return ApiError(402, kind, message, code=code, extra={**error, **method, "payment_intent": shown})
    what = "capture" if attempt.kind is Kind.CAPTURE else "cancellation"
    return ApiError(
        400,
        "invalid_request_error",
        f"The network refused the {what} (response code {attempt.response_code}).",
        code="capture_charge_authorization_expired" if attempt.kind is Kind.CAPTURE else "charge_not_refundable",
        extra={"charge": attempt.charge, "payment_intent": shown},
    )


async def _release(pool: Any, held: Claim) -> None:
    try:
        async with pool.acquire() as connection:
            await idempotency.release(connection, held)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        log.warning("idempotency key not released: it is free after claim_s")


def failure(error: Exception) -> Answer:
    """The answer to an exception that is no ApiError: 503 where the database is away, else 500 and a traceback."""
    if isinstance(error, OSError | TimeoutError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError):
        log.error("database not reachable", error=type(error).__name__)
        return error_answer(unavailable("The service is not available at the moment. Try again with the same key."))
    log.error("request failed", exc_info=error)
    return error_answer(ApiError(500, "api_error", "An error occurred on our side. Try again with the same key."))


def error_answer(error: ApiError) -> Answer:
    return Answer(error.status, msgspec.json.encode(error.body()), {**original_headers(error.status), **error.headers})


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, msgspec.json.encode(body))


def original_headers(status: int) -> dict[str, str]:
    """A decline or a bad request stays what it is: clients need not try again."""
    return {"Stripe-Should-Retry": "false"} if status in (400, 402, 404) else {}
