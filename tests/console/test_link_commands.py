"""`cardswitch link …` where workers are away, say no, or say what a peer has answered; the sockets are stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console import link_commands
from console.config import Config, load_config
from console.errors import ConsoleError, UsageError
from console.link_commands import ask_each, link_echo, link_show, link_sign_off, link_suspend, links
from switch.errors import ControlError
from switch.links import rules

Answers = list[dict[str, Any]]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    loaded = load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), workers=3)
    monkeypatch.setattr("console.link_commands.load_running", lambda config, state: loaded)
    return loaded


def workers(
    monkeypatch: pytest.MonkeyPatch, config: Config, alive: set[int], answers: Answers | None = None
) -> list[tuple[int, str, dict[str, str]]]:
    """Workers that answer each command with `answers`; their received commands are returned."""
    numbers = {config.worker_socket(number): number for number in range(config.switch.workers)}
    asked: list[tuple[int, str, dict[str, str]]] = []

    def ask(path: Path, command: str, timeout_s: float = 1.0, **arguments: str) -> Answers:
        if numbers[path] not in alive:
            raise ControlError("away", f"worker {numbers[path]} is away")
        asked.append((numbers[path], command, arguments))
        return [{"worker": numbers[path], **answer} for answer in ([{}] if answers is None else answers)]

    monkeypatch.setattr("switch.control.ask", ask)
    return asked


def told(code: str, state: str = "signed_on", peer: str = "10.0.0.7:5000") -> dict[str, Any]:
    return {"link": "alpha", "peer": peer, "code": code, "elapsed_s": 0.0125, "state": state}


@pytest.mark.parametrize("alive", [{0}, {1}, {2}, {0, 1, 2}])
def test_dead_workers_are_told_wherever_they_stand(
    alive: set[int], config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, alive)
    assert [row["worker"] for row in links(config)] == sorted(alive)
    said = [f"cardswitch: worker {number} is away" for number in range(3) if number not in alive]
    assert capsys.readouterr().err.splitlines() == said


def test_no_worker_at_all_is_one_error(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, set())
    with pytest.raises(ConsoleError, match=r"no worker of the switch answers: worker \d is away"):
        links(config)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("command", ["suspend", "resume", "sign-on", "sign-off", "echo"])
def test_every_worker_is_asked(command: str, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = workers(monkeypatch, config, {0, 1, 2})
    assert len(ask_each(config, "alpha", command)) == 3
    assert asked == [(number, command, {"link": "alpha"}) for number in range(3)]


def test_a_link_that_is_not_there_is_a_matter_of_usage(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = workers(monkeypatch, config, {0})
    with pytest.raises(UsageError, match="no link 'nowhere'") as caught:
        ask_each(config, "nowhere", "suspend")
    assert "alpha" in caught.value.fix and not asked


def test_suspending_shows_the_link(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"link": "alpha", "side": "issuer", "state": "suspended", "connections": 2, "in_flight": 5, "backlog": 0}
    workers(monkeypatch, config, {0, 1}, [{**row, "heard_s": 1.5, "echo_s": None, "keys": []}])
    link_suspend("alpha")
    shown = capsys.readouterr().out
    assert shown.count("suspended") == 2 and "1.5 s ago" in shown and "never" in shown
    link_suspend("alpha", as_json=True)
    assert [row["state"] for row in msgspec.json.decode(capsys.readouterr().out)["links"]] == ["suspended"] * 2


def test_an_echo_shows_how_long_each_connection_took(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, {0, 1, 2}, [told("00")])
    link_echo("alpha")
    shown = capsys.readouterr().out
    assert shown.count("10.0.0.7:5000") == 3 and shown.count("DE 39 = 00") == 3 and shown.count("12.5 ms") == 3


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([told("00"), told("")], "3 of 6 connections of link alpha were not answered 00"),
        ([told("12")], "3 of 3"),
        ([], "link alpha has no open connection"),
    ],
)
def test_what_is_not_answered_is_an_error_after_it_was_shown(
    answers: Answers, reason: str, config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, {0, 1, 2}, answers)
    with pytest.raises(ConsoleError, match=reason):
        link_sign_off("alpha", as_json=True)
    assert len(msgspec.json.decode(capsys.readouterr().out)["connections"]) == 3 * len(answers)


LEAST = {"messages": ["0100", "04*"], "merchants": None, "amounts_minor": {"EUR": 500}, "forced": False}
LIMITS = {"max_age_s": 86_400.0, "advice_max_age_s": 2_592_000.0, "max_ahead_s": 300.0}
LIMITS |= {"rate": 0.0, "queue": 0, "queue_s": 0.5}


def test_show_says_what_proves_a_peer_and_what_it_may_send(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"link": "gateway", "side": "acquirer", "identity": ["peer user"], "permissions": LEAST, **LIMITS}
    other = {"link": "pos", "side": "acquirer", "identity": [], "permissions": None, **LIMITS}
    workers(monkeypatch, config, {0, 1}, [other, row])
    link_show("gateway")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "gateway (acquirer)", "peer known by peer user", "messages 0100, 04*", "merchants any",
        "amounts_minor EUR 500", "forced no",
        "DE 7 at most 86400 s old, of advices, reversals and chargebacks 2592000 s; 300 s ahead",
        "rate any; 0 wait for a place, 0.5 s at most",
    ]  # fmt: skip
    link_show("gateway", as_json=True)
    assert msgspec.json.decode(capsys.readouterr().out) == row
    link_show("pos")
    assert "nothing" in (out := capsys.readouterr().out) and "everything that its side may" in out
    with pytest.raises(UsageError):
        link_show("nowhere")


def test_show_has_all_rules_that_a_reload_replaces() -> None:
    assert link_commands.RULES == rules.RULES


def test_show_says_where_a_reload_has_not_reached_all_workers(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"link": "pos", "side": "acquirer", "identity": [], "permissions": None, **LIMITS}
    changes: dict[int, dict[str, Any]] = {0: {}, 1: {"max_age_s": 60.0}, 2: {"permissions": LEAST}}

    def ask(path: Path, command: str, timeout_s: float = 1.0, **arguments: str) -> Answers:
        number = next(number for number in changes if config.worker_socket(number) == path)
        return [{"worker": number, **row, **changes[number]}]

    monkeypatch.setattr("switch.control.ask", ask)
    with pytest.raises(ConsoleError, match="this is worker 0; other rules are in force in worker 1, 2; run cardswitch"):
        link_show("pos")
    assert "86400 s old" in capsys.readouterr().out
    changes[1] = changes[2] = {}
    link_show("pos", as_json=True)
    assert msgspec.json.decode(capsys.readouterr().out) == row
