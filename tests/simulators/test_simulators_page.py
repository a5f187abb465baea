"""docs/simulators.md says what there is: its scenarios are right, its tables whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from simulators.control_commands import COMMANDS
from simulators.faults import KINDS, FaultRule
from simulators.faults.rule import Distribution
from simulators.issuer.accounts import STATUSES, TEST_CARDS, AccountRule
from simulators.issuer.chip import IAD_PART
from simulators.issuer.core import REQUESTS
from simulators.issuer.scenario import IssuerScenario
from simulators.network.scenario import NetworkScenario
from simulators.scenario_file import READERS

PAGE = (Path(__file__).parents[2] / "docs" / "simulators.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names(title: str, column: str) -> set[str]:
    """Code in the first cells of the section's table with this heading."""
    table = section(title).split(f"\n| {column} |")[1].split("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


@pytest.mark.parametrize(("title", "kind"), [("Issuer", "issuer"), ("Network", "network")])
def test_the_scenarios_are_right(title: str, kind: str) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", section(title), re.DOTALL)
    scenario = READERS[kind](tomllib.loads(text), "the page")
    assert isinstance(scenario, IssuerScenario | NetworkScenario)
    assert set(scenario.key_names) == set(scenario.test_keys)


def test_every_fault_has_its_row() -> None:
    assert names("Faults", "kind") == set(KINDS)
    assert names("Faults", "key") == set(FaultRule.__struct_fields__) - {"kind"}
    assert names("Faults", "distribution") == set(get_args(Distribution))


def test_every_key_is_named() -> None:
    assert names("Issuer", "key") == set(AccountRule.__struct_fields__)
    text = section("Issuer") + section("Network")
    for field in {*IssuerScenario.__struct_fields__, *NetworkScenario.__struct_fields__} - {
        "account",
        "fault",
        "default",
    }:
        assert re.search(rf"(`{field}`|^\[?{field}\b)", text, re.MULTILINE), field
    for name in (*STATUSES, *IAD_PART):
        assert f"`{name}`" in text, name


def test_every_command_has_its_row() -> None:
    assert names("Control socket", "command") == set(COMMANDS)


def test_every_message_is_named() -> None:
    told = {
        mti
        for row in re.findall(r"^\| (\d.*?) \|", section("Issuer"), re.MULTILINE)
        for mti in re.findall(r"\d{4}", row)
    }
    assert {mti for mti in told if mti in REQUESTS} == set(REQUESTS)


def test_every_card_with_an_answer_of_its_own_is_named() -> None:
    found = re.findall(r"(\d{4} \d{4} \d{4} \d{4}) \| (\d\d)", section("Issuer"))
    assert {pan.replace(" ", ""): code for pan, code in found} == TEST_CARDS


def test_defaults_are_those_of_the_rules() -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(FaultRule)}
    for row in ("| `rate` | 1.0 |", "| `response_code` | `05` |", '| `mti` | `["0100", "0200"]` |'):
        assert row in section("Faults")
    assert (defaults["rate"], defaults["response_code"], defaults["mti"]) == (1.0, "05", ("0100", "0200"))
