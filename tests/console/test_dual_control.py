"""Dual control at the command line: two officers with key files, a ceremony in two sessions, and the ways round it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from console import cli
from console.hsm.signing import PASSPHRASE_VARIABLE
from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.components import split_key
from hsm.algorithms.keyblock import unwrap_block

ZMK = bytes(range(100, 132))
PARTS = split_key(ZMK, 2, lambda count: bytes(range(count)))
KCV = clear_check_value("A", ZMK)
NORTH = ("key", "import", "zmk-north", "--role", "zmk", "--party", "north", "--components", "2")


class Ceremony:
    """Runs commands on one state directory, as one officer or another."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.state = directory / "state"
        self._capsys = capsys

    def run(self, *arguments: str, officer: str = "") -> tuple[int, str, str]:
        signer = ["--as", str(self.directory / f"{officer}.key")] if officer else []
        where = [] if arguments[:2] == ("officer", "create") else ["--config", str(self.directory / "own.toml"),
                                                                    "--state", str(self.state)]  # fmt: skip
        status = cli.run(["hsm", *arguments, *signer, *where])
        out, err = self._capsys.readouterr()
        return status, out, err

    def json(self, *arguments: str, officer: str = "") -> Any:
        status, out, err = self.run(*arguments, "--json", officer=officer)
        assert status == 0, (out, err)
        return json.loads(out)

    def refused(self, *arguments: str, officer: str = "") -> str:
        status, out, err = self.run(*arguments, officer=officer)
        assert status in (1, 2) and not out and err.count("\n") == 1, (status, out, err)
        return err

    def component(self, number: int) -> tuple[str, str]:
        file = self.directory / f"component-{number}"
        file.write_text(PARTS[number].hex())
        file.chmod(0o600)
        return ("--component-file", str(file))

    def approve(self, number: str, *more: str, officer: str = "bob") -> Any:
        return self.json("approve", number, "--yes", *more, officer=officer)

    def both(self, *arguments: str) -> Any:
        return self.approve(self.json(*arguments, officer="alice")["proposed"]["id"])


@pytest.fixture
def ceremony(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ceremony]:
    monkeypatch.setattr("hsm.process.forbid_dumps", lambda: None)
    secret = tmp_path / "passphrase"
    secret.write_text("a long passphrase\n")
    secret.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(secret))
    sample = Path(cli.__file__).parents[1] / "specs" / "cardswitch.toml"
    lines = [line for line in sample.read_text().splitlines() if not line.startswith("dual_control")]
    (tmp_path / "own.toml").write_text("\n".join(lines))
    ceremony = Ceremony(tmp_path, capsys)
    for name in ("alice", "bob"):
        made = ceremony.json("officer", "create", name, "--directory", str(tmp_path))
        assert len(made["fingerprint"]) == 19
    yield ceremony


@pytest.fixture
def begun(ceremony: Ceremony) -> Ceremony:
    cards = [
        argument for name in ("alice", "bob") for argument in ("--officer", str(ceremony.directory / f"{name}.card"))
    ]
    keys = ceremony.json("init", *cards)["keys"]
    assert {key["name"] for key in keys} == {"audit", "fingerprint", "integrity", "pan", "storage"}
    return ceremony


def test_the_private_key_is_under_a_passphrase_and_its_owner_s(
    ceremony: Ceremony, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = ceremony.directory / "alice.key"
    assert key.stat().st_mode & 0o777 == 0o600 and b"ENCRYPTED PRIVATE KEY" in key.read_bytes()
    assert "File exists" in ceremony.refused("officer", "create", "alice", "--directory", str(ceremony.directory))
    assert "letters, digits" in ceremony.refused("officer", "create", "../x", "--directory", str(ceremony.directory))
    short = tmp_path / "short"
    short.write_text("short")
    short.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(short))
    assert "12 characters" in ceremony.refused("officer", "create", "dave", "--directory", str(ceremony.directory))
    assert "the passphrase is wrong" in ceremony.refused(*NORTH, *ceremony.component(0), officer="alice")
    short.chmod(0o644)
    assert "chmod 600" in ceremony.refused(*NORTH, *ceremony.component(0), officer="alice")


