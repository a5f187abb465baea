"""Webhook endpoints: the addresses that a merchant wants events sent to. Called by `gateway.app`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.destinations import Network, plainly_refused
from gateway.errors import invalid, missing
from gateway.events import TYPES
from gateway.ids import new_id, random_chars
from gateway.objects import Object
from gateway.operations import Begin, Begun, Context, Continuation
from gateway.sealing import bound_to_endpoint
from gateway.shapes import EndpointCreate, Nothing

MAX_ENDPOINTS = 16  # an account


async def create(context: Context, ids: dict[str, str], params: EndpointCreate) -> Begin:
    """POST /v1/webhook_endpoints; the answer shows the signing secret, this once."""
    check_url(params.url, context.services.config.webhook_destinations())
    unknown = [number for number, name in enumerate(params.enabled_events) if name != "*" and name not in TYPES]
    if unknown:
        raise invalid("Unknown event type; '*' means all", f"enabled_events[{unknown[0]}]")

    async def begin(connection: Any) -> Begun:
        # One at a time for an account, so that the limit holds.
        await connection.execute("SELECT 1 FROM gateway.accounts WHERE id = $1 FOR UPDATE", context.account.id)
        count = await connection.fetchval(
            "SELECT count(*) FROM gateway.webhook_endpoints WHERE account_id = $1 AND deleted_at IS NULL",
            context.account.id,
        )
        if count >= MAX_ENDPOINTS:
            raise invalid(f"You have {MAX_ENDPOINTS} webhook endpoints, which is the limit: delete one first")
        endpoint_id = new_id("we")
        await connection.execute(
            """INSERT INTO gateway.webhook_endpoints
                   (id, account_id, created_at, url, sealed_secret, key_version, enabled_events, description, metadata)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
            *(endpoint_id, context.account.id, datetime.now(UTC), params.url),
            *context.services.sealer.seal(f"whsec_{random_chars(32)}", bound_to_endpoint(endpoint_id)),
            *(params.enabled_events, params.description),
            {} if params.metadata is msgspec.UNSET else params.metadata,
        )
        return Begun(Continuation("webhook_endpoint", endpoint_id, expand=tuple(params.expand), created=True))

    return begin


async def delete(connection: Any, context: Context, ids: dict[str, str], params: Nothing) -> Object:
    """DELETE /v1/webhook_endpoints/{id}; its waiting deliveries are not sent any more."""
    async with connection.transaction():
        done = await connection.fetchval(
            """UPDATE gateway.webhook_endpoints SET deleted_at = now()
               WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL RETURNING id""",
            *(ids["id"], context.account.id),
        )
        if done is None:
            raise missing("webhook endpoint")
        await connection.execute(
            """UPDATE gateway.deliveries SET state = 'failed', last_result = 'endpoint deleted'
               WHERE endpoint_id = $1 AND state = 'waiting'""",
            ids["id"],
        )
    return {"id": ids["id"], "object": "webhook_endpoint", "deleted": True}


def check_url(url: str, allowed: Sequence[Network] = ()) -> None:
    """Raise ApiError unless `url` is an absolute http or https address without credentials, of a host on the internet.

    Names are not resolved here, because the answer would reveal ours; they are when a webhook is sent.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(letter <= " " for letter in url):
        raise invalid("Invalid URL: it must start with http:// or https:// and name a host", "url", "url_invalid")
    if parts.username or parts.password:
        raise invalid("Invalid URL: it must not contain credentials", "url", "url_invalid")
    if plainly_refused(parts.hostname or "", parts.port, allowed):
        raise invalid(
            "Invalid URL: webhooks go to the public internet, to port 80, 443, or 1024 and above", "url", "url_invalid"
        )
