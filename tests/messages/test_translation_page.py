"""docs/translation.md shows the tables that messages are translated by; run this file to print them anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from messages.counterparts.functions import FILE_ACTIONS, FUNCTIONS, MANAGEMENT
from messages.dictionary import element_name
from messages.dictionary.actions import action_code, response_code
from messages.dictionary.iso1987 import ENTRY_MODES, RESPONSE_CODES
from messages.dictionary.iso1993 import ACTION_CODES
from messages.points_of_service import positions_1993
from messages.translation import DROPPED, SAME, WRITERS
from tests.messages.dictionary.test_actions import OWN

PAGE = Path(__file__).parents[2] / "docs" / "translation.md"


def spans(numbers: Iterable[int]) -> str:
    """2–6, 8."""
    said: list[list[int]] = []
    for number in sorted(numbers):
        if said and number == said[-1][-1] + 1:
            said[-1] = [said[-1][0], number]
        else:
            said.append([number])
    return ", ".join("–".join(map(str, span)) for span in said)


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    rule = "|" + "---|" * head.count(" | ") + "---|"
    return "\n".join([f"| {head} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def untold(version: str) -> list[int]:
    """Elements of 1987 that have no way into a version."""
    told = SAME[version] | WRITERS[version].keys() | DROPPED[version].keys()
    return [number for number in range(2, 129) if number not in told and element_name("1987", number)]


def fates() -> str:
    rows = [
        (what, spans(fate("1993")), spans(fate("2003")))
        for what, fate in (
            ("as it is", lambda version: SAME[version]),
            ("in another shape or place", lambda version: WRITERS[version]),
            ("left out, see below", lambda version: DROPPED[version]),
            ("refused: the message cannot be sent", untold),
        )
    ]
    return table("DE of 1987 | to 1993 | to 2003", rows)


def dropped() -> str:
    numbers = sorted(DROPPED["1993"].keys() | DROPPED["2003"].keys())
    rows = []
    for number in numbers:
        versions = [version for version in ("1993", "2003") if number in DROPPED[version]]
        rows.append((str(number), element_name("1987", number), ", ".join(versions), DROPPED[versions[0]][number]))
    return table("DE | name in 1987 | left out to | why", rows)


TABLES = {
    "fates": fates(),
    "dropped": dropped(),
    "functions": table(
        "in 1987 | DE 24",
        [(f"DE 70 = {code}", function) for code, function in MANAGEMENT.items()]
        + [(f"DE 91 = {code}", function) for code, function in FILE_ACTIONS.items()]
        + [(mti, function) for mti, function in FUNCTIONS.items()],
    ),
    "modes": table(
        "DE 22 begins with | meaning | DE 22 of 1993, with PIN entry possible",
        [(mode, words, positions_1993(mode + "1", "", with_pin=False)) for mode, words in ENTRY_MODES.items()],
    ),
    "responses": table(
        "DE 39 | in words | 1993 | 2003",
        [
            (code, words, action_code(code, "1", "1993"), action_code(code, "1", "2003"))
            for code, words in RESPONSE_CODES.items()
        ],
    ),
    "actions": table(
        "action code of 1993 | in words | DE 39",
        [(code, words, response_code(code, "1993", OWN[code[0]])) for code, words in ACTION_CODES.items()],
    ),
}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_page_has_the_tables_of_the_code(name: str) -> None:
    assert TABLES[name] in PAGE.read_text("utf-8")


if __name__ == "__main__":
    print("\n\n".join(TABLES.values()))
