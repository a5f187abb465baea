"""Officers' commands, over a real SoftHSM token that no process holds; and the ways it is refused."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from console import cli
from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.components import combine_components, odd_parity, split_key
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.keys.attributes import ROLES
from hsm.keys.exchange import load_party_keys, load_party_zmk
from hsm.keys.holder import hold_lock
from hsm.vault.rewrap import MAX_BATCH
from tests.hsm.algorithms.test_keyblock import PUBLISHED


class Officer:
    """Runs commands on one state directory."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = state
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        status = cli.run(["hsm", *arguments, *self._where(arguments)])
        out, err = self._capsys.readouterr()
        return status, out, err

    def json(self, *arguments: str) -> Any:
        status, out, err = self.run(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    def refused(self, *arguments: str) -> str:
        """Return the one line that a refused command says."""
        status, out, err = self.run(*arguments)
        assert status in (1, 2) and not out, (status, out, err)
        assert err.startswith("cardswitch: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    def typed(self, text: str, *arguments: str) -> tuple[int, str]:
        """Run with somebody at the keyboard."""
        result = CliRunner().invoke(cli.app, ["hsm", *arguments, *self._where(arguments)], input=text)
        said = "" if result.exception is None else str(result.exception)
        return result.exit_code, result.output + said

    def _where(self, arguments: tuple[str, ...]) -> list[str]:
        return [] if arguments[0] == "component" else ["--state", str(self.state)]


@pytest.fixture(scope="module", autouse=True)
def dumps_forbidden() -> Iterator[list[bool]]:
    """The commands forbid core dumps; not of the process of the tests, whose children would inherit it."""
    asked: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsm.process.forbid_dumps", lambda: asked.append(True))
        yield asked


@pytest.fixture
def officer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Officer:
    return Officer(tmp_path / "state", capsys)


@pytest.fixture(scope="module")
def initialised(dumps_forbidden: list[bool], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose token has been made, shared by tests that only add keys of their own names."""
    state = tmp_path_factory.mktemp("officer")
    assert cli.run(["hsm", "init", "--state", str(state), "--json"]) == 0
    return state


@pytest.fixture
def desk(initialised: Path, capsys: pytest.CaptureFixture[str]) -> Officer:
    capsys.readouterr()
    return Officer(initialised, capsys)


def test_init_makes_token_and_keys_and_shows_check_values(officer: Officer) -> None:
    status, out, _ = officer.run("init")
    assert status == 0
    keys = {key["name"]: key for key in officer.json("key", "list")["keys"]}
    assert {"storage", "integrity", "audit", "fingerprint", "pan", "zpk-pos", "zak-pos", "zmk-pos"} <= set(keys)
    for key in keys.values():
        assert len(key["kcv"]) == 6 and key["kcv"] in out
    # A second time it makes nothing.
    assert {key["name"]: key["kcv"] for key in officer.json("init")["keys"]} == {n: k["kcv"] for n, k in keys.items()}


def test_without_provisioning_officers_bring_the_keys(officer: Officer, tmp_path: Path) -> None:
    own = tmp_path / "cardswitch.toml"
    sample = Path(cli.__file__).parents[1] / "specs" / "cardswitch.toml"
    own.write_text(sample.read_text().replace("[hsm]\n", "[hsm]\nprovision = false\n"))
    where = ("--config", str(own))
    keys = officer.json("init", *where)["keys"]
    assert {key["name"] for key in keys} == {"audit", "fingerprint", "integrity", "pan", "storage"}
    (key,) = officer.json("key", "generate", "zpk-pos", "--role", "pin", "--party", "pos", *where)["keys"]
    assert key["status"] == "active"
    assert not (officer.state / "exchange").exists()


def test_a_tdes_zone_master_key_makes_blocks_of_version_b(desk: Officer) -> None:
    desk.json("key", "generate", "zmk-tdes", "--role", "zmk", "--algorithm", "TDES")
    desk.json("key", "generate", "zpk-tdes", "--role", "pin", "--party", "tdes")
    desk.json("key", "generate", "zak-tdes", "--role", "mac", "--party", "tdes")
    exported = desk.json("key", "export", "zpk-tdes", "--under", "zmk-tdes")
    assert exported["block"].startswith("B0096P0TB00E0000")
    source = ("--role", "pin", "--under", "zmk-tdes", "--block", exported["block"], "--kcv", exported["kcv"])
    (key,) = desk.json("key", "import", "zpk-back", *source)["keys"]
    assert (key["kcv"], key["status"]) == (exported["kcv"], "active")
    assert "blocks of version D are under" in desk.refused(
        "key", "export", "zpk-tdes", "--under", "zmk-tdes", "--version", "D"
    )
    assert "stronger than what protects it" in desk.refused("key", "export", "zak-tdes", "--under", "zmk-tdes")


def test_list_names_what_a_key_is(desk: Officer) -> None:
    (key,) = desk.json("key", "list", "zpk-pos")["keys"]
    assert (key["codes"], key["role"], key["party"], key["status"]) == ("P0 T B E", "pin", "pos", "active")
    clear = load_party_keys(desk.state / "exchange", "pos")["zpk-pos"]
    assert key["kcv"] == clear_check_value("T", clear)
    assert "there is no key 'nobody'" in desk.refused("key", "list", "nobody")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_key_of_every_role_is_generated(desk: Officer, role: str) -> None:
    for number, algorithm in enumerate(ROLES[role].algorithms):
        (key,) = desk.json("key", "generate", f"gen-{role}-{number}", "--role", role, "--algorithm", algorithm)["keys"]
        assert (key["role"], key["status"], key["origin"]) == (role, "active", "generated")
        assert key["attributes"]["usage"] == ROLES[role].algorithms[algorithm].usage


def test_generate_narrows_and_refuses(desk: Officer) -> None:
    (key,) = desk.json("key", "generate", "narrow", "--role", "mac", "--mode", "V", "--exportability", "N")["keys"]
    assert key["codes"] == "M6 A V N"
    assert "rotate it" in desk.refused("key", "generate", "narrow", "--role", "mac")
    assert "role 'nothing'" in desk.refused("key", "generate", "other", "--role", "nothing")
    assert "letters, digits" in desk.refused("key", "generate", "../other", "--role", "pin")
    assert "not_exportable" in desk.refused("key", "export", "narrow", "--under", "zmk-pos")


def test_what_is_exported_a_partner_reads_and_what_he_sends_is_imported(desk: Officer) -> None:
    zmk = ClearAesKey(load_party_zmk(desk.state / "exchange", "pos"))
    exported = desk.json("key", "export", "zpk-pos", "--under", "zmk-pos", "--version", "d")
    found = unwrap_block(zmk, exported["block"])
    assert found.key == load_party_keys(desk.state / "exchange", "pos")["zpk-pos"]
    assert exported["kcv"] == clear_check_value("T", found.key)
    status, out, err = desk.run("key", "export", "zpk-pos", "--under", "zmk-pos")
    assert status == 0 and unwrap_block(zmk, out.strip()).key == found.key
    assert exported["kcv"] in err and found.key.hex().upper() not in out + err

    theirs = odd_parity(bytes(range(30, 54)))
    block = wrap_block(zmk, theirs, found.attributes, "D", lambda count: bytes(count))
    file = desk.state.parent / "block.txt"
    file.write_text(block + "\n")
    kcv = clear_check_value("T", theirs)
    under = ("--role", "pin", "--under", "zmk-pos")
    (key,) = desk.json("key", "import", "theirs", *under, "--block-file", str(file), "--kcv", kcv.lower())["keys"]
    assert (key["kcv"], key["status"], key["origin"], key["version"]) == (kcv, "active", "block", 1)


def test_an_unexpected_check_value_keeps_a_key_out_of_force(desk: Officer) -> None:
    zmk = ClearAesKey(load_party_zmk(desk.state / "exchange", "pos"))
    attributes = ROLES["pin"].algorithms["AES"]
    block = wrap_block(zmk, bytes(range(32)), attributes, "D", lambda count: bytes(count))
    source = ("--role", "pin", "--block", block, "--under", "zmk-pos")
    assert "not 000000" in desk.refused("key", "import", "unexpected", *source, "--kcv", "000000")
    (key,) = desk.json("key", "list", "unexpected")["keys"]
    assert key["status"] == "pending"
    (key,) = desk.json("key", "activate", "unexpected", "--version", "1")["keys"]
    assert key["status"] == "active"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "one source"),
        (("--block", "D0", "--components", "2", "--under", "zmk-pos"), "one source"),
        (("--block", "D0"), "--under"),
        (("--block", "D0", "--under", "zmk-pos", "--algorithm", "TDES"), "leave --algorithm out"),
        (("--block", "D0", "--under", "zmk-pos"), "16 characters of header"),
        (("--block", "D0", "--under", "nobody"), "no key named 'nobody'"),
        (("--block", "D0", "--under", "zpk-pos"), "may not unwrap a key"),
        (("--block-file", "/does/not/exist", "--under", "zmk-pos"), "No such file"),
        (("--components", "4"), "2 or 3 components"),
        (("--components", "2", "--under", "zmk-pos"), "go with a key block"),
        (("--component-file", "/does/not/exist"), "No such file"),
    ],
)
def test_imports_that_cannot_be(desk: Officer, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in desk.refused("key", "import", "never", "--role", "pin", *arguments)
    assert desk.json("key", "list")["keys"] and "never" not in {key["name"] for key in desk.json("key", "list")["keys"]}


def test_two_custodians_bring_a_zone_master_key(desk: Officer) -> None:
    key = bytes(range(100, 132))
    first, second = split_key(key, 2, lambda count: bytes(range(count)))
    kcv = clear_check_value("A", key)
    typed = f"{first.hex()}\ny\n{second.hex(' ', 4).upper()}\ny\n"
    status, said = desk.typed(
        typed, "key", "import", "zmk-north", "--role", "zmk", "--components", "2", "--party", "north"
    )
    assert status == 0, said
    for part in (first, second):
        assert clear_check_value("A", part) in said
        assert part.hex() not in said.lower() and part.hex(" ", 4) not in said.lower()
    assert kcv in said and key.hex() not in said.lower()
    (listed,) = desk.json("key", "list", "zmk-north")["keys"]
    assert (listed["kcv"], listed["origin"], listed["party"]) == (kcv, "components", "north")
    # It is the key: its holder reads the keys under it.
    desk.json("key", "generate", "zpk-north", "--role", "pin", "--party", "north")
    block = desk.json("key", "export", "zpk-north", "--under", "zmk-north")
    assert clear_check_value("T", unwrap_block(ClearAesKey(key), block["block"]).key) == block["kcv"]


def at_a_terminal(arguments: tuple[str, ...], answers: list[str], question: bytes) -> str:
    """Run a command on a pseudo-terminal, answer each question as it comes, and return all that was shown."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "hsm", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, answered = b"", 0
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed: the command has ended
            break
        # A hidden question comes once the echo is off.
        asked = len(re.findall(question, shown))
        assert asked <= len(answers), shown
        for answer in answers[answered:asked]:
            os.write(ours, answer.encode() + b"\n")
        answered = asked
    os.close(ours)
    assert child.wait(30) == 0, shown
    assert answered == len(answers)
    return shown.decode()


def test_a_terminal_does_not_show_what_is_typed(initialised: Path) -> None:
    parts = split_key(bytes(range(90, 122)), 2, lambda count: bytes(range(3, 3 + count)))
    arguments = ("key", "import", "zmk-terminal", "--role", "zmk", "--components", "2", "--state", str(initialised))
    answers = [line for part in parts for line in (part.hex(), "y")]
    shown = at_a_terminal(arguments, answers, rb"\(hidden\): |\[y/N\]: ").lower()
    assert "taken, check value" in shown
    assert not any(part.hex()[:12] in shown for part in parts)


def test_a_terminal_shows_a_component_once() -> None:
    shown = at_a_terminal(("component", "generate", "--length", "16"), [""] * 2, rb"press Enter[^:]*: ")
    screens = shown.split("\x1b[2J\x1b[3J\x1b[H")
    assert [len(re.findall(r"component: ", screen)) for screen in screens] == [1, 0]


def test_a_custodian_types_again_what_was_wrong(desk: Officer) -> None:
    first, second = bytes(range(1, 33)), bytes(range(60, 92))
    typed = f"not hex\n{first.hex()[:-2]}\n{first.hex()}\ny\n{first.hex()}\nn\n{second.hex()}\ny\n"
    status, said = desk.typed(typed, "key", "import", "zmk-again", "--role", "zmk", "--components", "2")
    assert status == 0 and said.count("not a component") == 2, said
    status, said = desk.typed("x\n" * 3, "key", "import", "zmk-never", "--role", "zmk", "--components", "2")
    assert status != 0 and "no component of custodian 1 of 2 was entered" in said
    assert "no key" in desk.refused("key", "list", "zmk-never")


def test_components_that_make_another_key_are_not_imported(desk: Officer) -> None:
    parts = split_key(bytes(range(100, 124)), 2, lambda count: bytes(range(count)))
    typed = "".join(f"{part.hex()}\ny\n" for part in parts)
    arguments = ("key", "import", "zmk-other", "--role", "zmk", "--algorithm", "TDES", "--components", "2")
    status, said = desk.typed(typed, *arguments, "--adjust-parity", "--kcv", "000000")
    assert status != 0 and "not 000000" in said and "nothing was imported" in said
    assert "no key" in desk.refused("key", "list", "zmk-other")


def files(directory: Path, parts: tuple[bytes, ...]) -> list[str]:
    """Component files as options."""
    arguments = []
    for number, part in enumerate(parts):
        file = directory / f"component-{number}"
        file.write_text(part.hex(" ", 2) + "\n")
        file.chmod(0o600)
        arguments += ["--component-file", str(file)]
    return arguments


def test_components_in_files_and_parity(desk: Officer, tmp_path: Path) -> None:
    good = odd_parity(bytes(range(40, 56)))
    pair = split_key(good, 2, lambda count: bytes(range(7, 7 + count)))
    source = files(tmp_path, pair)
    (key,) = desk.json("key", "import", "cvk-files", "--role", "cvk", *source)["keys"]
    assert key["kcv"] == clear_check_value("T", good)

    wrong = (pair[0], bytes([pair[1][0] ^ 1]) + pair[1][1:])
    source = files(tmp_path, wrong)
    said = desk.refused("key", "import", "cvk-parity", "--role", "cvk", *source)
    assert "parity" in said and "--adjust-parity" in said and good.hex() not in said
    (key,) = desk.json("key", "import", "cvk-parity", "--role", "cvk", *source, "--adjust-parity")["keys"]
    assert key["kcv"] == clear_check_value("T", good)

    (tmp_path / "component-0").chmod(0o644)
    assert "chmod 600" in desk.refused("key", "import", "cvk-open", "--role", "cvk", *source)
    assert "components" in desk.refused("key", "import", "cvk-one", "--role", "cvk", *files(tmp_path, pair[:1]))


# Check values: of openemv/tr31's tests, which state them for the same examples.
STANDARD_BLOCKS = {
    "A": ("TR-31:2018 A.7.2.1, version A", "pin", "CB9DEA"),
    "B": ("TR-31:2018 A.7.2.2, version B", "pin", "57C409"),
    "C": ("TR-31:2018 A.7.3.1, version C with KS", "bdk", "F4B08D"),
    "B-KS": ("TR-31:2018 A.7.3.2, version B with KS", "bdk", "9A4212"),
    "D": ("TR-31:2018 A.7.4, version D", "pin", "08793E"),
}


@pytest.mark.parametrize("name", STANDARD_BLOCKS)
def test_the_examples_of_the_standard_through_the_token(desk: Officer, tmp_path: Path, name: str) -> None:
    """The protection key comes in components and stays in the token; the block opens under it there."""
    vector, role, kcv = STANDARD_BLOCKS[name]
    kbpk, block, _ = PUBLISHED[vector]
    algorithm = "AES" if name == "D" else "TDES"
    parts = split_key(bytes.fromhex(kbpk), 2, lambda count: bytes(range(1, 1 + count)))
    zmk = ("key", "import", f"zmk-{name}", "--role", "zmk", "--algorithm", algorithm, "--adjust-parity")
    desk.json(*zmk, *files(tmp_path, parts))
    under = ("--role", role, "--under", f"zmk-{name}", "--block", block)
    if name != "D":  # the keys of the examples have no odd parity
        assert "parity" in desk.refused("key", "import", f"standard-{name}", *under)
    (key,) = desk.json("key", "import", f"standard-{name}", *under, "--adjust-parity", "--kcv", kcv)["keys"]
    assert (key["kcv"], key["status"]) == (kcv, "active")
    assert key["codes"].split() == [block[5:7], block[7], block[8], block[11]]
    altered = block[:60] + ("0" if block[60] != "0" else "1") + block[61:]
    assert "MAC of the block is wrong" in desk.refused("key", "import", "altered", *under[:-1], altered)


def test_rotation_activation_and_retirement(desk: Officer) -> None:
    desk.json("key", "generate", "turning", "--role", "pin", "--party", "turn")
    (second,) = desk.json("key", "rotate", "turning")["keys"]
    assert (second["version"], second["status"]) == (2, "pending")
    (second,) = desk.json("key", "activate", "turning", "--version", "2")["keys"]
    first, second = desk.json("key", "list", "turning")["keys"]
    assert (first["status"], second["status"]) == ("previous", "active")
    assert "add --yes" in desk.refused("key", "retire", "turning", "--version", "1")
    status, said = desk.typed("n\n", "key", "retire", "turning", "--version", "1")
    assert desk.json("key", "list", "turning")["keys"][0]["status"] == "previous", (status, said)
    (first,) = desk.json("key", "retire", "turning", "--version", "1", "--yes")["keys"]
    assert first["status"] == "retired"
    assert "no version 9" in desk.refused("key", "activate", "turning", "--version", "9")
    assert "key_in_use" in desk.refused("key", "retire", "zpk-pos", "--version", "1", "--yes")
    assert "no key named 'nobody'" in desk.refused("key", "rotate", "nobody")


def test_the_data_key_rotates_and_the_old_version_stays(officer: Officer) -> None:
    officer.json("init")
    (second,) = officer.json("key", "rotate", "pan")["keys"]
    first, second = officer.json("key", "list", "pan")["keys"]
    assert [(key["version"], key["status"]) for key in (first, second)] == [(1, "previous"), (2, "active")]
    assert first["kcv"] != second["kcv"]
    # Without the vault nobody knows what is stored under it.
    assert "key_in_use" in officer.refused("key", "retire", "pan", "--version", "1", "--yes")
    assert "cardswitch up" in officer.refused("rewrap", "--batch", str(MAX_BATCH))
    assert "--batch" in officer.run("rewrap", "--batch", str(MAX_BATCH + 1))[2]  # it would be cut down in silence


@pytest.mark.parametrize(("length", "count"), [(16, 2), (16, 3), (24, 2), (24, 3), (32, 2), (32, 3)])
def test_generated_components_make_a_key_that_is_taken(desk: Officer, tmp_path: Path, length: int, count: int) -> None:
    made = [desk.json("component", "generate", "--length", str(length)) for _ in range(count)]
    parts = tuple(bytes.fromhex(part["component"]) for part in made)
    assert {len(part) for part in parts} == {length} and len(set(parts)) == count
    algorithm = "A" if length == 32 else "T"
    assert [part["kcv"] for part in made] == [clear_check_value(algorithm, part) for part in parts]
    name = "AES" if length == 32 else "TDES"
    arguments = ("key", "import", f"made-{length}-{count}", "--role", "zmk", "--algorithm", name, "--adjust-parity")
    (key,) = desk.json(*arguments, *files(tmp_path, parts))["keys"]
    value = combine_components(parts)
    assert key["kcv"] == clear_check_value(algorithm, odd_parity(value) if algorithm == "T" else value)


@pytest.mark.parametrize("command", [("key", "list"), ("component", "generate", "--length", "16")])
def test_what_holds_keys_forbids_dumps(desk: Officer, dumps_forbidden: list[bool], command: tuple[str, ...]) -> None:
    dumps_forbidden.clear()
    desk.json(*command)
    assert dumps_forbidden


def test_a_component_is_shown_with_its_check_value(desk: Officer) -> None:
    """One for each custodian: a person who saw all of them would have the key."""
    status, out, _ = desk.run("component", "generate", "--length", "16")
    assert status == 0
    assert out.count("component: ") == 1 and out.count("check value: ") == 1
    assert "no 20 bytes" in desk.refused("component", "generate", "--length", "20")
    assert "algorithm 'RSA'" in desk.refused("component", "generate", "--length", "16", "--algorithm", "rsa")
    assert "No such option" in desk.refused("component", "generate", "--length", "16", "--count", "2")


def test_every_use_is_in_the_audit_and_the_trail_is_verified(officer: Officer) -> None:
    assert "no audit trail yet" in officer.refused("audit", "show")
    officer.json("init")
    officer.json("key", "generate", "watched", "--role", "pin")
    officer.refused("key", "export", "watched", "--under", "nobody")
    records = officer.json("audit", "show", "--key", "watched")["records"]
    assert [(record["command"], record["outcome"]) for record in records] == [
        ("generate_key", "ok"),
        ("export_key", "key_unknown"),
    ]
    assert records[0]["caller"] == "officer" and records[0]["keys"] == ["watched/1"]
    assert "generate_key" in officer.run("audit", "show", "--last", "2")[1]
    verdict = officer.json("audit", "verify")
    assert verdict["ok"] and verdict["sealed"] and verdict["records"] == 3

    trail = officer.state / "hsm" / "audit"
    segment = next(path for path in sorted(trail.glob("*.jsonl")) if b"watched" in path.read_bytes())
    segment.write_bytes(segment.read_bytes().replace(b"generate_key", b"retrieve_key"))
    status, out, _ = officer.run("audit", "verify")
    assert status == 1 and "was altered" in out and segment.name in out
    status, out, _ = officer.run("audit", "verify", "--json")
    assert status == 1 and json.loads(out)["problems"]


def test_copies_are_listed_and_put_back(officer: Officer) -> None:
    assert "no copies yet" in officer.run("backup", "list")[1]
    assert "there is no backup" in officer.refused("restore", "--yes")
    officer.json("init")
    before = officer.json("key", "list")["keys"]
    copies = officer.json("backup", "list")["backups"]
    assert copies and all(copy["intact"] for copy in copies)
    assert str(copies[-1]["number"]) in officer.run("backup", "list")[1]
    keys = officer.state / "hsm" / "keys.json"
    keys.write_bytes(keys.read_bytes()[:-40])
    assert "cardswitch hsm restore" in officer.refused("key", "list")
    assert "add --yes" in officer.refused("restore")
    assert officer.json("restore", "--yes")["intact"]
    assert officer.json("key", "list")["keys"] == before
    assert "no backup 999" in officer.refused("restore", "--yes", "--number", "999")


def test_a_running_hsm_keeps_its_token(officer: Officer) -> None:
    officer.json("init")
    assert officer.run("status")[0] == 1
    lock = hold_lock(officer.state / "hsm")
    try:
        assert "its officer socket" in officer.refused("key", "list")
        assert "stop it first" in officer.refused("restore", "--yes")
    finally:
        lock.close()


def test_options_stand_behind_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["hsm", "--state", str(tmp_path), "key", "list"]) == 2
    assert "behind the command" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_command_it_is_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr("console.hsm.commands.run_process", lambda *arguments: started.append(arguments))
    assert cli.run(["hsm", "--state", str(tmp_path)]) == 0
    assert started == [("hsm", None, tmp_path)]
