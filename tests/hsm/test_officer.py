"""`cardswitch hsm …` against a running HSM process: through its officer socket, never through its token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from console import cli
from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.components import split_key
from hsm.algorithms.keyblock import unwrap_block
from hsm.keys.exchange import load_party_keys, load_party_zmk
from hsm.server import AUDIT
from tests.hsm.conftest import HsmProcess


class Officer:
    """Runs commands on the state directory of a running process."""

    def __init__(self, process: HsmProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self.process = process
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        status = cli.run(["hsm", *arguments, "--state", str(self.process.state)])
        out, err = self._capsys.readouterr()
        return status, out, err

    def json(self, *arguments: str) -> Any:
        status, out, err = self.run(*arguments, "--json")
        assert status == 0, err + self.process.log
        return json.loads(out)


@pytest.fixture
def officer(hsm_process: HsmProcess, capsys: pytest.CaptureFixture[str]) -> Officer:
    return Officer(hsm_process, capsys)


def test_status_says_how_the_process_is(officer: Officer) -> None:
    status = officer.json("status")
    assert status["ok"] and status["token"] and status["vault"]
    assert status["keys"]["zpk-pos"] == clear_check_value(
        "T", load_party_keys(officer.process.state / "exchange", "pos")["zpk-pos"]
    )
    code, out, _ = officer.run("status")
    assert code == 0 and "works" in out and "AWAY" not in out


def test_keys_are_made_exported_and_used_while_the_process_serves(officer: Officer) -> None:
    (made,) = officer.json("key", "generate", "zpk-live", "--role", "pin", "--party", "pos")["keys"]
    assert made["kcv"] in {key["kcv"] for key in officer.json("key", "list", "zpk-live")["keys"]}
    exported = officer.json("key", "export", "zpk-live", "--under", "zmk-pos")
    zmk = ClearAesKey(load_party_zmk(officer.process.state / "exchange", "pos"))
    assert clear_check_value("T", unwrap_block(zmk, exported["block"]).key) == made["kcv"] == exported["kcv"]
    (taken,) = officer.json(
        *("key", "import", "zpk-copy", "--role", "pin", "--block", exported["block"], "--under", "zmk-pos"),
        *("--kcv", made["kcv"]),
    )["keys"]
    assert (taken["kcv"], taken["status"]) == (made["kcv"], "active")
    # The same keyring serves the others at once.
    assert officer.json("status")["keys"]["zpk-copy"] == made["kcv"]


def test_custodians_at_a_terminal_of_the_running_hsm(officer: Officer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(50, 82))
    parts = split_key(key, 2, lambda count: bytes(range(count)))
    monkeypatch.setattr("typer.prompt", lambda *_, **__: parts[len(typed)].hex())
    typed: list[str] = []

    def confirmed(question: str) -> bool:
        typed.append(question)
        return True

    monkeypatch.setattr("typer.confirm", confirmed)
    monkeypatch.setattr("hsm.process.forbid_dumps", lambda: None)
    status, out, err = officer.run("key", "import", "zmk-live", "--role", "zmk", "--components", "2", "--party", "live")
    assert status == 0, err
    assert clear_check_value("A", key) in out and len(typed) == 2
    assert all(part.hex() not in out for part in (*parts, key))
    log = officer.process.log
    assert all(part.hex() not in log.lower() for part in (*parts, key))


def test_refusals_are_one_line(officer: Officer) -> None:
    for arguments, reason in (
        (("key", "rotate", "nobody"), "key_unknown"),
        (("key", "export", "pan", "--under", "zmk-pos"), "not_exportable"),
        (("key", "retire", "zpk-pos", "--version", "1", "--yes"), "key_in_use"),
        (("key", "generate", "x" * 65, "--role", "pin"), "malformed"),
        (("restore", "--yes"), "stop it first"),
    ):
        status, out, err = officer.run(*arguments)
        assert status == 1 and not out and reason in err and err.count("\n") == 1, err


def test_the_data_key_is_rotated_and_cards_are_rewrapped(officer: Officer) -> None:
    before = officer.json("key", "list", "pan")["keys"]
    (made,) = officer.json("key", "rotate", "pan")["keys"]
    assert made["version"] == before[-1]["version"] + 1
    done = officer.json("rewrap", "--batch", "100")
    assert done["left"] == 0
    status, out, _ = officer.run("rewrap")
    assert status == 0 and out.startswith("0 cards are under the newest data key")


def test_the_audit_is_shown_and_verified_beside_the_process(officer: Officer) -> None:
    officer.json("key", "generate", "audited", "--role", "mac")
    records = officer.json("audit", "show", "--key", "audited")["records"]
    assert [(record["caller"], record["command"]) for record in records] == [("officer", "generate_key")]
    verdict = officer.json("audit", "verify")
    assert verdict["ok"] and verdict["sealed"] and verdict["records"] >= 1


def test_a_seal_from_elsewhere_is_found_beside_the_process(officer: Officer) -> None:
    head = officer.process.state / AUDIT / "head.json"
    written = head.read_bytes()
    said = json.loads(written)
    replaced = json.dumps(said | {"seal": "00" * 32}).encode()
    for _ in range(50):  # the process writes its own after each second in which it was asked something
        head.write_bytes(replaced)
        status, out, _ = officer.run("audit", "verify", "--json")
        if status == 1:
            break
    assert status == 1 and "head.json: the seal is not that of the token" in json.loads(out)["problems"]
    officer.json("key", "list", "pan")