def test_before_there_are_officers_nobody_changes_keys(ceremony: Ceremony) -> None:
    ceremony.json("init")
    said = ceremony.refused("key", "generate", "zmk-north", "--role", "zmk", "--party", "north")
    assert "approval_needed" in said and "no officers are registered" in said
    assert not (ceremony.state / "exchange").exists(), "no zone master key makes itself"


def test_a_zone_master_key_comes_in_two_sessions(begun: Ceremony) -> None:
    proposed = begun.json(*NORTH, *begun.component(0), "--kcv", KCV, officer="alice")["proposed"]
    assert proposed["entered"] == [{"officer": "alice", "check_value": clear_check_value("A", PARTS[0])}]
    assert "no key" in begun.refused("key", "list", "zmk-north")
    (listed,) = begun.json("pending")["proposals"]
    assert listed == proposed and "alice" in begun.run("pending")[1]
    _, out, err = begun.run("approve", proposed["id"], "--yes", *begun.component(1), officer="alice")
    assert "another officer approves" in err
    assert not out and all(word in err for word in ("zmk-north", "north", KCV, "proposed by alice"))
    (key,) = begun.approve(proposed["id"], *begun.component(1))["keys"]
    assert (key["kcv"], key["status"], key["party"]) == (KCV, "active", "north")

    begun.json("key", "generate", "zpk-north", "--role", "pin", "--party", "north")
    assert "approval_needed" in begun.refused("key", "export", "zpk-north", "--under", "zmk-north")
    block = begun.both("key", "export", "zpk-north", "--under", "zmk-north")
    assert clear_check_value("T", unwrap_block(ClearAesKey(ZMK), block["block"]).key) == block["kcv"]
    (copy,) = begun.both(
        "key",
        "import",
        "copy",
        "--role",
        "pin",
        "--under",
        "zmk-north",
        "--block",
        block["block"],
        "--kcv",
        block["kcv"],
    )["keys"]
    assert copy["kcv"] == block["kcv"] and copy["party"] == "north"

    records = begun.json("audit", "show")["records"]
    seen = [(one["command"], one.get("officers"), one["outcome"], one["keys"]) for one in records]
    for expected in (
        ("import_components", ["alice"], "proposed", ["unknown"]),
        ("import_components", ["alice", "bob"], "ok", ["zmk-north/1"]),
        ("export_key", ["alice"], "proposed", ["zpk-north/1", "zmk-north/1"]),
        ("export_key", ["alice", "bob"], "ok", ["zpk-north/1", "zmk-north/1"]),
    ):
        assert expected in seen, seen
    assert "alice bob" in begun.run("audit", "show")[1]


def test_a_custodian_types_the_own_component(begun: Ceremony) -> None:
    where = ["--config", str(begun.directory / "own.toml"), "--state", str(begun.state)]
    alice, bob = (["--as", str(begun.directory / f"{name}.key")] for name in ("alice", "bob"))
    result = CliRunner().invoke(cli.app, ["hsm", *NORTH, *alice, *where], input=f"{PARTS[0].hex()}\ny\n")
    assert result.exit_code == 0, (result.output, result.exception)
    assert PARTS[0].hex() not in result.output and clear_check_value("A", PARTS[0]) in result.output
    (proposal,) = begun.json("pending")["proposals"]
    result = CliRunner().invoke(
        cli.app, ["hsm", "approve", proposal["id"], *bob, *where], input=f"{PARTS[1].hex()}\ny\n"
    )
    assert result.exit_code == 0 and KCV in result.output, (result.output, result.exception)


def test_a_proposal_is_rejected(begun: Ceremony) -> None:
    proposed = begun.json("key", "generate", "zmk-x", "--role", "zmk", officer="alice")["proposed"]
    assert "no proposal 'nothing' waits" in begun.refused("reject", "nothing", officer="bob")
    begun.json("reject", proposed["id"], officer="bob")
    assert begun.json("pending")["proposals"] == []
    assert begun.run("pending")[1] == "no proposals wait\n"
    last = begun.json("audit", "show", "--last", "1")["records"][0]
    assert (last["command"], last["officers"], last["outcome"]) == ("generate_key", ["alice", "bob"], "rejected")


