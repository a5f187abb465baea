"""JSON of somebody else as entries that know their path: bytes of a file in, an `Entry` out; for the JSON importers.

A missing value, or one of the wrong type, becomes a problem with its path ("fields.48.length"), and reading goes on.
Source: RFC 8259; of a repeated key the last one counts, as in Go and Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from messages.errors import SpecError
from messages.importers.imported import Findings

_DEEPEST = 24
_LONGEST = 4096  # characters of a text
_SHOWN = 60


def parse(data: bytes, source: str) -> dict[str, Any]:
    """The object that a JSON file is.

    Args:
        data: the whole file, in UTF-8.
        source: its name, for errors.

    Raises:
        SpecError: no JSON, no object, or nested deeper than any specification is.
    """
    try:
        plain = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise SpecError(source, [f"is nested more than {_DEEPEST} deep"]) from None
    except msgspec.DecodeError as error:
        raise SpecError(source, [f"is not JSON: {error}"]) from None
    except UnicodeDecodeError:
        raise SpecError(source, ["is not JSON: it is not in UTF-8"]) from None
    if not isinstance(plain, dict):
        raise SpecError(source, ["is no JSON object"])
    if _deeper(plain, _DEEPEST):
        raise SpecError(source, [f"is nested more than {_DEEPEST} deep"])
    return plain


def _deeper(plain: Any, left: int) -> bool:
    if isinstance(plain, dict):
        plain = list(plain.values())
    return isinstance(plain, list) and (left == 0 or any(_deeper(below, left - 1) for below in plain))


def shown(value: Any) -> str:
    """A name or number from a file, for an error: short, and without anything that could hide in it."""
    text = value if isinstance(value, str) else type(value).__name__
    return ascii(text[:_SHOWN])


class Entry:
    """One object of the file.

    Args:
        plain: the object.
        path: "fields.48"; "" for the whole file.
        findings: where problems go.
    """

    def __init__(self, plain: dict[str, Any], path: str, findings: Findings) -> None:
        self.plain = plain
        self.path = path
        self.findings = findings

    def __contains__(self, key: str) -> bool:
        return self.plain.get(key) is not None

    def of(self, key: str) -> str:
        """The path of something in it."""
        key = key if key.isprintable() and len(key) <= _SHOWN else shown(key)
        return f"{self.path}.{key}" if self.path else key

    def problem(self, key: str, text: str) -> None:
        """Something that makes the file useless."""
        self.findings.problem(self.of(key) if key else self.path, text)

    def warning(self, key: str, text: str) -> None:
        """Something that is left out and does not change bytes."""
        self.findings.warning(self.of(key) if key else self.path, text)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; `default` where there is none, a problem where there is no default."""
        value = self.plain.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and len(value) <= _LONGEST:
            return value
        self.problem(key, "is missing" if value is None else "must be text")
        return ""

    def number(self, key: str, smallest: int, largest: int, default: int | None = None) -> int | None:
        """A whole number; None, and a problem, where there is none in the range."""
        value = self.plain.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest:
            return value
        self.problem(key, "is missing" if value is None else f"must be a number from {smallest} to {largest}")
        return None

    def flag(self, key: str) -> bool:
        """True or false; false where it is missing."""
        value = self.plain.get(key, False)
        if not isinstance(value, bool):
            self.problem(key, "must be true or false")
        return value is True

    def entry(self, key: str) -> Entry | None:
        """An object in it; None where there is none, with a problem where there is something else."""
        value = self.plain.get(key)
        if isinstance(value, dict):
            return Entry(value, self.of(key), self.findings)
        if value is not None:
            self.problem(key, "must be an object")
        return None

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All that is in it, which must be objects."""
        for key in self.plain:
            inner = self.entry(key)
            if inner is not None:
                yield key, inner
            elif self.plain[key] is None:
                self.problem(key, "must be an object")

    def unknown(self, known: frozenset[str]) -> None:
        """A warning for each key that is not known."""
        for key in self.plain:
            if key not in known:
                self.warning(key, "is not read")
