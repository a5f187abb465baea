"""`cardswitch saf list|retry|drop` on a real database: its output, its records, its refusals."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import specs
from console import cli
from tests.conftest import Database
from tests.ledger.test_saf import listed, parked, stored

Saf = Callable[..., tuple[int, str, str]]


@pytest.fixture
def saf(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Saf:
    """Run a command of the group on the test's database."""
    file = Path(str(specs.__file__)).with_name("cardswitch.toml")
    monkeypatch.setattr("console.postgresql.resolve_dsn", lambda settings, state, role: database.dsn(role))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(["saf", *arguments, "--config", str(file), "--state", str(tmp_path)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_an_empty_list(saf: Saf) -> None:
    assert saf("list") == (0, "nothing waits: every advice was answered\n", "")
    assert json.loads(saf("list", "--json")[1]) == {"advices": [], "more": False}


def test_the_list_for_people_and_for_programs(saf: Saf, database: Database) -> None:
    one, two, _three = stored(database, "alpha", "alpha", "beta")
    parked(database, two)
    status, out, _ = saf("list")
    assert status == 0
    for part in (str(one), "0420", "424242******4242", "25.00 EUR", "parked", "worker 0-1", "sent 1001 times"):
        assert part in out, part
    rows = json.loads(saf("list", "--link", "alpha", "--json")[1])["advices"]
    assert [(row["advice_id"], row["state"], row["amount_minor"]) for row in rows] == [
        (one, "waiting", 2500), (two, "parked", 2500),
    ]  # fmt: skip
    assert "there are more than these 2" in saf("list", "--limit", "2")[1]
    assert json.loads(saf("list", "--limit", "2", "--json")[1])["more"] is True


def test_retry_and_drop_are_on_record_with_who_and_why(saf: Saf, database: Database) -> None:
    one, two = stored(database, "alpha", "alpha")
    parked(database, one)
    assert saf("retry", str(one), "--reason", "link is back", "--actor", "ann") == (0, f"advice {one}: retried\n", "")
    status, out, _ = saf("drop", str(two), "--reason", "booked by hand", "--json")
    assert (status, json.loads(out)) == (
        0,
        {"action": "dropped", "actor": getpass.getuser(), "advices": [{"advice_id": two, "result": "done"}]},
    )
    rows = listed(database, dropped=True)
    assert [(row.state, row.actor, row.reason) for row in rows] == [
        ("retried", "ann", "link is back"), ("dropped", getpass.getuser(), "booked by hand"),
    ]  # fmt: skip
    assert "dropped" in saf("list", "--dropped")[1]
    assert "dropped" not in saf("list")[1]


def test_all_that_are_parked_of_a_link(saf: Saf, database: Database) -> None:
    numbers = stored(database, *["alpha"] * 30, "beta")
    for number in (*numbers[:25], numbers[-1]):
        parked(database, number)
    status, out, _ = saf("retry", "--link", "alpha", "--reason", "link is back")
    assert status == 0 and out.count("retried") == 25
    assert [row.state for row in listed(database, "beta")] == ["parked"]
    assert saf("retry", "--link", "alpha", "--reason", "once more") == (0, "nothing is parked\n", "")


def test_what_could_not_be_done_says_why_and_the_rest_is_done(saf: Saf, database: Database) -> None:
    one, two = stored(database, "alpha", "alpha")
    parked(database, two)
    status, out, _ = saf("retry", str(one), str(two), "4711", "--reason", "why not")
    assert status == 1
    assert out.splitlines() == [
        f"advice {one}: it is not parked: it is being sent anyway",
        f"advice {two}: retried",
        "advice 4711: there is no such advice",
    ]
    assert saf("drop", str(one), "--reason", "why not")[0] == 0
    assert saf("drop", str(one), "--reason", "again")[1] == f"advice {one}: it was dropped before\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "--link", "nowhere"], "there is no link 'nowhere'; use one of pos, gateway, alpha, beta"),
        (["retry", "--reason", "why"], "needs numbers of advices, or --link"),
        (["retry", "1", "--link", "alpha", "--reason", "why"], "needs numbers of advices, or --link"),
        (["retry", "1"], "--reason"),
        (["drop", "1"], "--reason"),
        (["drop", "--reason", "why"], "Missing argument"),
        (["drop", "1", "--reason", "  "], "--reason must have 1–1000 characters"),
        (["drop", "1", "--reason", "why", "--actor", " "], "--actor must have 1–200 characters"),
        (["drop", "one", "--reason", "why"], "Invalid value"),
    ],
)
def test_a_wrong_command_is_one_line(saf: Saf, arguments: list[str], says: str) -> None:
    status, out, err = saf(*arguments)
    assert (status, out) == (2, "")
    assert says in err and len(err.splitlines()) == 1


def test_a_database_that_is_away(saf: Saf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "console.postgresql.resolve_dsn", lambda settings, state, role: "postgresql://nobody@127.0.0.1:1/none"
    )
    status, out, err = saf("list")
    assert (status, out) == (1, "")
    assert "the embedded PostgreSQL cannot be reached" in err and "cardswitch up" in err
