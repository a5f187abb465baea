"""The form of a value, by the kind of its element; all paths of the codec obey this one rule.

`problem` is called by the interpreter with every value, before encoding and after decoding. `CHECKS` has the
same rules as expressions over bytes, for compiled code; a test holds the two together for every kind.

Source: ISO 8583:1987 4.4.1 (attributes a, n, s, z, b, x); that an empty number or track is none is inferred.
"""

from __future__ import annotations

import re
from typing import Any

from messages.dialect import Element

# kind → (pattern of a value, the same in words)
PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "n": (re.compile(r"[0-9]+"), "digits"),
    "a": (re.compile(r"[A-Za-z ]*"), "letters"),
    "an": (re.compile(r"[A-Za-z0-9 ]*"), "letters and digits"),
    "ans": (re.compile(r"[ -~]*"), "printable ASCII characters"),
    "z": (re.compile(r"[0-9D=]+"), "track digits and separators"),
    "x+n": (re.compile(r"[CD][0-9]+"), "C or D and digits"),
    "b": (re.compile(r"(?:[0-9A-Fa-f]{2})*"), "hexadecimal digits in pairs"),
}

# kind → the bytes that its values consist of; x+n has an order too, and b is no text.
ALLOWED: dict[str, bytes] = {
    kind: bytes(code for code in range(128) if pattern.fullmatch(chr(code)))
    for kind, (pattern, _) in PATTERNS.items()
    if kind not in ("x+n", "b")
} | {"x+n": b"CD0123456789"}


def _table(allowed: bytes, replaced: bytes = b"", by: int = 0) -> bytes:
    """For bytes.translate: allowed bytes stay, replaced bytes become `by`, all others become another control."""
    return bytes(code if code in allowed else by if code in replaced else not code for code in range(256))


# kind → condition on the bytes {0} of a value, or of several of that kind side by side. The methods of
# bytes look at ASCII only and are several times as fast as those of str or a regular expression.
CHECKS: dict[str, str] = {
    "n": "{0}.isdigit()",
    "a": "A({0}) is not None",
    "an": "({0}.isalnum() or AN({0}) is not None)",
    "ans": "{0}.translate(PRINTABLE) == {0}",
    "z": "{0}.translate(TRACK).isdigit()",
    "x+n": "X_N({0}) is not None",
}
SEVERAL = frozenset({"n", "a", "an", "ans", "z"})  # kinds whose condition holds for neighbours together

# The elements of the conditions.
CHECK_NAMES: dict[str, Any] = {
    "A": re.compile(rb"[A-Za-z ]*").fullmatch,
    "AN": re.compile(rb"[A-Za-z0-9 ]*").fullmatch,
    "X_N": re.compile(rb"[CD][0-9]+").fullmatch,
    "PRINTABLE": _table(bytes(range(0x20, 0x7F))),
    "TRACK": _table(b"0123456789", b"=D", ord("0")),
    "TRACK_NIBBLES": _table(b"0123456789", b"d", ord("0")),
}


def _counted(element: Element, upto: str = "") -> str:
    """The characters of a value with their number: "12 digits", "C or D and up to 8 digits"."""
    if element.kind == "x+n":
        return f"C or D and {upto}{element.characters - 1} digits"
    return f"{upto}{element.characters} {PATTERNS[element.kind][1]}"


def problem(element: Element, value: str) -> str | None:
    """Why `value` is invalid for this element, in words that do not repeat it; None for a valid one."""
    if not isinstance(value, str):
        return "expected text"
    pattern, what = PATTERNS[element.kind]
    size = element.characters
    if len(value) > size or (not element.length_kind and len(value) < size and not element.fill):
        upto = "up to " if element.length_kind or element.fill else ""
        return f"expected {_counted(element, upto)}, got {len(value)} characters"
    if pattern.fullmatch(value) is None:
        return f"expected {what}" if element.length_kind else f"expected {_counted(element)}"
    if element.encoding == "bcd" and len(value) % 2 and not element.pad and element.kind != "x+n":
        return f"expected an even number of {what}"
    return None
