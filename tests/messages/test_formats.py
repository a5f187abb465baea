"""The two forms of one rule: patterns for the interpreter, conditions on bytes for compiled code."""

from __future__ import annotations

import pytest

from messages.dialect import load_dialect
from messages.formats import CHECK_NAMES, CHECKS, PATTERNS, SEVERAL, problem

SAMPLES = {
    "n": "0123456789",
    "a": "Ab yZ",
    "an": "Ab 09 zZ",
    "ans": "Ab 09 -~!",
    "z": "0123=4567D89",
    "x+n": "C00001234",
}


def accepts(kind: str, raw: bytes) -> bool:
    names = {**CHECK_NAMES, "raw": raw}
    return bool(eval(CHECKS[kind].format("raw"), names))


@pytest.mark.parametrize("kind", CHECKS)
def test_both_forms_accept_the_same_bytes_in_every_place(kind: str) -> None:
    pattern, sample = PATTERNS[kind][0], SAMPLES[kind]
    assert pattern.fullmatch(sample) and accepts(kind, sample.encode())
    for at in range(len(sample) + 1):
        for code in range(256):
            for value in (sample[:at] + chr(code) + sample[at:], sample[:at] + chr(code) + sample[at + 1 :]):
                assert accepts(kind, value.encode("latin-1")) == (pattern.fullmatch(value) is not None)
    assert accepts(kind, b"") == (pattern.fullmatch("") is not None)


@pytest.mark.parametrize("kind", sorted(SEVERAL))
def test_neighbours_of_these_kinds_may_be_checked_together(kind: str) -> None:
    sample = SAMPLES[kind]
    assert accepts(kind, (sample + sample).encode())
    assert not accepts(kind, (sample + "\n" + sample).encode())
    assert not accepts(kind, (sample + sample + "\x00").encode())


@pytest.mark.parametrize(
    ("number", "value", "reason"),
    [
        (4, "000000001000", None),
        (4, "1000", "expected 12 digits, got 4 characters"),
        (4, "00000000100x", "expected 12 digits"),
        (2, "4" * 20, "expected up to 19 digits, got 20 characters"),
        (2, "4 2", "expected digits"),
        (52, "0123456789ABCDEF", None),
        (55, "ABC", "expected hexadecimal digits in pairs"),
        (44, "", None),
        (97, "D0", "expected C or D and 16 digits, got 2 characters"),
        (97, "X0000000000000000", "expected C or D and 16 digits"),
        (44, "\t", "expected printable ASCII characters"),
    ],
)
def test_reasons_never_repeat_the_value(number: int, value: str, reason: str | None) -> None:
    assert problem(load_dialect("iso87-ascii").elements[number], value) == reason
