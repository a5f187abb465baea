"""What a value may look like, by the kind of its element; the one rule that all paths of the codec obey.

`problem` is called by the interpreter with every value, before encoding and after decoding. The compiler
generates code that accepts the same values and refuses the same; tests hold the two together.

Source: ISO 8583:1987 4.4.1 (attributes a, n, s, z, b, x); that an empty number is no number, and that a
track has at least one digit, is inferred.
"""

from __future__ import annotations

import re

from messages.dialect import Element

# kind → (pattern of a value, the same in words)
PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "n": (re.compile(r"[0-9]+"), "digits"),
    "a": (re.compile(r"[A-Za-z ]*"), "letters"),
    "an": (re.compile(r"[A-Za-z0-9 ]*"), "letters and digits"),
    "ans": (re.compile(r"[ -~]*"), "printable ASCII characters"),
    "z": (re.compile(r"[0-9D=]*[0-9][0-9D=]*"), "track digits and separators"),
    "x+n": (re.compile(r"[CD][0-9]+"), "C or D and digits"),
    "b": (re.compile(r"(?:[0-9A-Fa-f]{2})*"), "hexadecimal digits in pairs"),
}


def problem(element: Element, value: str) -> str | None:
    """Why `value` is none of this element's, in words that do not repeat it; None where it is fine."""
    if not isinstance(value, str):
        return "expected text"
    pattern, what = PATTERNS[element.kind]
    size = element.characters
    if element.length_kind == 0:
        if len(value) != size:
            return f"expected {size} {what}, got {len(value)} characters"
    elif len(value) > size:
        return f"expected up to {size} {what}, got {len(value)} characters"
    if pattern.fullmatch(value) is None:
        return f"expected {what}" if element.length_kind else f"expected {size} {what}"
    return None
