"""Requests without a valid key, counted by address: beyond a rate they are answered with 429 before any work.

An ASGI middleware of both fronts, inside of what makes CORS headers. A request costs its address a turn unless a valid
key is shown to it: 401, 404, health pages, anything. A publishable key is everybody's, so its requests that end in 401,
403 or 404 cost a turn, too: that is how client secrets are guessed.

A caller with a valid key does not pay for strangers behind the same address. The front remembers the digests of the
keys that were valid; a request with one of them is counted by address and key holder, not by address. The digest is
SHA-256 of the given key and is looked up in a dict: microseconds, and the time reveals nothing about a usable key.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.addresses import Clients
from web.buckets import Buckets
from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.places import identify
from web.refusals import Refused, error_body

EXTENSION = "cardswitch.keyless"
REASON = "address_requests"
SECRET = "secret"
MAX_KEYS = 50_000
_GUESSES = frozenset({401, 403, 404})  # statuses by which a guess with a publishable key shows that it was wrong


class KnownKeys:
    """The digests of keys that were valid when they were last checked, and whose they are. Bounded.

    Only valid keys come in, so guesses neither make it grow nor make it forget.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._holders: OrderedDict[bytes, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def remember(self, digest: bytes, holder: str) -> None:
        """A key with that SHA-256 is valid. `holder` names account and kind."""
        self._holders[digest] = holder
        self._holders.move_to_end(digest)
        if len(self._holders) > self._max_keys:
            self._holders.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """That key is no longer valid."""
        self._holders.pop(digest, None)

    def holder(self, digest: bytes) -> str:
        """Return the holder, "" for a key that is not known."""
        return self._holders.get(digest, "")


def holder(account: str, kind: str) -> str:
    """Return the name by which requests with a key of that account and kind are counted."""
    return f"{account} {kind}"


class Visit:
    """One request: its counting key, and whether it has shown a valid key."""

    __slots__ = ("_address", "_buckets", "_charged", "_kind", "_metrics", "_name")

    def __init__(self, buckets: Buckets, metrics: HttpMetrics, address: str, known: str) -> None:
        self._buckets = buckets
        self._metrics = metrics
        self._address = address
        self._name = f"{address} {known}" if known else address
        self._kind = ""
        self._charged = False

    def check(self) -> None:
        """Raise Refused where no request of that name is left."""
        if wait_s := self._buckets.wait_s(self._name):
            self._metrics.refused(REASON, self._address)
            raise Refused(REASON, wait_s)

    def show(self, account: str, kind: str) -> None:
        """The request shows a valid key. Raises Refused where too many with that publishable key have failed."""
        self._kind = kind
        self._name = f"{self._address} {holder(account, kind)}"
        if kind != SECRET:
            self.check()

    def answered(self, status: int) -> None:
        """Charge the request, once, where it counts; `status` 0 is no answer."""
        counts = self._kind == "" or (self._kind != SECRET and status in _GUESSES)
        if counts and not self._charged:
            self._charged = True
            self._buckets.charge(self._name)


class KeylessLimit:
    """The middleware.

    Args:
        config: the rates. clients: whose request it is.
        known_holder: takes the Authorization header; returns `holder` of a key that was valid lately, else "".
        metrics: where refusals are counted and logged. clock: seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: HttpConfig,
        clients: Clients,
        known_holder: Callable[[str], str],
        metrics: HttpMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._clients = clients
        self._known_holder = known_holder
        self._metrics = metrics
        self._buckets = Buckets(config.keyless_per_s, config.keyless_burst, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        known = self._known_holder(request.headers.get("authorization", ""))
        visit = Visit(self._buckets, self._metrics, self._clients.name(request), known)
        try:
            visit.check()
        except Refused as refused:
            await _answer(refused)(scope, receive, send)
            return
        scope.setdefault("extensions", {})[EXTENSION] = visit

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.answered(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_and_count)
        finally:
            visit.answered(0)


def valid_key(scope: MutableMapping[str, Any], account: str, kind: str) -> None:
    """Say for a request that it shows a valid key of `account`; `kind` is "secret" for one that only servers have.

    Raises:
        Refused: too many requests of that publishable key and address have failed; or as `web.places.identify`.
    """
    visit: Visit | None = scope.get("extensions", {}).get(EXTENSION)
    if visit is not None:
        visit.show(account, kind)
    if kind == SECRET:
        identify(scope, account)


def _answer(refused: Refused) -> Response:
    refusal = refused.refusal
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **dict(refusal.headers)}
    return Response(error_body(refusal), refusal.status, headers, "application/json")
