"""Examples of the pages of acquirer and plugin are run: the scenario, the file of messages, the tests, the tables."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from messages.codec import Codec
from messages.dialect import load_dialect
from simulators.acquirer.faults import MEANINGS
from simulators.acquirer.replay import read_lines
from simulators.acquirer.scenario import Afterwards, Mix, acquirer_scenario_from

pytest_plugins = ["pytester", "simulators.pytest_plugin"]

DOCS = Path(__file__).parents[2] / "docs"
ACQUIRER, PLUGIN = (DOCS / name for name in ("test-your-issuer.md", "pytest-plugin.md"))


def block(page: Path, language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)[number]


def test_the_scenario_is_right() -> None:
    scenario = acquirer_scenario_from(tomllib.loads(block(ACQUIRER, "toml")))
    assert (scenario.mix.balance_inquiry, len(scenario.card)) == (5, 3)


def test_the_file_of_messages_can_be_read() -> None:
    lines = read_lines(block(ACQUIRER, "jsonl"), Codec(load_dialect("iso87-ascii")), "the page")
    assert [line.mti for line in lines] == ["0100", "0220", "0800"]


@pytest.mark.parametrize("named", [Mix.__struct_fields__, Afterwards.__struct_fields__, tuple(MEANINGS)])
def test_every_key_and_fault_is_explained(named: tuple[str, ...]) -> None:
    text = ACQUIRER.read_text("utf-8")
    assert [name for name in named if name != "pause_s" and f"`{name}`" not in text] == []


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    # An issuer answers an acquirer directly: to both it looks like a switch.
    switch = """
class Direct:
    def __init__(self, issuer):
        self.address = issuer
    def stop(self):
        pass

def start_your_switch(issuer):
    return Direct(issuer)
"""
    pytester.makepyfile(switch + block(PLUGIN, "python"), test_script=block(PLUGIN, "python", 1))
    result = pytester.runpytest_subprocess("-W", "error", "-q", timeout=60)
    result.assert_outcomes(passed=2)
