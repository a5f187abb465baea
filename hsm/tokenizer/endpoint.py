"""The handlers of the tokenization endpoint: a request goes in, checked and turned into a command; an answer comes out.

Called by the server. A PAN lives here for the length of one request and is in no answer, log line or metric.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from hsm.commands import HsmRefused, HsmUnavailable
from hsm.tokenizer.api_keys import ApiKey, KeyCheck
from hsm.tokenizer.card_form import CardForm, checked_card, missing, parse_body, refuse_unknown
from hsm.tokenizer.card_objects import card_object, payment_method_object, token_object
from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.errors import ApiError, no_such_token, refused_by_server, too_many, unauthorized, unavailable
from hsm.tokenizer.limits import RefusedCards
from hsm.tokenizer.named_cards import named_card
from hsm.vault_commands import ResolveToken, Tokenize, VaultHsm
from messages.card_numbers import holds
from messages.trace import is_trace_id, trace_id
from web.addresses import Clients, Proxies
from web.buckets import Buckets
from web.keyless import SECRET, holder, valid_key
from web.readiness import Kept
from web.refusals import Refused

log = structlog.get_logger(__name__)

_ACCOUNT_ID = re.compile(r"acct_[0-9A-Za-z]{1,60}")
_TOKEN_ID = re.compile(r"(tok|pm)_[0-9A-Za-z]{22}")
_NAMED_CARD_YEARS = 4
_TRACE_DIGITS = 16
_GATEWAY = "gateway"  # an account of its own, in which the gateway's requests are counted
_NO_SUCH_ADDRESS = "Unrecognized request URL."

# The HSM's refusals as answers to a caller: status, type, message, code, param.
_REFUSALS = {
    "token_unknown": (404, "invalid_request_error", "No such token.", "resource_missing", "id"),
    "token_used": (400, "invalid_request_error", "You cannot use a token more than once.", "token_already_used", "id"),
    "pan_invalid": (402, "card_error", "Your card number is incorrect.", "incorrect_number", "number"),
    "overloaded": (429, "api_error", "Too many requests at once; try again later.", "lock_timeout", ""),
    "expired": (503, "api_error", "This took too long; nothing was done.", "", ""),
}


class TokenEndpoint:
    """The handlers; arguments as in `hsm.tokenizer.server.create_app`."""

    def __init__(
        self,
        hsm: VaultHsm,
        keys: KeyCheck,
        secret: str,
        config: TokenizerConfig,
        now: Callable[[], datetime],
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._hsm = hsm
        self._keys = keys
        self._secret = secret.encode()
        self._max_body_bytes = config.max_body_bytes
        self._now = now
        proxies = Proxies(config.http.trusted_proxies, everybody=config.behind_proxy)
        self.clients = Clients(proxies, config.internal_networks)
        self._addresses = Buckets(config.rate_per_s, config.burst)
        self._callers = Buckets(config.key_rate_per_s, config.key_burst)
        self._refused = RefusedCards(config.refused_cards)
        self._readiness = Kept(self._ready_parts)
        self._registry = registry or CollectorRegistry()
        self._requests = Counter(
            "cardswitch_tokenizer_requests", "Requests by kind and status", ["kind", "status"], registry=self._registry
        )

    def answers(
        self, kind: str, work: Callable[[Request, str], Awaitable[dict[str, Any]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap `work` so that errors become Stripe-shaped answers, and each request is counted and logged."""

        async def endpoint(request: Request) -> Response:
            trace_id = _trace_id(request)
            headers = {"Request-Id": trace_id, "Cache-Control": "no-store"}
            try:
                status, body = 200, await work(request, trace_id)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                refused = _refusal(error, kind, trace_id)
                status, body = refused.status, refused.body
                headers |= refused.headers
            self._requests.labels(kind, status).inc()
            code = body.get("error", {}).get("code", "")
            log.info("tokenizer_request", kind=kind, status=status, code=code, trace_id=trace_id)
            return JSONResponse(body, status, headers=headers)

        return endpoint

    async def create_token(self, request: Request, trace_id: str) -> dict[str, Any]:
        key = await self._key(request)
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"card"})
        card = self._card(request, key, parameters.get("card"))
        token = await self._hsm.tokenize(
            Tokenize(pan=card.number, expiry=card.expiry, kind="tok", domain=key.account, trace_id=trace_id)
        )
        return token_object(token, to_server=key.kind == "secret")

    async def create_payment_method(self, request: Request, trace_id: str) -> dict[str, Any]:
        key = await self._key(request)
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"type", "card"})
        if "type" not in parameters:
            raise missing("type")
        if parameters["type"] != "card":
            raise ApiError(400, "invalid_request_error", "Only type=card is known here.", "parameter_invalid", "type")
        fields = parameters.get("card")
        if isinstance(fields, dict) and "token" in fields:
            refuse_unknown(fields, {"token"}, "card")
            wanted = self._from_token(fields["token"], key.account, trace_id)
        else:
            card = self._card(request, key, fields)
            wanted = Tokenize(pan=card.number, expiry=card.expiry, kind="pm", domain=key.account, trace_id=trace_id)
        return payment_method_object(await self._hsm.tokenize(wanted), to_server=key.kind == "secret")

    async def read_token(self, request: Request, trace_id: str) -> dict[str, Any]:
        key = await self._key(request)
        key.require_secret()
        wanted = _stored_id(request.path_params["id"])
        if not wanted.startswith("tok_"):
            raise no_such_token()
        token = await self._hsm.resolve(ResolveToken(id=wanted, domain=key.account, trace_id=trace_id))
        return token_object(token, to_server=True)

    async def resolve(self, request: Request, trace_id: str) -> dict[str, Any]:
        """Tell the gateway the surrogate behind a token or a test name; a `tok_…` is used up unless consume=false.

        `domain` is the account for which the gateway asks: a token of another is unknown. Test names are everybody's.
        """
        self._require_internal(request)
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"id", "domain", "used_by", "consume"})
        wanted, domain = parameters.get("id"), parameters.get("domain")
        used_by, consume = parameters.get("used_by", ""), parameters.get("consume", True)
        if not isinstance(wanted, str):
            raise missing("id")
        if not isinstance(domain, str) or not _ACCOUNT_ID.fullmatch(domain):
            raise missing("domain")
        if not isinstance(used_by, str) or len(used_by) > 100 or holds(used_by) or not isinstance(consume, bool):
            raise ApiError(400, "invalid_request_error", "used_by is text of at most 100, consume true or false.")
        named = named_card(wanted)
        if named is not None:
            token = await self._hsm.tokenize(self._named(named.pan, "", "", trace_id))
        else:
            token = await self._hsm.resolve(
                ResolveToken(id=_stored_id(wanted), consume=consume, used_by=used_by, domain=domain, trace_id=trace_id)
            )
        return {
            "id": wanted,
            "surrogate": token.surrogate,
            "fingerprint": token.fingerprint,
            "used": token.used,
        } | card_object(token)

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        if not self.clients.internal(request):
            return _unknown_address()
        parts = await self._readiness.get()
        ready = all(parts.values())
        return JSONResponse({"ready": ready, **parts}, 200 if ready else 503)

    async def _ready_parts(self) -> dict[str, bool]:
        try:
            status = await self._hsm.status()
        except (HsmUnavailable, HsmRefused):
            return {"hsm": False}
        return {"hsm": True, "token": status.token, "vault": status.vault}

    async def metrics(self, request: Request) -> Response:
        """The counters of this process and, where it answers, of the HSM behind it."""
        if not self.clients.internal(request):
            return _unknown_address()
        text = generate_latest(self._registry).decode()
        try:
            text += (await self._hsm.status()).metrics
        except (HsmUnavailable, HsmRefused):
            text += 'cardswitch_hsm_up{part="token"} 0\ncardswitch_hsm_up{part="vault"} 0\n'
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    def known_holder(self, authorization: str) -> str:
        """Return who is known by that header without asking anybody, "" for nobody: see `web.keyless`."""
        if self._is_internal_secret(authorization):
            return holder(_GATEWAY, SECRET)
        return self._keys.known_holder(authorization)

    async def _key(self, request: Request) -> ApiKey:
        """The caller's key, within its limits. A publishable key is everybody's, so each address has a share, too."""
        key = await self._keys.check(request.headers.get("authorization", ""))
        valid_key(request.scope, key.account, key.kind)
        wait_s = self._addresses.take(self.clients.name(request)) if key.kind != SECRET else 0.0
        if wait_s := wait_s or self._callers.take(key.name):
            raise too_many("Too many requests hit the API too quickly. Slow down.", wait_s)
        return key

    def _require_internal(self, request: Request) -> None:
        if not self.clients.internal(request):
            raise ApiError(404, "invalid_request_error", _NO_SUCH_ADDRESS)
        if not self._is_internal_secret(request.headers.get("authorization", "")):
            raise unauthorized("The internal secret is wrong.")
        valid_key(request.scope, _GATEWAY, SECRET)

    def _is_internal_secret(self, authorization: str) -> bool:
        given = authorization.removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._secret)

    def _card(self, request: Request, key: ApiKey, fields: Any) -> CardForm:
        """The card of a request. The holder of a publishable key may send a limited count of wrong numbers only."""
        if key.kind == "secret":
            return checked_card(fields, self._now().date())
        client = self.clients.name(request)
        self._refused.check(client)
        try:
            return checked_card(fields, self._now().date())
        except ApiError as error:
            if error.code == "incorrect_number":
                self._refused.count(client, str(fields["number"]))
            raise

    async def _parameters(self, request: Request) -> dict[str, Any]:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise ApiError(413, "invalid_request_error", f"A body has at most {self._max_body_bytes} bytes.")
        return parse_body(request.headers.get("content-type", ""), bytes(body))

    def _from_token(self, source: Any, domain: str, trace_id: str) -> Tokenize:
        named = named_card(source) if isinstance(source, str) else None
        if named is not None:
            return self._named(named.pan, "pm", domain, trace_id)
        return Tokenize(source=_stored_id(source), kind="pm", domain=domain, trace_id=trace_id)

    def _named(self, pan: str, kind: str, domain: str, trace_id: str) -> Tokenize:
        expiry = f"{(self._now().year + _NAMED_CARD_YEARS) % 100:02d}12"
        return Tokenize(pan=pan, expiry=expiry, kind=kind, domain=domain, trace_id=trace_id)


