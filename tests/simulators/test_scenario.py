"""Scenario files: the shipped ones are right, and everything wrong with a file is listed at once."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from simulators.errors import ScenarioError
from simulators.issuer.accounts import AccountRule, Accounts
from simulators.issuer.scenario import load_scenario, scenario_from
from simulators.load.population import POOR, RICH, population
from simulators.network.scenario import NetworkScenario, network_scenario_from
from simulators.scenario_file import kind_of, read_scenario

BROKEN = """
name = "a|b"
listen = "nowhere"
dialect = "iso2099"
framing = "smoke"
colour = 1
pin_format = 9
mac_algorithm = "none"
chip_scheme = "none"
prefixes = ["4x"]
pin_tries = -1
max_connections = "many"
trace_element = 200
[test_keys]
zpk = "0123"
[default]
balance_minor = "much"
status = "dead"
[[account]]
pan = "4242424242424242"
prefix = "4"
[[account]]
balance = 5
[[account]]
pan = "42"
currency = "XYZ"
pin = "1"
expiry = "13"
psn = "1"
verification_code = "01"
response_code = "5"
daily_count = -1
[[fault]]
kind = "delay"
[[fault]]
kind = "rain"
[[fault]]
kind = "repeat"
[[fault]]
kind = "silence"
rate = 2
count = "x"
"""
BROKEN_NETWORK = """
needs_sign_on = "perhaps"
prefixes = ["4"]
issuer = [
    { prefixes = ["41"], stand_in_minor = -1, chip_scheme = "none", default = { pin = "x" }, account = [{}], \
fault = [{ kind = "refuse" }] },
    { name = "b", prefixes = ["41"] },
    { name = "b" },
    5,
]
[[fault]]
kind = "late-reversal"
delay_s = 1
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


def problems_of(text: str, reader: Callable[[dict[str, Any], str], object] = scenario_from) -> set[str]:
    with pytest.raises(ScenarioError) as caught:
        reader(tomllib.loads(text), "here.toml")
    assert caught.value.source == "here.toml"
    return set(caught.value.problems)


def test_every_problem_of_an_issuer_is_listed_with_its_path() -> None:
    found = problems_of(BROKEN)
    starts = {
        "name: must not be empty",
        "listen: expected host:port",
        "dialect: ",
        "framing: ",
        "colour: unknown; there are ",
        "pin_format: must be one of 0",
        "mac_algorithm: must be one of AES-CMAC",
        "chip_scheme: must be one of visa",
        "prefixes: '4x' must be",
        "pin_tries: must be >= 0",
        "max_connections: Expected `int`",
        "trace_element: must be 0–128",
        "test_keys.zpk: must be 32, 48 or 64",
        "[default] balance_minor: Expected `int | object`, got `str`",
        "[default] status must be one of open",
        "[[account]] 1: expected either pan or prefix",
        "[[account]] 2: balance: unknown",
        "[[account]] 2: expected either pan or prefix",
        "[[account]] 3: pan must have 12–19 digits",
        "[[account]] 3: currency must be of ISO 4217",
        "[[account]] 3: pin must be 4–12 digits",
        "[[account]] 3: expiry must be YYMM",
        "[[account]] 3: psn must have 2 digits",
        "[[account]] 3: verification_code must be",
        "[[account]] 3: response_code must have 2",
        "[[account]] 3: limits must be >= 0",
        "[[fault]] 1: a delay needs delay_s",
        "[[fault]] 2: kind: Invalid enum value 'rain'; there are delay, late, silence, ",
        "[[fault]] 3: a repeat is an acquirer's",
        "[[fault]] 4: rate must be 0–1",
        "[[fault]] 4: count: Expected `int`",
    }
    unlisted = {start for start in starts if not any(problem.startswith(start) for problem in found)}
    surplus = {problem for problem in found if not problem.startswith(tuple(starts))}
    assert (unlisted, surplus) == (set(), set())


def test_problems_show_no_keys_and_no_cards() -> None:
    text = 'name = "a"\n[test_keys]\nzpk = "0123456789ABCDEF"\n[[account]]\npan = "4242424242424242"\nprefix = "4"\n'
    assert not any("0123456789" in problem or "424242" in problem for problem in problems_of(text))
    assert "4242" not in repr(scenario_from({"name": "a", "account": [{"pan": "4242424242424242"}]}))


def test_accounts_of_the_same_card_are_named() -> None:
    card, prefix = '[[account]]\npan = "4242424242424242"\n', '[[account]]\nprefix = "4242"\n'
    assert len(scenario_from(tomllib.loads(f'name = "a"\n{card}{prefix}')).account) == 2
    found = problems_of(f'name = "a"\n{card}{prefix}{card}{prefix}')
    assert found == {
        "[[account]] 3: pan is that of [[account]] 1",
        "[[account]] 4: prefix is that of [[account]] 2",
    }


def test_every_problem_of_a_network_is_listed_with_its_path() -> None:
    found = problems_of(BROKEN_NETWORK, network_scenario_from)
    starts = {
        "name: missing",
        "needs_sign_on: Expected `bool`",
        "prefixes: unknown",
        "[[fault]] 1: a late-reversal is an acquirer's",
        "[[issuer]] 1 name: missing",
        "[[issuer]] 1 stand_in_minor: must be >= 0",
        "[[issuer]] 1 chip_scheme: must be one of",
        "[[issuer]] 1 [default] pin must be",
        "[[issuer]] 1 [[account]] 1: expected either",
        "[[issuer]] 1 [[fault]] 1: a refuse needs delay_s",
        "[[issuer]] 2 prefixes: '41' is of [[issuer]] 1",
        "[[issuer]] 3 name: 'b' is that of [[issuer]] 2",
        "[[issuer]] 3 prefixes: missing",
        "[[issuer]] 3 prefixes: must not be empty",
        "[[issuer]] 4 expected a table",
    }
    unlisted = {start for start in starts if not any(problem.startswith(start) for problem in found)}
    surplus = {problem for problem in found if not problem.startswith(tuple(starts))}
    assert (unlisted, surplus) == (set(), set())


@pytest.mark.parametrize("issuer", ["", "issuer = 3", "issuer = []"])
def test_a_network_has_issuers(issuer: str) -> None:
    assert any("[[issuer]]" in problem for problem in problems_of(f'name = "n"\n{issuer}', network_scenario_from))


def test_the_shipped_network_is_right() -> None:
    kind, scenario = read_scenario("scenario-network")
    assert kind == "network"
    assert isinstance(scenario, NetworkScenario)
    assert [member.name for member in scenario.issuer] == ["north", "south"]
    assert set(scenario.key_names) == set(scenario.test_keys)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('name = "a"', "issuer"),
        ("needs_sign_on = true", "network"),
        ("[[issuer]]", "network"),
        ("[[card]]", "acquirer"),
        ("[run]", "acquirer"),
        ("prefixes = []", "issuer"),
    ],
)
def test_whose_scenario_it_is_can_be_told(text: str, kind: str) -> None:
    assert kind_of(tomllib.loads(text)) == kind


@pytest.mark.parametrize(
    ("text", "problem"), [("name = ", "Invalid"), ('name = "a"\ncolour = 1', "colour"), ("fault = 3", "list of tables")]
)
def test_files_that_are_no_scenario_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=problem):
        load_scenario(str(path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("scenario-nobody", "no such scenario; there are scenario-alpha, .*; a file has a slash in its name"),
        ("/nowhere/x.toml", "No such file"),
    ],
)
def test_a_missing_file_is_an_error(name: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
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
