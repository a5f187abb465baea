"""The parts of every request that changes something: a context, a beginning in one transaction, a continuation.

A handler checks its parameters and returns a `Begin`. `gateway.app` runs it in the transaction that also stores its
`Continuation` under the idempotency key, so a retry after a crash finds either nothing done or where to go on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.acquirer_link import AcquirerLink
from gateway.attempts import Attempt, Sender
from gateway.config import GatewayConfig
from gateway.courier import Courier
from gateway.errors import too_many, unavailable
from gateway.key_check import KeyCheck
from gateway.keys import Account, Caller
from gateway.metrics import Metrics
from gateway.sealing import Sealer
from gateway.tokenizer import Tokenizer


class Services(msgspec.Struct, frozen=True):
    """Objects with the lifetime of the process. `webhooks_waiting` wakes the sender of webhooks."""

    config: GatewayConfig
    pool: Any
    link: AcquirerLink
    courier: Courier
    tokenizer: Tokenizer
    sender: Sender
    metrics: Metrics
    webhooks_waiting: asyncio.Event
    sealer: Sealer
    keys: KeyCheck


class Context(msgspec.Struct, frozen=True):
    """One request: the services, who asks, its trace id and its idempotency key, "" where it has none."""

    services: Services
    caller: Caller
    trace_id: str
    idempotency_key: str = ""

    @property
    def account(self) -> Account:
        return self.caller.account

    @property
    def token_user(self) -> str:
        """The user of a token: the same for a request and its repeats, so that a repeat may ask for it again."""
        name = f"{self.account.id} {self.idempotency_key or self.trace_id}"
        return hashlib.sha256(name.encode()).hexdigest()

    def require_network(self) -> None:
        """Refuse work for the switch while it cannot be done. Raises ApiError 503 or 429; nothing is stored."""
        if not self.services.link.signed_on:
            raise unavailable("The payment network cannot be reached at the moment. Nothing was charged.")
        if not self.services.courier.has_room:
            raise too_many("Too many payments are under way. Nothing was charged.")


class Continuation(msgspec.Struct, frozen=True):
    """The answer once the message has ended.

    Args:
        resource: kind of object to answer with, `payment_intent` and so on.
        attempt_id: the message to wait for.
        created: a webhook endpoint shows its secret in the answer to its creation only.
    """

    resource: str
    id: str
    attempt_id: int | None = None
    expand: tuple[str, ...] = ()
    created: bool = False


class Begun(msgspec.Struct, frozen=True):
    """The result of the transaction; `attempt` is to be sent when it has committed."""

    continuation: Continuation
    attempt: Attempt | None = None


Begin = Callable[[Any], Awaitable[Begun]]
"""Takes the connection, inside a transaction. May be rolled back and run again; talks to nobody but the database."""
