"""JSON bodies: bytes of a request in, an object out, or a BodyError. Nothing in it is ambiguous or without a bound.

Called by `gateway.parameters` and `hsm.tokenizer.card_form`. Depth and number of values are counted before anything is
built, so that no nesting reaches the interpreter's recursion limit.

Source: RFC 8259, sections 2, 4 (names are unique), 6 (numbers), 8.1 (no byte order mark) and 9 (limits).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from web.errors import BodyError

_MAX_DIGITS = 1_000
# A text that does not end goes to the end of the body: no part of it is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]|,', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode_object(body: bytes, *, max_depth: int, max_values: int) -> dict[str, Any]:
    """Return the JSON object in `body`.

    Args:
        body: a few hundred kilobytes at most.
        max_depth: of objects and arrays, the outermost being 1.
        max_values: in all objects and arrays together.
    Raises:
        BodyError: not JSON, no object, too deep, too many values, a name twice, a number without a bound.
    """
    if body.startswith(_BYTE_ORDER_MARK):
        raise BodyError("The JSON body begins with a byte order mark: send UTF-8 without one")
    _check_size(body, max_depth, max_values)
    try:
        decoded = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        raise BodyError("The body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise BodyError("The body is not valid JSON") from None
    if not isinstance(decoded, dict):
        raise BodyError("The JSON body must be an object")
    if _SURROGATE.search(body):
        _check_characters(decoded)
    return decoded


def _check_size(body: bytes, max_depth: int, max_values: int) -> None:
    opened = body.count(b"{") + body.count(b"[")
    if opened <= max_depth and opened + body.count(b",") <= max_values:
        return
    depth = values = 0
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            values += 1
            if depth > max_depth:
                raise BodyError(f"Parameters can be nested {max_depth - 1} deep at most")
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b",":
            values += 1
        if values > max_values:
            raise BodyError(f"The body has more than {max_values} values")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BodyError("A name is given twice in one JSON object")
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise BodyError(f"A number has more than {_MAX_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    if len(text) > _MAX_DIGITS:
        raise BodyError(f"A number has more than {_MAX_DIGITS} digits")
    number = float(text)
    if not math.isfinite(number):
        raise BodyError("A number is too large")
    return number


def _no_constant(_: str) -> NoReturn:
    raise BodyError("NaN and Infinity are not JSON")


def _check_characters(decoded: Any) -> None:
    """Refuse halves of surrogate pairs, which no database and no answer can hold."""
    try:
        json.dumps(decoded, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BodyError("A text has half of a surrogate pair") from None
