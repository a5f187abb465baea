"""The command line: errors of one line, round trips, JSON where a program reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from console import cli
from gateway.errors import ConfigurationError as GatewayConfigurationError
from hsm.errors import ConfigurationError as HsmConfigurationError
from hsm.errors import KeyStoreError

ROOT = Path(__file__).parents[2]
MESSAGE: dict[str, Any] = {
    "mti": "0100",
    "elements": {
        "2": "4242424242424242",
        "3": "000000",
        "4": "000000012300",
        "7": "1122154908",
        "11": "000001",
        "41": "TERM0001",
        "49": "978",
        "52": "0123456789ABCDEF",
    },
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("spec", ["iso87-ascii", "iso87-bcd"])
def test_what_decode_prints_encode_reads(capsys: pytest.CaptureFixture[str], spec: str) -> None:
    status, encoded, _ = run(capsys, "encode", json.dumps(MESSAGE), "--spec", spec)
    assert status == 0
    status, decoded, _ = run(capsys, "decode", encoded.strip(), "--spec", spec, "--json", "--unmasked")
    assert status == 0
    inside = {"3": {"1": "00", "2": "00", "3": "00"}}
    assert json.loads(decoded) == {**MESSAGE, "elements": {**MESSAGE["elements"], **inside}}
    assert run(capsys, "encode", decoded, "--spec", spec)[1] == encoded


def test_decode_masks_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    encoded = run(capsys, "encode", json.dumps(MESSAGE))[1].strip()
    for arguments in (["--json"], []):
        out = run(capsys, "decode", encoded, *arguments)[1]
        assert "4242424242424242" not in out
        assert "0123456789ABCDEF" not in out
        assert "4242" in out


def test_decode_shows_names_and_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    encoded = run(capsys, "encode", json.dumps(MESSAGE))[1].strip()
    out = run(capsys, "decode", encoded)[1]
    assert "Primary account number" in out
    assert "123.00 EUR" in out
    assert "authorization request" in out


def test_decode_reads_a_file_of_many_and_standard_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = run(capsys, "encode", json.dumps(MESSAGE))[1].strip()
    file = tmp_path / "messages.hex"
    file.write_text(f"{encoded}\n\n{encoded}\n")
    status, out, _ = run(capsys, "decode", str(file), "--json")
    assert status == 0
    assert [json.loads(line)["mti"] for line in out.splitlines()] == ["0100", "0100"]
    with file.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert len(run(capsys, "decode", "-", "--json")[1].splitlines()) == 2


def test_encode_reads_json_over_several_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "message.json"
    file.write_text(json.dumps(MESSAGE, indent=2))
    status, out, _ = run(capsys, "encode", str(file), "--json")
    assert status == 0
    assert json.loads(out)["hex"].startswith("30313030")


BAD = {
    "no hex and no file": (["decode", "zz"], 2, "neither a message nor a readable file"),
    "odd hex": (["decode", "303"], 2, "message 1 is not hex"),
    "no message": (["decode", "3031"], 2, "MTI at byte 0"),
    "unknown dialect": (["decode", "3031", "--spec", "iso88"], 2, "iso88"),
    "no JSON": (["encode", "{"], 2, "not JSON"),
    "element out of range": (["encode", '{"mti":"0100","elements":{"129":"1"}}'], 2, "no element '129'"),
    "unknown member": (["encode", '{"mti":"0100","elements":{},"x":1}'], 2, "unknown field `x`"),
    "value too long": (["encode", '{"mti":"0100","elements":{"11":"1234567"}}'], 2, "DE 11"),
    "unknown command": (["fly"], 2, "No such command 'fly'"),
    "unknown option": (["decode", "--fast"], 2, "No such option"),
    "no configuration": (["up", "--config", "/no/such.toml"], 2, "/no/such.toml cannot be read"),
    "choice that is missing": (["link", "exchange-key", "pos"], 2, "Choose from: pin, mac; see --help"),
    "number out of range": (["switch", "--worker", "-1"], 2, "--worker"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_one_line_with_a_status(capsys: pytest.CaptureFixture[str], name: str) -> None:
    arguments, status, expected = BAD[name]
    found, out, err = run(capsys, *arguments)
    assert found == status
    assert out == ""
    assert err.startswith("cardswitch: ")
    assert err.count("\n") == 1
    assert expected in err


def test_errors_say_nothing_of_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"mti": "0100", "elements": {"2": "4242424242424242X", "11": "000001"}}
    status, _, err = run(capsys, "encode", json.dumps(bad))
    assert status == 2
    assert "4242424242" not in err


def test_a_traceback_is_for_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["decode", "3031"], debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyStoreError, HsmConfigurationError, GatewayConfigurationError])
def test_an_error_that_has_its_remedy_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error("/s/keys.json: not a key file; cardswitch hsm restore")

    monkeypatch.setattr("console.codec_commands.decode", fail)
    status, _, err = run(capsys, "decode", "3031")
    assert (status, err) == (1, "cardswitch: /s/keys.json: not a key file; cardswitch hsm restore\n")


def test_an_unexpected_error_is_one_masked_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("broken\nfor 4242424242424242")

    monkeypatch.setattr("console.codec_commands.decode", fail)
    status, _, err = run(capsys, "decode", "3031")
    assert status == 1
    assert err.count("\n") == 1
    assert "4242424242424242" not in err
    assert "--debug" in err


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {"up", "switch", "hsm", "gateway", "tokenizer", "sim", "ledger", "prove", "bench", "doctor", "demo"}
    wanted |= {"decode", "encode", "send"}
    out = run(capsys, "--help")[1]
    assert [name for name in wanted if name not in out] == []
    for name in wanted:
        assert run(capsys, name, "--help")[0] == 0


@pytest.mark.parametrize("command", ["send", "link suspend", "sim issuer", "sim book", "sim ask"])
def test_help_shows_the_names_of_sections(capsys: pytest.CaptureFixture[str], command: str) -> None:
    out = run(capsys, *command.split(), "--help")[1]
    assert re.search(r"\[\[(acquirer|issuer)\]\]", out), out


def test_doctor_lists_checks_and_mends(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run(capsys, "doctor", "--json", "--state", str(tmp_path))
    checks = {check["check"]: check for check in json.loads(out)["checks"]}
    assert {"python", "packages", "pkcs11 module", "postgresql", "disk", "cores", "fsync"} <= set(checks)
    assert status == (0 if json.loads(out)["ok"] else 1)
    assert all(check["mend"] for check in checks.values() if check["state"] != "ok")


def test_doctor_warns_of_an_endpoint_that_any_page_may_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    packaged = (ROOT / "specs" / "cardswitch.toml").read_text()
    place = 'listen = "0.0.0.0:8081"\nurl = "https://tokens.example"\nbehind_proxy = true'
    for tokenizer, state in (
        ('listen = "127.0.0.1:8081"', "ok"),
        (place, "warning"),
        (f'{place}\norigins = ["https://shop.example"]', "ok"),
    ):
        file = tmp_path / "cardswitch.toml"
        file.write_text(packaged.replace('listen = "127.0.0.1:8081"', tokenizer))
        _, out, _ = run(capsys, "doctor", "--json", "--config", str(file), "--state", str(tmp_path))
        (finding,) = [check for check in json.loads(out)["checks"] if check["check"] == "tokenizer"]
        assert finding["state"] == state and bool(finding["mend"]) == (state != "ok")


def test_doctor_fails_where_something_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[hsm]\nmodule = 1\n[gateway]\nlink = 2\n")
    status, out, _ = run(capsys, "doctor", "--json", "--config", str(file))
    assert status == 1
    checks = {check["check"]: check["detail"] for check in json.loads(out)["checks"]}
    first, *problems = checks["configuration"].splitlines()
    assert "2 errors" in first and {problem.partition(":")[0] for problem in problems} == {"hsm.module", "gateway.link"}
    assert "not checked" in checks["ports"]


def test_all_keys_that_are_missing_are_named_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hsm.config import KeyConfig
    from hsm.keys.provisioning import provision

    class NoKeys:
        def versions(self, _: str) -> list[None]:
            return []

    keys = [KeyConfig(name=f"zpk-{number}", usage="pin", party=f"party-{number}") for number in range(6)]

    def start(*_: object, **__: object) -> None:
        provision(cast(Any, NoKeys()), keys, tmp_path, make=False)

    monkeypatch.setattr("console.cli.app", start)
    assert cli.run([]) == 1
    error = capsys.readouterr().err
    assert all(f"key generate zpk-{number} --role pin --party party-{number}" in error for number in range(6)), error
    assert "ConfigurationError" not in error and "--debug" not in error
    assert error.count("dual_control = false") == 1


def test_the_script_starts_fast_and_reads_debug_anywhere() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "decode", "3031", "--debug"],
        capture_output=True, text=True, env=environment, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    heavy = "import sys; from console import cli; print([m for m in ('trio', 'asyncpg', 'httpx') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, env=environment, check=True)
    assert loaded.stdout.strip() == "[]"


def test_ctrl_c_while_several_tasks_run_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise BaseExceptionGroup("nursery", [BaseExceptionGroup("nursery", [KeyboardInterrupt()])])

    monkeypatch.setattr("console.cli.app", interrupted)
    assert cli.run([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_doctor_warns_where_connections_need_more_files_than_there_may_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "cardswitch.toml"
    packaged = (ROOT / "specs" / "cardswitch.toml").read_text()
    file.write_text(f"{packaged}\n[gateway.http]\nmax_connections = 1000000000\n")
    _, out, _ = run(capsys, "doctor", "--json", "--config", str(file), "--state", str(tmp_path))
    found = {check["check"]: check for check in json.loads(out)["checks"]}
    assert found["gateway.http"]["state"] == "warning" and "max_connections" in found["gateway.http"]["mend"]
    assert found["tokenizer.http"]["state"] == "ok"
