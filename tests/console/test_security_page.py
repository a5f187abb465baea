"""SECURITY.md names code and tests that exist: a reviewer who follows a line arrives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
PACKAGES = "messages|hsm|ledger|switch|gateway|simulators|console|specs|tests|docs"
PATHS = sorted(set(re.findall(rf"`((?:{PACKAGES})/[\w./-]*)`", PAGE)))


def rows() -> list[list[str]]:
    """The lines of the two requirement tables."""
    tables = PAGE[PAGE.index("## PCI DSS") :]
    lines = [line.strip("| ").split(" | ") for line in tables.splitlines() if line.startswith("| ")]
    return [line for line in lines if line[0] != "requirement"]


@pytest.mark.parametrize("path", PATHS)
def test_what_the_page_names_is_there(path: str) -> None:
    assert (ROOT / path).exists() or path.startswith("hsm/keys.json"), path


def test_every_requirement_names_code_and_a_test() -> None:
    for requirement in rows():
        if requirement[0].startswith("1, 29"):
            continue  # the device is the operator's
        assert len(requirement) == 4, requirement
        assert "`tests/" in requirement[3], requirement[0]
        assert re.search(rf"`(?:{PACKAGES})/", requirement[2]), requirement[0]
    assert len(rows()) > 30
