"""Faults of a file are told in its own words: path, what is expected, what is there."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest

from console.validation import problems


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""


class Table(msgspec.Struct, forbid_unknown_fields=True):
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    timeout_s: float = 1.0
    vault: bool = True
    rate: Decimal = Decimal(0)
    expired: Literal["warn", "refuse"] = "warn"
    networks: tuple[str, ...] = ()
    amount: int | dict[str, int] = 0
    element: int | None = None
    inner: Inner = msgspec.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("workers", "two", "expected a whole number, found text"),
        ("workers", 1.5, "expected a whole number, found a number"),
        ("workers", 0, "expected a whole number >= 1"),
        ("timeout_s", "soon", "expected a number, found text"),
        ("vault", "yes", "expected true or false, found text"),
        ("rate", "2.9%", 'expected a decimal number in quotes, like "0.029"'),
        ("expired", "stop", "expected warn or refuse, found 'stop'"),
        ("networks", "10.0.0.0/8", "expected a list, found text"),
        ("amount", "10", "expected a whole number or a table, found text"),
        ("element", "63", "expected a whole number, found text"),
        ("inner", 3, "expected a table, found a whole number"),
    ],
)
def test_a_wrong_value_is_told_without_words_of_python(setting: str, value: Any, reason: str) -> None:
    assert problems(Table, {setting: value}) == [f"{setting}: {reason}"]


def test_a_section_that_is_no_table() -> None:
    assert problems(Table, [], "switch") == ["switch: expected a table, found a list"]
