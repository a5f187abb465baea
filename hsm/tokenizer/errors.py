"""Errors for callers of the tokenization endpoint: an error in Stripe's shape, status and headers.

Raised by the code that checks a request; `hsm.tokenizer.endpoint` turns it into the answer. No text repeats a value.
"""

from __future__ import annotations

from web.refusals import Refused, retry_after


class ApiError(Exception):
    """An answer in the shape {"error": {"type", "code", "message", "param"}}.

    Args:
        status: HTTP status.
        kind: `card_error`, `invalid_request_error` or `api_error`.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        code: str = "",
        param: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {
            "error": {"type": kind, "message": message}
            | ({"code": code} if code else {})
            | ({"param": param} if param else {})
        }

    @property
    def code(self) -> str:
        return self.body["error"].get("code", "")


def unauthorized(message: str, code: str = "") -> ApiError:
    """401. The challenge is Bearer: at Basic a browser would ask its user for a password."""
    headers = {"WWW-Authenticate": 'Bearer realm="cardswitch"'}
    return ApiError(401, "invalid_request_error", message, code, headers=headers)


def too_many(message: str, wait_s: float) -> ApiError:
    """429; `wait_s` goes into Retry-After, in whole seconds and at least one."""
    headers = {"Retry-After": retry_after(wait_s)}
    return ApiError(429, "invalid_request_error", message, "rate_limit", headers=headers)


def unavailable(message: str) -> ApiError:
    """503: nothing was done; the same request may be sent again."""
    return ApiError(503, "api_error", message, headers={"Retry-After": "1"})


def refused_by_server(refused: Refused) -> ApiError:
    """The same answer as where the HTTP server itself refuses."""
    refusal = refused.refusal
    return ApiError(refusal.status, refusal.kind, refusal.message, refusal.code, headers=dict(refusal.headers))


def no_such_token() -> ApiError:
    return ApiError(404, "invalid_request_error", "No such token.", "resource_missing", "id")