def test_officers_are_listed_added_and_removed(begun: Ceremony) -> None:
    begun.json("officer", "create", "carol", "--directory", str(begun.directory))
    assert {one["name"] for one in begun.json("officer", "list")["officers"]} == {"alice", "bob"}
    listed = begun.both("officer", "add", str(begun.directory / "carol.card"))
    assert {one["name"] for one in listed["officers"]} == {"alice", "bob", "carol"}
    begun.both("officer", "remove", "carol")
    assert "2 officers stay" in begun.refused("officer", "remove", "bob", officer="alice")
    cards = ("--officer", str(begun.directory / "carol.card"), "--officer", str(begun.directory / "alice.card"))
    assert "approval_needed" in begun.refused("init", *cards)
    assert "signs this" in begun.refused("officer", "remove", "bob")


def test_no_setting_ends_dual_control(begun: Ceremony) -> None:
    own = begun.directory / "own.toml"
    own.write_text(own.read_text().replace("[hsm]\n", "[hsm]\ndual_control = false\n"))
    assert "approval_needed" in begun.refused("key", "generate", "zmk-x", "--role", "zmk")
    assert not (begun.state / "exchange").exists()
    ended = begun.both("officer", "end-dual-control")
    assert not ended["enforced"]
    last = begun.json("audit", "show", "--last", "1")["records"][0]
    assert (last["command"], last["officers"], last["outcome"]) == ("end_dual_control", ["alice", "bob"], "ok")


def test_a_ledger_s_head_is_accepted_by_two_officers(begun: Ceremony) -> None:
    digest = "ab" * 32
    command = ("accept-ledger-head", f"7:{digest}")
    assert "approval_needed" in begun.refused(*command, "--yes")
    assert not (begun.state / "hsm" / "ledger_head.json").exists()
    proposal = begun.json(*command, officer="alice")["proposed"]
    assert proposal["request"] == {"type": "accept_ledger_head", "number": 7, "digest": digest}
    assert f"7:{digest}" in begun.run("pending")[1]
    assert "another officer approves" in begun.run("approve", proposal["id"], "--yes", officer="alice")[2]
    _, out, err = begun.run("approve", proposal["id"], "--yes", officer="bob")
    assert f"goes on from seal 7:{digest}" in err and f"digest: {digest}" in err
    assert "the token goes on from seal 7" in out and (begun.state / "hsm" / "ledger_head.json").exists()
    assert "no NUMBER:DIGEST" in begun.refused("accept-ledger-head", f"{'9' * 30}:{digest}", officer="alice")


def test_a_copy_is_put_back_by_two_officers(begun: Ceremony) -> None:
    begun.json("key", "generate", "zpk-north", "--role", "pin", "--party", "north")
    number = str(begun.json("backup", "list")["backups"][-1]["number"])
    assert "two officers" in begun.refused("restore", "--yes", "--number", number)
    for _ in range(2):  # twice the same officer is one officer
        status, out, _ = begun.run("restore", "--yes", "--number", number, officer="alice")
        assert status == 0 and "another officer" in out
    assert not list((begun.state / "hsm").glob("damaged-*"))
    begun.json("restore", "--yes", "--number", number, officer="bob")
    assert list((begun.state / "hsm").glob("damaged-*"))
    records = begun.json("audit", "show")["records"]
    assert ("restore", ["alice", "bob"]) in [(one["command"], one.get("officers")) for one in records]


def test_no_copy_from_before_the_officers_is_put_back(begun: Ceremony) -> None:
    first = str(begun.json("backup", "list")["backups"][0]["number"])
    assert "would end dual control" in begun.refused("restore", "--yes", "--number", first, officer="alice")