def _stored_id(wanted: Any) -> str:
    """Return the id of a token if it has the shape of one: the result may be logged, so it is no card number."""
    if not isinstance(wanted, str) or not _TOKEN_ID.fullmatch(wanted):
        raise no_such_token()
    return wanted


def _trace_id(request: Request) -> str:
    given = request.headers.get("x-trace-id", "")
    return given if is_trace_id(given) else trace_id(secrets.randbits, _TRACE_DIGITS)


def _refusal(error: Exception, kind: str, trace_id: str) -> ApiError:
    """The answer to the caller; faults of ours are logged by their type, because their text may hold request data."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Refused):
        return refused_by_server(error)
    if isinstance(error, HsmUnavailable):
        return unavailable("Card data cannot be stored or read at the moment; try again.")
    if isinstance(error, HsmRefused):
        if error.code in _REFUSALS:
            return ApiError(*_REFUSALS[error.code])
        log.error("tokenizer_refused", code=error.code, trace_id=trace_id)
    else:
        log.error("tokenizer_failed", kind=kind, error=type(error).__name__, trace_id=trace_id)
    return ApiError(500, "api_error", "An error of ours; it has been noted.")


def _unknown_address() -> Response:
    return JSONResponse({"error": {"type": "invalid_request_error", "message": _NO_SUCH_ADDRESS}}, 404)
