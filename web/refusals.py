"""Refusals of the HTTP server itself, one table: a reason goes in, status and body in the API's error shape come out.

Raised by `web.request_reader`, `web.places` and `web.keyless`, answered by `web.protocol`, `web.server`, `web.keyless`
and the fronts. The reason is the label of the metric, so the table bounds the labels.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import NamedTuple

_INVALID, _OURS = "invalid_request_error", "api_error"


class Refusal(NamedTuple):
    """An answer; `code` and `headers` may be empty."""

    status: int
    kind: str
    message: str
    code: str = ""
    headers: tuple[tuple[str, str], ...] = ()


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ALLOW = (("Allow", ", ".join(METHODS)),)
_LATER = (("Retry-After", "1"),)

REFUSALS = {
    "request_line_malformed": Refusal(400, _INVALID, "The request line is not HTTP/1.1."),
    "request_line_too_long": Refusal(414, _INVALID, "The address is too long."),
    "method_unknown": Refusal(405, _INVALID, "The method is not allowed here.", "url_unknown", _ALLOW),
    "version_unknown": Refusal(505, _INVALID, "Send HTTP 1.1 or 1.0."),
    "header_malformed": Refusal(400, _INVALID, "A header is malformed."),
    "header_too_long": Refusal(431, _INVALID, "A header is too long."),
    "headers_too_many": Refusal(431, _INVALID, "The request has too many headers."),
    "headers_too_long": Refusal(431, _INVALID, "The headers are too long."),
    "header_repeated": Refusal(400, _INVALID, "A header that may be there once is there twice."),
    "host_missing": Refusal(400, _INVALID, "The Host header is missing or malformed."),
    "length_ambiguous": Refusal(400, _INVALID, "The length of the body is ambiguous: send Content-Length only."),
    "coding_unknown": Refusal(501, _INVALID, "The only transfer coding here is chunked, and only in HTTP/1.1."),
    "expectation_unknown": Refusal(417, _INVALID, "The only expectation here is 100-continue."),
    "body_too_long": Refusal(413, _INVALID, "The body is too long."),
    "chunk_malformed": Refusal(400, _INVALID, "The chunked body is malformed."),
    "chunks_too_many": Refusal(400, _INVALID, "The body comes in too many small chunks."),
    "header_late": Refusal(408, _INVALID, "The headers did not come in time."),
    "body_late": Refusal(408, _INVALID, "The body did not come in time."),
    "body_slow": Refusal(408, _INVALID, "The body comes too slowly."),
    "pipeline_too_long": Refusal(400, _INVALID, "Too much was sent before the answer to an earlier request was read."),
    "address_connections": Refusal(
        429, _INVALID, "Too many connections of one address without a valid key.", "rate_limit", _LATER
    ),
    "address_requests": Refusal(
        429, _INVALID, "Too many requests without a valid key from this address. Slow down.", "rate_limit", _LATER
    ),
    "account_connections": Refusal(429, _INVALID, "Too many connections of one account.", "rate_limit", _LATER),
    "account_requests": Refusal(429, _INVALID, "Too many requests at once. Try again.", "rate_limit", _LATER),
    "overloaded": Refusal(503, _OURS, "The service is overloaded. Try again.", "", _LATER),
}


class Refused(Exception):
    """A request or connection that is not served.

    Args:
        reason: a name of `REFUSALS`.
        wait_s: for `Retry-After`, in whole seconds and at least one; 0.0 where the table says what it is.
    """

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s

    @property
    def refusal(self) -> Refusal:
        refusal = REFUSALS[self.reason]
        if self.wait_s:
            return refusal._replace(headers=(("Retry-After", retry_after(self.wait_s)),))
        return refusal


def retry_after(wait_s: float) -> str:
    """Return the value of `Retry-After`: whole seconds, at least one."""
    return str(max(1, math.ceil(wait_s)))


def error_body(refusal: Refusal) -> str:
    """Return the JSON body of a refusal."""
    code = f', "code": "{refusal.code}"' if refusal.code else ""
    return f'{{"error": {{"type": "{refusal.kind}", "message": "{refusal.message}"{code}}}}}'


def response(reason: str) -> bytes:
    """Return the whole HTTP response; the connection ends after it."""
    refusal = REFUSALS[reason]
    body = error_body(refusal)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **dict(refusal.headers),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n{lines}\r\n{body}".encode("ascii")
