"""Scenario files: the shipped ones are right, and everything wrong with a file is listed at once."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from simulators.errors import ScenarioError
from simulators.issuer.accounts import AccountRule, Accounts
from simulators.issuer.scenario import load_scenario
from simulators.load.population import POOR, RICH, population

BROKEN = """
name = "a|b"
listen = "nowhere"
dialect = "iso2099"
prefixes = ["4x"]
pin_tries = -1
[[account]]
pan = "4242424242424242"
prefix = "4"
[[account]]
balance = 5
[[fault]]
kind = "delay"
[[fault]]
kind = "rain"
"""


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_the_shipped_scenarios_fit_the_shipped_configuration(name: str) -> None:
    scenario = load_scenario(f"scenario-{name}")
    system = tomllib.loads((resources.files("specs") / "cardswitch.toml").read_text())
    [link] = [issuer for issuer in system["issuer"] if issuer["name"] == name]
    [prefix] = [route["prefix"] for route in system["route"] if route["issuer"] == name]
    [party] = [key["party"] for key in system["key"] if key["name"] == scenario.pin_key]
    assert (scenario.name, scenario.listen, scenario.dialect) == (name, link["address"], link["dialect"])
    assert (scenario.pin_key, scenario.trace_element) == (link["pin_key"], link["trace_element"])
    assert (scenario.prefixes, scenario.party) == ((prefix,), party)


@pytest.mark.parametrize(("name", "turn"), [("alpha", 0), ("beta", 1)])
def test_the_load_tests_cards_exist_in_the_shipped_scenarios(name: str, turn: int) -> None:
    scenario = load_scenario(f"scenario-{name}")
    accounts = Accounts(scenario.prefixes, scenario.account, scenario.default)
    for prefixes, has_money in ((RICH, True), (POOR, False)):
        pans = population(20, prefixes)[turn::2]
        assert len(set(pans)) == 10
        for pan in pans:
            account = accounts.find(pan)
            assert account is not None
            assert (account.available_minor("EUR") > 0) is has_money


def test_every_problem_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(path))
    text = str(caught.value)
    assert str(path) in text
    assert len(caught.value.problems) >= 9
    for part in ("'|'", "listen", "iso2099", "'4x'", "pin_tries", "[[account]] 1", "[[account]] 2", "rain", "delay_s"):
        assert part in text, part


@pytest.mark.parametrize(
    ("text", "problem"), [("name = ", "Invalid"), ('name = "a"\ncolour = 1', "colour"), ("fault = 3", "list of tables")]
)
def test_files_that_are_no_scenario_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=problem):
        load_scenario(str(path))


@pytest.mark.parametrize("name", ["scenario-nobody", "/nowhere/x.toml"])
def test_a_missing_file_is_an_error(name: str) -> None:
    with pytest.raises(ScenarioError, match="No such file"):
        load_scenario(name)


def test_the_longest_prefix_wins_and_a_named_card_beats_it() -> None:
    accounts = Accounts(
        ("4",),
        (
            AccountRule(prefix="4242", balance_minor=1),
            AccountRule(prefix="42424251", balance_minor=2),
            AccountRule(pan="4242424242424242", balance_minor=3),
        ),
        AccountRule(balance_minor=4),
    )
    found = [accounts.find(pan) for pan in ("4242424242424242", population(1, POOR)[0], "4111111111111111")]
    assert [account.balance_minor for account in found if account] == [3, 2, 4]
    assert accounts.find("5555555555554444") is None


def test_a_changed_account_keeps_what_was_used() -> None:
    accounts = Accounts((), (), AccountRule(balance_minor=100))
    account = accounts.find("4242424242424242")
    assert account is not None
    account.use("EUR", 60)
    accounts.set(AccountRule(pan="4242424242424242", balance_minor=70))
    changed = accounts.find("4242424242424242")
    assert changed is not None
    assert changed.available_minor("EUR") == 10
