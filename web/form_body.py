"""Form bodies and query strings: text in, parameters nested by their brackets out, or a BodyError.

Called by `gateway.parameters` and `hsm.tokenizer.card_form`. A parameter that is given twice is refused: two programs
in a row could take different ones.

Source: inferred from `_api_encode` of the official `stripe` package, 16.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from web.errors import BodyError

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def decode_form(text: str, *, max_depth: int, max_fields: int) -> dict[str, Any]:
    """Return the parameters: `a[b]=1` is {"a": {"b": "1"}}; `a[]=1` takes the next number as its name.

    Args:
        text: form-encoded UTF-8.
        max_depth: names in a key, the first included. max_fields: of all.
    Raises:
        BodyError: not a form, too many or too deep, brackets that do not close, a parameter twice.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=max_fields, errors="strict")
    except ValueError:  # UnicodeDecodeError is one
        raise BodyError(f"The form cannot be read, or has more than {max_fields} fields") from None
    parameters: dict[str, Any] = {}
    for key, value in pairs:
        _put(parameters, _path(key, max_depth), value)
    return parameters


def bracketed(path: Sequence[str]) -> str:
    """Return `a[b][c]` for the path a, b, c; "" for an empty one."""
    return path[0] + "".join(f"[{part}]" for part in path[1:]) if path else ""


def _path(key: str, max_depth: int) -> list[str]:
    if key.count("[") >= max_depth:
        raise BodyError(f"Parameters can be nested {max_depth} deep at most")
    match = _KEY.fullmatch(key)
    if match is None:
        raise BodyError("A parameter's name has unbalanced brackets")
    return [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]


def _put(parameters: dict[str, Any], path: list[str], value: str) -> None:
    here = parameters
    for part in path[:-1]:
        there = here.setdefault(part or str(len(here)), {})
        if not isinstance(there, dict):
            raise BodyError("A parameter is given both as a value and with brackets", bracketed(path))
        here = there
    last = path[-1] or str(len(here))
    if isinstance(here.get(last), dict):
        raise BodyError("A parameter is given both as a value and with brackets", bracketed(path))
    if last in here:
        raise BodyError("A parameter is given twice", bracketed(path))
    here[last] = value