def test_a_stranger_s_key_restores_nothing(begun: Ceremony) -> None:
    (begun.directory / "other").mkdir()
    begun.json("officer", "create", "bob", "--directory", str(begun.directory / "other"))
    number = str(begun.json("backup", "list")["backups"][-1]["number"])
    begun.run("restore", "--yes", "--number", number, officer="alice")
    assert "has another key" in begun.refused("restore", "--yes", "--number", number, officer="other/bob")


def test_provisioning_and_dual_control_contradict_each_other(ceremony: Ceremony) -> None:
    own = ceremony.directory / "own.toml"
    own.write_text(own.read_text().replace("[hsm]\n", "[hsm]\nprovision = true\n"))
    assert "hsm.provision makes zone master keys that nobody has approved" in ceremony.run("init")[2]


def test_doctor_says_how_it_is(begun: Ceremony, ceremony: Ceremony) -> None:
    from console.doctor import OK, WARNING
    from console.doctor_hsm import hsm_findings
    from hsm.config import HsmConfig

    def found(config: HsmConfig, name: str = "hsm dual control") -> Any:
        return next(one for one in hsm_findings(config, begun.state) if one.check == name)

    assert found(HsmConfig()).state == OK and "alice, bob" in found(HsmConfig()).detail
    (begun.state / "exchange").mkdir()
    (begun.state / "exchange" / "pos.zmk").write_text("")
    assert found(HsmConfig()).state == WARNING and "in the clear" in found(HsmConfig()).detail
    assert found(HsmConfig(), "hsm key lifetimes").state == OK
    soon = found(HsmConfig(key_lifetime_days={"data": 10}), "hsm key lifetimes")
    assert soon.state == WARNING and "pan/1" in soon.detail


def test_doctor_sends_nobody_to_an_init_that_takes_no_officers(ceremony: Ceremony) -> None:
    from console.doctor import WARNING
    from console.doctor_hsm import hsm_findings
    from hsm.config import HsmConfig

    ceremony.run("init")
    (ceremony.state / "exchange").mkdir(exist_ok=True)
    found = {one.check: one for one in hsm_findings(HsmConfig(), ceremony.state)}["hsm dual control"]
    assert (found.state, found.mend) == (WARNING, "cardswitch hsm init --officer A.card --officer B.card")
    (ceremony.state / "exchange" / "pos.zmk").write_text("")
    found = {one.check: one for one in hsm_findings(HsmConfig(), ceremony.state)}["hsm dual control"]
    assert found.state == WARNING and "dual_control = false" in found.mend and "init" not in found.mend


def test_a_proposal_shows_no_empty_components() -> None:
    from console.hsm.approvals import described
    from hsm.key_commands import ImportComponents
    from hsm.officer_commands import Proposal

    request = ImportComponents(name="zmk-north", role="zmk", party="north", count=2)
    proposal = Proposal(id="1", request=request, proposer="alice", nonce="", made_at=0, expires_at=1)
    assert not any("components" in line and "()" in line for line in described(proposal))


FORGED = "\x1b[2J\x1b[Hproposal 0a2e829601ad: retire_key\r\n  name: zpk-old\x9b8m\u202e"


def test_a_proposal_shows_control_characters_escaped() -> None:
    from console.hsm.approvals import described
    from hsm.key_commands import ImportComponents
    from hsm.officer_commands import EnteredComponent, Proposal

    request = ImportComponents(name=FORGED, role=FORGED, party=FORGED, algorithm=FORGED, count=2, kcv=FORGED)
    entered = (EnteredComponent(officer=FORGED, check_value=FORGED),)
    proposal = Proposal(
        id=FORGED, request=request, proposer=FORGED, nonce="", made_at=0, expires_at=1, facts=(FORGED,), entered=entered
    )
    lines = described(proposal)
    assert len(lines) == 10 and all(" " <= one <= "~" for line in lines for one in line)
    assert "  kcv: \\x1b[2J\\x1b[Hproposal 0a2e829601ad: retire_key\\r\\n  name: zpk-old\\x9b8m\\u202e" in lines


def test_tables_show_control_characters_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    from console.hsm.tables import print_rows

    print_rows(("ID", "of"), [("1", FORGED)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\r" not in shown and "\\x1b[2J" in shown
