"""`cardswitch route explain` with and without workers; the sockets are stand-ins, and no card number comes out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import specs
from console import cli
from switch.errors import ControlError

PAN = "4242424242424242"
ROUTES = """
[[route]]
prefix = "424242"
currency = "USD"
issuer = "beta"
[[route]]
prefix = "42"
issuer = "alpha"
alternates = ["beta"]
"""

Explain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Run the command on the packaged configuration with two more routes."""
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text() + ROUTES
    file = tmp_path / "cardswitch.toml"
    file.write_text(text)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(["route", "explain", *arguments, "--config", str(file), "--state", str(tmp_path)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def circuits(monkeypatch: pytest.MonkeyPatch, alive: set[str]) -> None:
    """Workers whose sockets are named in `alive` answer."""

    def ask(path: Path, command: str, timeout_s: float = 1.0, **arguments: str) -> list[dict[str, Any]]:
        assert command == "circuits"
        if path.name not in alive:
            raise ControlError("away", f"{path}: no")
        number = int(path.stem.rpartition("-")[2])
        row = {"worker": number, "fit": True, "circuit": "closed", "since_s": None, "failed": 1, "ended": 7}
        broken = {"fit": False, "circuit": "open", "since_s": 2.5, "failed": 10, "ended": 10}
        return [{**row, "link": "alpha"}, {**row, "link": "beta", **broken}]

    monkeypatch.setattr("switch.control.ask", ask)


def test_json_for_programs(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    circuits(monkeypatch, {"switch-0.sock", "switch-1.sock"})
    status, out, err = explain(PAN, "--currency", "eur", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["number"] == "424242******4242"
    assert [(rule["label"], rule["verdict"]) for rule in found["rules"]] == [
        ("route 424242", "no"), ("route 42", "wins"), ("route 4", "beaten"),
    ]  # fmt: skip
    assert found["rules"][0]["reason"] == "currency EUR is not USD"
    assert found["route"] == found["rules"][1]["number"]
    assert found["running"] is True
    assert [link["link"] for link in found["links"]] == ["alpha", "beta"]
    assert [row["circuit"] for row in found["links"][1]["workers"]] == ["open", "open"]


def test_a_table_for_people(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    circuits(monkeypatch, {"switch-1.sock"})
    status, out, _ = explain(PAN, "--currency", "USD", "--amount", "2500", "--mti", "0100")
    assert status == 0
    for part in ("wins", "route 424242", "beta (primary)", "alpha (primary), beta (alternate 1)", "open", "10 of 10"):
        assert part in out, part
    assert "the narrowest range that fits" in out


def test_without_a_running_system_the_table_is_explained_all_the_same(explain: Explain) -> None:
    status, out, _ = explain("42")
    assert status == 0
    assert "wins if currency is USD and the number is from 42424200000 to 42424299999" in out
    assert "no worker of the switch answers" in out
    assert json.loads(explain("42", "--json")[1])["running"] is False


def test_no_route(explain: Explain) -> None:
    status, out, _ = explain("99")
    assert (status, out.strip()) == (0, "99: no route; it is declined with DE 39 = 15")
    assert json.loads(explain("99", "--json")[1])["route"] is None


@pytest.mark.parametrize("number", [PAN, "378282246310005", "4000056655665556", "4242424242424242428"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_card_number_is_never_shown(explain: Explain, number: str, form: tuple[str, ...]) -> None:
    for arguments in ((), ("--mti", "nonsense"), ("--acquirer", "nobody")):
        _, out, err = explain(number, *arguments, *form)
        assert number not in out + err
        assert number[3:11] not in out + err


def test_a_number_from_standard_input(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PAN + "\n"))
    assert json.loads(explain("-", "--json")[1])["number"] == "424242******4242"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["42424242424242424242"], "that is no card number"),
        (["4242-4242"], "that is no card number"),
        ([""], "that is no card number"),
        (["42", "--mti", "0101"], "--mti must be 4 digits"),
        (["42", "--mti", "100"], "--mti must be 4 digits"),
        (["42", "--processing-code", "00"], "--processing-code must be 6 digits"),
        (["42", "--currency", "978"], "--currency must be three letters"),
        (["42", "--acquirer", "kiosk"], "there is no acquirer 'kiosk'; use one of pos, gateway"),
        (["42", "--amount", "-1"], "amount"),
    ],
)
def test_a_wrong_question_is_one_line(explain: Explain, arguments: list[str], says: str) -> None:
    status, out, err = explain(*arguments)
    assert (status, out) == (2, "")
    assert says in err and len(err.splitlines()) == 1
