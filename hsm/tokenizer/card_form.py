"""Card data as merchants send it: a form-encoded or JSON body goes in, a checked card comes out.

Called by the tokenizer. A fault becomes an ApiError with the code and the parameter that Stripe's clients know; values
are never repeated in it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec

from hsm.tokenizer.errors import ApiError
from messages.card import brand, luhn_valid
from web.errors import BodyError
from web.form_body import decode_form
from web.json_body import decode_object

_MAX_FIELDS, _MAX_DEPTH = 64, 2
_FURTHEST_YEARS = 50


class CardForm(msgspec.Struct, frozen=True):
    """A card whose number and dates have been checked; `expiry` is YYMM. The CVC was looked at and dropped."""

    number: str
    expiry: str

    def __repr__(self) -> str:
        return "CardForm(…)"


def parse_body(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the parameters of a request, nested as in JSON: `card[number]=…` becomes {"card": {"number": …}}.

    Raises:
        ApiError: not form-encoded or JSON, or broken.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _read(lambda: decode_object(body, max_depth=_MAX_DEPTH + 1, max_values=_MAX_FIELDS))
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise _invalid("Send application/x-www-form-urlencoded or application/json.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid("The body is not UTF-8.") from None
    return _read(lambda: decode_form(text, max_depth=_MAX_DEPTH, max_fields=_MAX_FIELDS))


def checked_card(fields: Any, today: date) -> CardForm:
    """Return the card in the parameter `card`.

    Args:
        fields: {"number", "exp_month", "exp_year", "cvc"}; digits as text or numbers.
        today: the card must not have expired on it.
    Raises:
        ApiError: unknown, missing or wrong fields.
    """
    if not isinstance(fields, dict):
        raise missing("card")
    refuse_unknown(fields, {"number", "exp_month", "exp_year", "cvc"}, "card")
    for name in ("number", "exp_month", "exp_year"):
        if name not in fields:
            raise missing(f"card[{name}]")
    number = _text(fields["number"]).replace(" ", "").replace("-", "")
    if not luhn_valid(number):
        raise _card_error("incorrect_number", "number", "Your card number is incorrect.")
    month, year = _number(fields["exp_month"]), _number(fields["exp_year"])
    if month is None or not 1 <= month <= 12:
        raise _card_error("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid.")
    if year is not None and year < 100:
        year += 2000
    if year is None or not today.year <= year <= min(today.year + _FURTHEST_YEARS, 2099):
        raise _card_error("invalid_expiry_year", "exp_year", "Your card's expiration year is invalid.")
    if (year, month) < (today.year, today.month):
        raise _card_error("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid.")
    if "cvc" in fields:
        cvc = _text(fields["cvc"])
        if not (cvc.isascii() and cvc.isdigit() and len(cvc) == (4 if brand(number) == "amex" else 3)):
            raise _card_error("invalid_cvc", "cvc", "Your card's security code is invalid.")
    return CardForm(number, f"{year % 100:02d}{month:02d}")


def refuse_unknown(parameters: dict[str, Any], known: set[str], parent: str = "") -> None:
    """Raise ApiError for the first parameter that is not `known`; its name is shown only if it looks like one."""
    for name in parameters:
        if name not in known:
            shown = name if name.isascii() and name.replace("_", "").isalpha() and len(name) <= 40 else "…"
            path = f"{parent}[{shown}]" if parent else shown
            raise ApiError(
                400, "invalid_request_error", f"Received unknown parameter: {path}", "parameter_unknown", path
            )


def missing(param: str) -> ApiError:
    return ApiError(400, "invalid_request_error", f"Missing required param: {param}.", "parameter_missing", param)


def _read(decode: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return decode()
    except BodyError as error:
        raise _invalid(f"{error.message}.") from None


def _invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message)


def _card_error(code: str, param: str, message: str) -> ApiError:
    return ApiError(402, "card_error", message, code, param)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _number(value: Any) -> int | None:
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None
