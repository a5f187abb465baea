"""Bytes of a request into checked parameters: bracketed form or JSON in, a `Shape` out, or an ApiError.

`gateway.app` calls `decode_body`, `refuse_card_data` and `convert`, in this order. No error repeats a value.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from gateway.errors import ApiError, invalid
from gateway.scalars import ScalarError, typed
from gateway.shapes import LISTS, NOT_YET, Shape
from messages.card_numbers import holds, split_over
from web import form_body
from web.errors import BodyError
from web.form_body import bracketed
from web.json_body import decode_object

_MAX_FIELDS = 500
_MAX_DEPTH = 6
_CARD_NAMES = frozenset({"number", "cvc", "cvc2", "cvv", "cvv2", "pan", "track_data", "track1", "track2"})
Params = dict[str, Any]
S = TypeVar("S", bound=Shape)


def decode_body(body: bytes, content_type: str) -> Params:
    """The parameters of a request body, nested.

    Args:
        body: form-encoded with brackets (`a[b]=1`, `a[]=1`, `a[0]=1`), or a JSON object.
        content_type: the header; anything but JSON is read as a form, as Stripe's does.
    """
    if not body:
        return {}
    if content_type.partition(";")[0].strip().lower() == "application/json":
        try:
            return decode_object(body, max_depth=_MAX_DEPTH + 1, max_values=_MAX_FIELDS)
        except BodyError as error:
            raise _unreadable(error) from None
    try:
        return decode_form(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise invalid("The body is not UTF-8") from None


def decode_form(text: str) -> Params:
    """A query string or form body, nested by its brackets."""
    try:
        params = form_body.decode_form(text, max_depth=_MAX_DEPTH, max_fields=_MAX_FIELDS)
    except BodyError as error:
        raise _unreadable(error) from None
    for name in LISTS & params.keys():
        if isinstance(params[name], dict):
            params[name] = list(params[name].values())
    return params


def merged(query: Params, body: Params) -> Params:
    """The parameters of both. Raises ApiError where one is in both: which of them counts would be a guess."""
    for name in query.keys() & body.keys():
        raise invalid("A parameter is given in the address and in the body", None if holds(name) else name)
    return query | body


def _unreadable(error: BodyError) -> ApiError:
    return invalid(error.message, error.param if error.param and not holds(error.param) else None)


def refuse_card_data(params: Params, tokenizer_url: str) -> None:
    """Raise the error that names the tokenization endpoint where `params` hold card data, wherever they hide it.

    Values of every type are checked, names as well, and adjacent values. NUL, which the database
    cannot store, is refused on the way.
    """
    for path, name, value in _leaves(params, (), 0):
        if isinstance(value, str) and "\x00" in value:
            raise invalid("Parameters must not contain NUL characters")
        named = name in _CARD_NAMES and len(path) > 1 and path[0] != "metadata"
        found = split_over(value) if isinstance(value, list) else holds(value)
        if named or found:
            raise card_data_refused(tokenizer_url, bracketed(path))


def card_data_refused(tokenizer_url: str, param: str | None) -> ApiError:
    """400: card data do not belong here."""
    return ApiError(
        400,
        "invalid_request_error",
        "Card data are not accepted here: they were not stored. Send them to the tokenization endpoint, "
        f"{tokenizer_url}/v1/tokens or {tokenizer_url}/v1/payment_methods, and use the id that it returns "
        "(payment_method=pm_…, or payment_method_data[card][token]=tok_…).",
        code="card_data_not_allowed",
        param=param if param is None or not holds(param) else None,
        extra={"tokenization_url": tokenizer_url},
    )


def convert(params: Params, shape: type[S]) -> S:
    """`params` as that shape. Raises ApiError naming the first parameter that is wrong, in brackets.

    An empty string unsets a parameter, as in Stripe's API, but no integer: a refund with an empty amount is not one of
    everything. null in JSON is as if it were not there.
    """
    for name in NOT_YET.keys() & params.keys():
        raise invalid(f"{name} is not supported yet: {NOT_YET[name]}", name, "parameter_unsupported")
    try:
        params = typed(params, shape)
    except ScalarError as error:
        raise invalid(error.message, bracketed(error.path), error.code) from None
    given = {name: value for name, value in params.items() if value not in ("", None) or name == "metadata"}
    if "metadata" in given:
        given["metadata"] = _metadata(given["metadata"])
    try:
        return msgspec.convert(given, shape)
    except msgspec.ValidationError as error:
        raise _explain(str(error), shape) from None


_METADATA_KEYS, _METADATA_NAME, _METADATA_VALUE = 50, 40, 500


def _metadata(value: Any) -> dict[str, str]:
    if value in ("", None):
        return {}
    if not isinstance(value, dict):
        raise invalid("Invalid metadata: metadata must be a set of key-value pairs", "metadata")
    if len(value) > _METADATA_KEYS:
        raise invalid(f"metadata can have {_METADATA_KEYS} keys at most", "metadata")
    texts = {}
    for name, item in value.items():
        if isinstance(item, dict | list) or len(str(name)) > _METADATA_NAME:
            raise invalid(f"metadata: names up to {_METADATA_NAME} characters, values are strings", "metadata")
        text = "" if item is None else str(item).lower() if isinstance(item, bool) else str(item)
        if len(text) > _METADATA_VALUE:
            raise invalid(f"metadata values can have {_METADATA_VALUE} characters at most", f"metadata[{name}]")
        texts[str(name)] = text
    return texts


def _leaves(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Every value with its path; names are yielded as values too, and adjacent ones as a list."""
    if depth > _MAX_DEPTH:
        raise invalid(f"Parameters can be nested {_MAX_DEPTH} deep at most")
    if isinstance(value, dict):
        for name, item in value.items():
            yield path, "", name
            yield from _leaves(item, (*path, str(name)), depth + 1)
        yield path, "", [str(item) for item in value.values() if not isinstance(item, dict | list)]
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, str(number)), depth + 1)
        yield path, "", [str(item) for item in value if not isinstance(item, dict | list)]
    else:
        yield path, path[-1] if path else "", value


