"""The handlers of the tokenization endpoint: a request goes in, checked and turned into a command; an answer comes out.

Called by the server. A PAN lives here for the length of one request and is in no answer, log line or metric.
"""

from __future__ import annotations

import base64
import binascii
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
from hsm.tokenizer.card_form import ApiError, checked_card, missing, parse_body, refuse_unknown
from hsm.tokenizer.card_objects import card_object, payment_method_object, token_object
from hsm.tokenizer.named_cards import named_card
from hsm.vault_commands import ResolveToken, Tokenize, VaultHsm
from messages.trace import is_trace_id, trace_id

log = structlog.get_logger(__name__)

_API_KEY = re.compile(r"(pk|sk|rk)_test_[A-Za-z0-9_]{1,200}")
_TOKEN_ID = re.compile(r"(tok|pm)_[0-9A-Za-z]{22}")
_NAMED_CARD_YEARS = 4
_TRACE_DIGITS = 16

# What the HSM's refusals are to a caller: status, type, code, message, param.
_REFUSALS = {
    "token_unknown": (404, "invalid_request_error", "resource_missing", "No such token.", "id"),
    "token_used": (400, "invalid_request_error", "token_already_used", "You cannot use a token more than once.", "id"),
    "pan_invalid": (402, "card_error", "incorrect_number", "Your card number is incorrect.", "number"),
    "overloaded": (429, "api_error", "lock_timeout", "Too many requests at once; try again later.", ""),
}


