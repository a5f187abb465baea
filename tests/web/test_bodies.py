"""Bodies: depth, number of values, what is ambiguous. Each refusal is a BodyError, never another exception."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.cpu_limit import cpu_limit
from web.errors import BodyError
from web.form_body import decode_form
from web.json_body import decode_object

DEPTH, VALUES = 5, 60


def read(body: bytes) -> dict[str, Any]:
    return decode_object(body, max_depth=DEPTH, max_values=VALUES)


def refusal(body: bytes) -> str:
    with pytest.raises(BodyError) as refused:
        read(body)
    return refused.value.message


REFUSED = {
    b'{"a":' * 30_000: "nested 4 deep",
    b"[" * 60_000: "nested 4 deep",
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}": "nested 4 deep",
    b'{"a":' * 5 + b"1" + b"}" * 5 + b"[": "not valid JSON",
    b'{"a":' * 6 + b"1" + b"}" * 6: "nested 4 deep",
    b'{"a": [' + b"1," * 100 + b"1]}": "more than 60 values",
    b'{"a": [' + b"[]," * 70 + b"1]}": "more than 60 values",
    b'{"a": 1, "a": 2}': "twice",
    b'{"a": {"b": 1, "\\u0062": 2}}': "twice",
    b'{"a": NaN}': "NaN",
    b'{"a": -Infinity}': "NaN",
    b'{"a": 1e999}': "too large",
    b'{"a": ' + b"1" * 60_000 + b"}": "digits",
    b'{"a": 0.' + b"1" * 60_000 + b"}": "digits",
    b'\xef\xbb\xbf{"a": 1}': "byte order mark",
    b'{"a": "\xff"}': "UTF-8",
    '{"a": 1}'.encode("utf-16"): "UTF-8",
    b'{"a": "\\ud800"}': "surrogate",
    b'{"\\uDC00": 1}': "surrogate",
    b'{"a": "\x01"}': "not valid JSON",
    b"{'a': 1}": "not valid JSON",
    b'{"a": 01}': "not valid JSON",
    b'{"a": 1}{}': "not valid JSON",
    b"[1]": "must be an object",
    b"1": "must be an object",
    b"": "not valid JSON",
}


@pytest.mark.parametrize(("body", "words"), REFUSED.items(), ids=range(len(REFUSED)))
def test_deep_long_and_ambiguous_json_is_refused(body: bytes, words: str) -> None:
    assert words in refusal(body)


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 30_000, b'"' * 60_001, b'{"a": "' + b"\\\\" * 30_000 + b"\\"])
def test_a_text_without_an_end_is_read_once(text: bytes) -> None:
    """Each escaped quote would begin a text that goes to the end of the body: minutes of CPU time."""
    with cpu_limit(5.0):
        assert "not valid JSON" in refusal(text + b"[" * 20)


def test_what_is_below_the_limits_is_read() -> None:
    assert read(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH) == {"a": {"a": {"a": {"a": {"a": 1}}}}}
    assert len(read(json.dumps({"a": [1] * (VALUES - 5)}).encode())["a"]) == VALUES - 5
    # Brackets, commas and quotes in texts count for nothing.
    text = '[{,"\\' * 500
    assert read(json.dumps({"a": text}).encode()) == {"a": text}
    assert read(b'{"a": "\\ud83d\\ude00", "b": 99999999999999999999}') == {"a": "😀", "b": 99999999999999999999}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), values, max_size=4))
def test_json_that_is_read_is_what_was_written(tree: dict[str, Any]) -> None:
    try:
        assert read(json.dumps(tree).encode()) == tree
    except BodyError as error:
        assert "deep" in error.message or "values" in error.message


@given(st.binary(max_size=100) | st.text('{}[],:"\\ud8a0 1eN', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(BodyError):
        assert isinstance(read(body), dict)


def form_refusal(text: str) -> BodyError:
    with pytest.raises(BodyError) as refused:
        decode_form(text, max_depth=3, max_fields=20)
    return refused.value


@pytest.mark.parametrize(
    ("text", "words", "param"),
    [
        ("a" + "[b]" * 20_000 + "=1", "nested 3 deep", ""),
        ("a" + "[" * 60_000 + "=1", "nested 3 deep", ""),
        ("a" + "]" * 60_000 + "=1", "unbalanced", ""),
        ("a[b]c=1", "unbalanced", ""),
        ("a[b=1", "unbalanced", ""),
        ("=1", "unbalanced", ""),
        ("a=1&a=2", "twice", "a"),
        ("a[b]=1&a[b]=1", "twice", "a[b]"),
        ("a[]=1&a[0]=2", "twice", "a[0]"),
        ("a=1&a[b]=2", "with brackets", "a[b]"),
        ("a[b]=1&a=2", "with brackets", "a"),
        ("a=%ff", "cannot be read", ""),
        ("&".join(f"a{n}=1" for n in range(21)), "more than 20 fields", ""),
    ],
)
def test_deep_long_and_ambiguous_forms_are_refused(text: str, words: str, param: str) -> None:
    error = form_refusal(text)
    assert words in error.message and error.param == param


def test_forms_are_nested_by_brackets() -> None:
    assert decode_form("a[b][c]=1&a[]=2&d=&e[]=3&e[]=4", max_depth=3, max_fields=20) == {
        "a": {"b": {"c": "1"}, "1": "2"},
        "d": "",
        "e": {"0": "3", "1": "4"},
    }


@given(st.text(max_size=80) | st.text("a[]=&%", max_size=60))
def test_any_text_is_a_form_or_a_body_error(text: str) -> None:
    for given_text in (text, urlencode({text: text})):
        with contextlib.suppress(BodyError):
            assert isinstance(decode_form(given_text, max_depth=3, max_fields=20), dict)