_AT = re.compile(r" - at `\$((?:\.[^`]*|\[[^`]*)?)`$")
_FIELD = re.compile(r"field `([^`]*)`")
_WORDS = {"int": "integer", "bool": "boolean", "str": "string", "float": "number"}


def _explain(text: str, shape: type[Shape]) -> ApiError:
    """msgspec's message as Stripe would say it, without the value."""
    at = _AT.search(text)
    path = [part for part in re.split(r"[.\[\]]+", at[1]) if part] if at else []
    path = ["0" if part == "..." else part for part in path]
    field = _FIELD.search(text)
    if field and "unknown field" in text:
        param = bracketed([*path, field[1]])
        if holds(param) or len(param) > 200:
            param = ""
        return invalid(f"Received unknown parameter: {param}", param, "parameter_unknown")
    if field and "missing required" in text:
        param = bracketed([*path, field[1]])
        return invalid(f"Missing required param: {param}.", param, "parameter_missing")
    param = bracketed(path)
    if len(path) == 1 and (words := _choices(shape, path[0])):
        return invalid(f"Invalid {param}: must be one of {', '.join(words)}", param)
    if expected := re.search(r"Expected `(\w+)", text):
        word = _WORDS.get(expected[1], expected[1])
        limit = re.search(r"`((?: (?:of )?(?:length )?[<>=]+ ?[\d.]+)+)", text)
        code = "parameter_invalid_integer" if word == "integer" else None
        return invalid(f"Invalid {word}: {param}{limit[1] if limit else ''}", param, code)
    return invalid(f"Invalid {param or 'request'}", param)


def _choices(shape: type[Shape], name: str) -> list[str]:
    hint = typing.get_type_hints(shape).get(name)
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) is typing.Literal:
            return [str(word) for word in typing.get_args(part)]
    return []
