"""Headers of every answer for browsers: the pages that may read it, and its restrictions.

An ASGI application goes in, the same with headers comes out. CORS is for /v1 only; it is written out here because it
is one table and must be exact: no origin but the configured ones, no credentials, no cached answer for another origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Stripe-Version",
    "Access-Control-Max-Age": "600",
}
_READABLE = {"Access-Control-Expose-Headers": "Request-Id, Retry-After"}
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# For answers that are no page: nothing in it is run, loaded or shown in a frame.
_NO_PAGE = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}


class BrowserHeaders:
    """The middleware.

    Args:
        origins: pages that may call /v1, or "*".
        behind_proxy: X-Forwarded-Proto says whether the client uses TLS.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str], behind_proxy: bool) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Headers(scope=scope)
        added = dict(_ALWAYS)
        if self._by_tls(scope, request):
            added |= _HSTS
        open_to_browsers = scope["path"].startswith("/v1/")
        if open_to_browsers:
            added |= self._granted(request.get("origin"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (_NO_PAGE | added).items():
                    headers.setdefault(name, value)
            await send(message)

        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in request
        if open_to_browsers and preflight:
            granted = "Access-Control-Allow-Origin" in added
            answer = Response(status_code=204 if granted else 403, headers=_ALLOWED if granted else {})
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _granted(self, origin: str | None) -> dict[str, str]:
        if "*" in self._origins:
            return {"Access-Control-Allow-Origin": "*", **_READABLE}
        if origin is None or origin not in self._origins:
            return {"Vary": "Origin"}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_READABLE}

    def _by_tls(self, scope: Scope, request: Headers) -> bool:
        if self._behind_proxy:
            return request.get("x-forwarded-proto", "").rpartition(",")[2].strip() == "https"
        return bool(scope["scheme"] == "https")
