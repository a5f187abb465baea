"""Layouts of card numbers: sizes of groups and separators in, whether a number is written so; pure.

Called by `messages.card_numbers`. A list of prices or quantities has digits in groups as well, and one in thirty such
rows passes for a card number by scheme and Luhn digit. Its groups are irregular, or its separators are of two kinds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Source: inferred from embossed cards: 16 digits, American Express, Diners Club, 19 digits; the rest from forms with a
# box for each digit or two.
PRINTED = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (1,) * 14, (1,) * 15, (1,) * 16, (2,) * 8)

_WIDE = 4  # digits; groups from here on may have several kinds of separators: prices and quantities are shorter
_MOST_UNEVEN = 5  # uneven groups of a number; more are a list
_MOST_UNEVEN_IN_BRACKETS = 3  # two telephone numbers with area codes have four and more
_BRACKETS = re.compile(r"[()\[\]{}<>]")
_BLANKS = re.compile(r"\s+")


def is_layout(sizes: list[int], between: Sequence[str]) -> bool:
    """Whether somebody writes a card number in groups of these sizes, with these separators between them.

    Args:
        sizes: digits of each group, at least two groups.
        between: the separators, one fewer than `sizes`. Brackets do not count; blanks are one blank.
    """
    kinds = [_kind(text) for text in between]
    if len(set(kinds)) == 1:
        return len(sizes) <= _MOST_UNEVEN or _is_regular(sizes)
    return _is_wide(sizes) or _is_wide(_joined(sizes, kinds))


def is_printed(sizes: list[int], between: Sequence[str]) -> bool:
    """`is_layout` for a number that is partly in something else, such as a date: irregular groups do not count."""
    kinds = [_kind(text) for text in between]
    if len(set(kinds)) > 1:
        return _is_wide(sizes)
    return _is_regular(sizes)


def is_in_brackets(sizes: list[int], between: Sequence[str]) -> bool:
    """Whether a number is in few groups, and one of them in brackets: (424) 2424242424242.

    Telephone numbers with an area code are shorter, or they are two and have more groups.
    """
    few = len(sizes) <= _MOST_UNEVEN_IN_BRACKETS
    return few and len(set(map(_kind, between))) == 1 and any(map(_BRACKETS.search, between))


def _kind(separator: str) -> str:
    return _BLANKS.sub(" ", _BRACKETS.sub("", separator))


def _is_regular(sizes: list[int]) -> bool:
    """Printed on cards, or equal groups: the last may be shorter, or the first, as in 4,242,424."""
    if tuple(sizes) in PRINTED or len(set(sizes)) == 1:
        return True
    if len(sizes) == 2:
        return False
    return (len(set(sizes[:-1])) == 1 and sizes[-1] < sizes[0]) or (len(set(sizes[1:])) == 1 and sizes[0] < sizes[1])


def _is_wide(sizes: list[int]) -> bool:
    return len(sizes) > 1 and sizes[0] >= _WIDE and _is_regular(sizes)


def _joined(sizes: list[int], kinds: list[str]) -> list[int]:
    """Sizes once groups with only blanks between them are one: 4 2 4 2 - 4 2 4 2. Decimal marks join nothing."""
    if not {".", ","}.isdisjoint(kinds):
        return []
    joined = sizes[:1]
    for kind, size in zip(kinds, sizes[1:], strict=True):
        if kind == " ":
            joined[-1] += size
        else:
            joined.append(size)
    return joined