class TokenEndpoint:
    """The handlers; arguments as in `hsm.tokenizer.create_app`."""

    def __init__(self, hsm: VaultHsm, secret: str, max_body_bytes: int, now: Callable[[], datetime]) -> None:
        self._hsm = hsm
        self._secret = secret.encode()
        self._max_body_bytes = max_body_bytes
        self._now = now
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cardswitch_tokenizer_requests", "Requests by kind and status", ["kind", "status"], registry=self._registry
        )

    def answers(
        self, kind: str, work: Callable[[Request, str], Awaitable[dict[str, Any]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap `work` so that errors become Stripe-shaped answers, and each request is counted and logged."""

        async def endpoint(request: Request) -> Response:
            trace_id = _trace_id(request)
            try:
                status, body = 200, await work(request, trace_id)
            except ApiError as error:
                status, body = error.status, error.body
            except HsmRefused as refusal:
                status, body = _refusal(refusal)
            except HsmUnavailable:
                status, body = 503, _error("api_error", "Card data cannot be stored or read at the moment; try again.")
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                # Its text may hold what was sent.
                log.error("tokenizer_failed", kind=kind, error=type(error).__name__, trace_id=trace_id)
                status, body = 500, _error("api_error", "An error of ours; it has been noted.")
            self._requests.labels(kind, status).inc()
            code = body.get("error", {}).get("code", "")
            log.info("tokenizer_request", kind=kind, status=status, code=code, trace_id=trace_id)
            return JSONResponse(body, status, headers={"Request-Id": trace_id, "Cache-Control": "no-store"})

        return endpoint

    async def create_token(self, request: Request, trace_id: str) -> dict[str, Any]:
        _require_key(request)
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"card"})
        card = checked_card(parameters.get("card"), self._now().date())
        token = await self._hsm.tokenize(Tokenize(pan=card.number, expiry=card.expiry, kind="tok", trace_id=trace_id))
        return token_object(token)

    async def create_payment_method(self, request: Request, trace_id: str) -> dict[str, Any]:
        _require_key(request)
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"type", "card"})
        if "type" not in parameters:
            raise missing("type")
        if parameters["type"] != "card":
            raise ApiError(400, "invalid_request_error", "Only type=card is known here.", "parameter_invalid", "type")
        fields = parameters.get("card")
        if isinstance(fields, dict) and "token" in fields:
            refuse_unknown(fields, {"token"}, "card")
            wanted = self._from_token(fields["token"], trace_id)
        else:
            card = checked_card(fields, self._now().date())
            wanted = Tokenize(pan=card.number, expiry=card.expiry, kind="pm", trace_id=trace_id)
        return payment_method_object(await self._hsm.tokenize(wanted))

    async def read_token(self, request: Request, trace_id: str) -> dict[str, Any]:
        _require_key(request)
        wanted = _stored_id(request.path_params["id"])
        if not wanted.startswith("tok_"):
            raise _missing_token()
        return token_object(await self._hsm.resolve(ResolveToken(id=wanted, trace_id=trace_id)))

    async def resolve(self, request: Request, trace_id: str) -> dict[str, Any]:
        """Tell the gateway the surrogate behind a token or a test name; a `tok_…` is used up unless consume=false."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._secret):
            raise ApiError(401, "invalid_request_error", "The internal secret is wrong.")
        parameters = await self._parameters(request)
        refuse_unknown(parameters, {"id", "used_by", "consume"})
        wanted, used_by, consume = parameters.get("id"), parameters.get("used_by", ""), parameters.get("consume", True)
        if not isinstance(wanted, str):
            raise missing("id")
        if not isinstance(used_by, str) or len(used_by) > 100 or not isinstance(consume, bool):
            raise ApiError(400, "invalid_request_error", "used_by is text of at most 100, consume true or false.")
        named = named_card(wanted)
        if named is not None:
            token = await self._hsm.tokenize(self._named(named.pan, "", trace_id))
        else:
            token = await self._hsm.resolve(
                ResolveToken(id=_stored_id(wanted), consume=consume, used_by=used_by, trace_id=trace_id)
            )
        return {
            "id": wanted,
            "surrogate": token.surrogate,
            "fingerprint": token.fingerprint,
            "used": token.used,
        } | card_object(token)

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        try:
            status = await self._hsm.status()
        except (HsmUnavailable, HsmRefused):
            return JSONResponse({"ready": False, "hsm": False}, 503)
        ready = status.token and status.vault
        return JSONResponse(
            {"ready": ready, "hsm": True, "token": status.token, "vault": status.vault}, 200 if ready else 503
        )

    async def metrics(self, _: Request) -> Response:
        """The counters of this process and, where it answers, of the HSM behind it."""
        text = generate_latest(self._registry).decode()
        try:
            text += (await self._hsm.status()).metrics
        except (HsmUnavailable, HsmRefused):
            text += 'cardswitch_hsm_up{part="token"} 0\ncardswitch_hsm_up{part="vault"} 0\n'
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _parameters(self, request: Request) -> dict[str, Any]:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise ApiError(413, "invalid_request_error", f"A body has at most {self._max_body_bytes} bytes.")
        return parse_body(request.headers.get("content-type", ""), bytes(body))

    def _from_token(self, source: Any, trace_id: str) -> Tokenize:
        named = named_card(source) if isinstance(source, str) else None
        if named is not None:
            return self._named(named.pan, "pm", trace_id)
        return Tokenize(source=_stored_id(source), kind="pm", trace_id=trace_id)

    def _named(self, pan: str, kind: str, trace_id: str) -> Tokenize:
        expiry = f"{(self._now().year + _NAMED_CARD_YEARS) % 100:02d}12"
        return Tokenize(pan=pan, expiry=expiry, kind=kind, trace_id=trace_id)


def _require_key(request: Request) -> None:
    """Check that an API key of this mode is there: as a bearer token, or as the user of basic authentication."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not given:
        raise ApiError(401, "invalid_request_error", "You did not provide an API key: Authorization: Bearer pk_test_…")
    if not _API_KEY.fullmatch(given):
        raise ApiError(401, "invalid_request_error", "Invalid API key provided.")


def _stored_id(wanted: Any) -> str:
    """Return the id of a token if it has the shape of one: what goes on may be logged, so it is no card number."""
    if not isinstance(wanted, str) or not _TOKEN_ID.fullmatch(wanted):
        raise _missing_token()
    return wanted


def _missing_token() -> ApiError:
    return ApiError(404, "invalid_request_error", "No such token.", "resource_missing", "id")


def _trace_id(request: Request) -> str:
    given = request.headers.get("x-trace-id", "")
    return given if is_trace_id(given) else trace_id(secrets.randbits, _TRACE_DIGITS)


def _refusal(refusal: HsmRefused) -> tuple[int, dict[str, Any]]:
    known = _REFUSALS.get(refusal.code)
    if known is None:
        log.error("tokenizer_refused", code=refusal.code)
        return 500, _error("api_error", "An error of ours; it has been noted.")
    status, kind, code, message, param = known
    return status, ApiError(status, kind, message, code, param).body


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}
