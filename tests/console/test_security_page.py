"""SECURITY.md names code and tests that exist, and tests that fail without a control: a reviewer finds what it says.

`tests/controls/controls.toml` lists the controls; `python -m tests.controls` takes each one out and runs its tests.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.controls.table import Control, controls

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
PACKAGES = "messages|hsm|ledger|switch|gateway|simulators|console|web|specs|tests|docs"
PATHS = sorted(set(re.findall(rf"`((?:{PACKAGES})/[\w./-]*)`", PAGE)))
TESTS = sorted(set(re.findall(r"`(tests/[\w./-]*::\w+)`", PAGE)))
NOT_SHOWN = "not shown by removal"
CONTROLS = controls()


def table_rows(text: str) -> list[list[str]]:
    """The cells of all lines of the tables in a text, without their headings."""
    lines = text.splitlines()
    return [
        line.strip("| ").split(" | ")
        for number, line in enumerate(lines)
        if line.startswith("| ") and not lines[number + 1].startswith("|---")
    ]


REQUIREMENTS = [row for row in table_rows(PAGE[PAGE.index("## PCI DSS") :]) if not row[0].startswith("1, 29")]
OTHER_ROWS = table_rows(PAGE[: PAGE.index("## PCI DSS")])


def begins(row: str, requirement: str) -> bool:
    """Whether a row is about a requirement: `3.5.1` begins "3.5.1 unreadable …", and not "3.5.1.1 hashes …"."""
    return row.startswith(requirement) and not re.match(r"[\w.]", row[len(requirement) :] or " ")


@cache
def functions_in(path: str) -> frozenset[str]:
    """The names of the functions of a module; none where there is no such file."""
    if not (ROOT / path).is_file():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def exists(test: str) -> bool:
    """Whether there is a test `path::name`."""
    path, _, name = test.partition("::")
    return name in functions_in(path)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_page_names_is_there(path: str) -> None:
    assert (ROOT / path).exists() or path.startswith("hsm/keys.json"), path


@pytest.mark.parametrize("test", TESTS)
def test_the_tests_that_the_page_names_are_there(test: str) -> None:
    assert exists(test), test


def test_every_requirement_names_code() -> None:
    assert len(REQUIREMENTS) > 30
    for row in REQUIREMENTS:
        assert len(row) == 4, row
        assert re.search(rf"`(?:{PACKAGES})/", row[2]), row[0]


@pytest.mark.parametrize("row", REQUIREMENTS, ids=lambda row: row[0])
def test_every_requirement_names_a_test_that_fails_without_a_control(row: list[str]) -> None:
    shown = {test for control in CONTROLS if begins(row[0], control.requirement) for test in control.tests}
    if row[3].startswith(NOT_SHOWN):
        assert not shown, f"{row[0]}: controls.toml has a control of it: name its tests"
        return
    named = set(re.findall(r"`(tests/[\w./-]*::\w+)`", row[3].partition("; also ")[0]))
    assert named, row[0]
    assert named == shown, f"{row[0]}: named and not shown by controls.toml, or the other way round: {named ^ shown}"


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.says)
def test_a_control_is_in_its_file_once_and_its_tests_exist(control: Control) -> None:
    assert (ROOT / control.file).read_text().count(control.remove) == 1, control.file
    assert control.put != control.remove
    assert control.tests
    for test in control.tests:
        assert exists(test), test


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.says)
def test_a_control_is_of_one_row(control: Control) -> None:
    """A row of the first tables names the files of the tests, one of a requirement each test."""
    rows = [row for row in (*REQUIREMENTS, *OTHER_ROWS) if begins(row[0], control.requirement)]
    assert len(rows) == 1, [row[0] for row in rows]
    for test in control.tests:
        assert test.partition("::")[0] in " ".join(rows[0]), test
