"""Errors: `ApiError` is an answer to the merchant in Stripe's form, the others stay inside.

Handlers raise `ApiError`; `gateway.app` turns it into status and body. Messages never carry a parameter's value,
because a value may be card data.
"""

from __future__ import annotations

from typing import Any

from web.refusals import Refused, retry_after


class GatewayError(Exception):
    """Base of everything raised here."""


class ApiError(GatewayError):
    """An error in Stripe's shape.

    Args:
        status: HTTP status. kind: `invalid_request_error`, `card_error`, `idempotency_error`, `api_error`.
        message: for the developer who reads it; the fault and the remedy.
        extra: further members of the error object (decline_code, payment_intent, charge …).

    Source: inferred from the `ErrorObject` of the official `stripe` package, 16.1.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        extra: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param
        self.extra = extra or {}
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON object to answer with."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["code"] = self.code
        if self.param is not None:
            error["param"] = self.param
        return {"error": {**error, **self.extra}}


class ConfigurationError(GatewayError):
    """The configuration cannot be used; the message lists every problem."""


class LinkDown(GatewayError):
    """No connection to the switch is signed on."""


class SwitchRefused(GatewayError):
    """The process at the switch's address is not accepted as the switch; `reason` is a constant, for the metric."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LinkBusy(GatewayError):
    """As many messages are in flight as are allowed."""


class AnswerOverdue(GatewayError):
    """The switch has not answered in time; whether it acted is unknown."""


class TokenizerUnavailable(GatewayError):
    """The tokenizer could not be reached or answered with an error of its own."""


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request cannot be done in this form."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param)


def missing(what: str, param: str = "id") -> ApiError:
    """404: no such object for this account. `what` is the object's kind, never the id of the request."""
    return ApiError(404, "invalid_request_error", f"No such {what}", code="resource_missing", param=param)


def unavailable(message: str) -> ApiError:
    """503: nothing was done; the same request may be sent again."""
    return ApiError(503, "api_error", message, headers={"Retry-After": "1", "Stripe-Should-Retry": "true"})


def refused_by_server(refused: Refused) -> ApiError:
    """The same answer as where the HTTP server itself refuses."""
    refusal = refused.refusal
    return ApiError(
        refusal.status, refusal.kind, refusal.message, code=refusal.code or None, headers=dict(refusal.headers)
    )


def unexpected_state(message: str, payment_intent: dict[str, Any]) -> ApiError:
    """400: the payment intent's status does not allow this."""
    return ApiError(
        400,
        "invalid_request_error",
        message,
        code="payment_intent_unexpected_state",
        extra={"payment_intent": payment_intent},
    )


def too_many(message: str, wait_s: float = 1.0) -> ApiError:
    """429: a limit of this gateway is reached; nothing was done. `wait_s` goes into Retry-After."""
    headers = {"Retry-After": retry_after(wait_s)}
    return ApiError(429, "invalid_request_error", message, code="rate_limit", headers=headers)
