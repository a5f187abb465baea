"""Doctor says beforehand what a process would refuse at its start, with the same words."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console import doctor
from console.config import Config, load_config
from console.doctor import MISSING, OK, WARNING, Finding
from console.doctor_command import next_command, run_doctor
from console.doctor_start import DIRECTORIES, start_findings
from console.errors import StartError
from console.gateway_link import RemoteSwitch
from console.supervisor import _check_sockets
from gateway.errors import ConfigurationError as GatewayConfigurationError
from gateway.sealing import keys_for
from hsm.errors import ConfigurationError
from hsm.keys.holder import hold_lock
from hsm.tokenizer.certificates import load_certificate
from switch.errors import WireError
from switch.links.unix_socket import bound
from tests.hsm.tokenizer.certificates import Authority

replace = msgspec.structs.replace


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), state=tmp_path / "state")


def found(config: Config, name: str, *, running: bool = False) -> Finding:
    return next(one for one in start_findings(config, running=running) if one.check == name)


def test_nothing_is_in_the_way_of_the_sample_and_nothing_is_written(config: Config, tmp_path: Path) -> None:
    findings = start_findings(config, running=False)
    assert [finding for finding in findings if finding.state != OK] == []
    assert not list(tmp_path.iterdir())


def test_a_path_too_long_for_a_unix_socket(config: Config, tmp_path: Path) -> None:
    deep = replace(config, state=replace(config.state, directory=str(tmp_path / ("d" * 100))))
    with pytest.raises(StartError) as refused:
        _check_sockets(deep)
    finding = found(deep, "socket paths")
    assert finding.state == MISSING and finding.detail in str(refused.value)


@pytest.mark.parametrize(
    ("file", "state", "found", "command"),
    [
        (None, None, [Finding("ports", OK, "")], "cardswitch up"),
        (Path("/etc/a b.toml"), Path("s"), [], "cardswitch up --config '/etc/a b.toml' --state s"),
        (None, None, [Finding("issuers", WARNING, "", "cardswitch up --no-issuers")], "cardswitch up --no-issuers"),
        (None, None, [Finding("ports", WARNING, "", "or: cardswitch up --free-ports")], "cardswitch up --free-ports"),
    ],
)
def test_doctor_ends_with_the_command_that_starts_this_configuration(
    file: Path | None, state: Path | None, found: list[Finding], command: str
) -> None:
    assert next_command(file, state, found) == command


def _taken(path: Path) -> None:
    path.write_text("")


def _in_use(path: Path) -> Any:
    return bound(path, False)


def _open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize("obstruct", [_taken, _in_use, _open_directory])
def test_a_link_s_socket_that_cannot_be_made(config: Config, obstruct: Callable[[Path], Any]) -> None:
    config.state_path.mkdir(mode=0o700)
    path = config.state_path / "gateway.sock"
    held = obstruct(path)
    finding = found(config, "link sockets")
    with pytest.raises(WireError) as refused:
        bound(path, False)
    assert finding.state == MISSING and finding.detail == f"acquirer[gateway]: {refused.value}"
    assert not any(one.check == "link sockets" for one in start_findings(config, running=True))  # they are its own
    if held is not None:
        held.close()


def test_a_stale_socket_is_no_obstacle_and_stays(config: Config) -> None:
    config.state_path.mkdir(mode=0o700)
    path = config.state_path / "gateway.sock"
    bound(path, False).close()
    assert found(config, "link sockets").state == OK
    assert path.exists()


def test_another_process_that_owns_the_token(config: Config) -> None:
    lock = hold_lock(config.state_path / "hsm")
    finding = found(config, "hsm lock")
    assert finding.state == MISSING and "another HSM process owns this token" in finding.detail
    with pytest.raises(ConfigurationError) as refused:
        hold_lock(config.state_path / "hsm")
    assert finding.detail == str(refused.value)
    assert not any(one.check == "hsm lock" for one in start_findings(config, running=True))
    lock.close()
    assert found(config, "hsm lock").state == OK
    with (config.state_path / "hsm" / "lock").open("rb") as file:  # the look took nothing
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_state_directory_of_another_user(config: Config, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = config.state_path / name
    closed.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, _: path != closed)
    finding = found(config, "state owner")
    assert finding.state == MISSING and f"{closed} (of uid {os.geteuid()})" in finding.detail


def test_the_tokenizer_s_certificate(config: Config, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    served = replace(config, tokenizer=replace(config.tokenizer, certificate=str(certificate), private_key=str(key)))
    absent = found(served, "tokenizer certificate")
    with pytest.raises(ConfigurationError) as refused:
        load_certificate(certificate, key)
    assert (absent.state, absent.detail) == (MISSING, str(refused.value)) and str(certificate) in absent.detail
    authority.issue(certificate, key)
    key.chmod(0o600)
    assert found(served, "tokenizer certificate").state == OK
    key.chmod(0o644)
    readable = found(served, "tokenizer certificate")
    assert (readable.state, readable.mend) == (WARNING, f"chmod o-r {key}")
    authority.issue(certificate, key, days=3)
    key.chmod(0o600)
    ends = found(served, "tokenizer certificate")
    assert ends.state == WARNING and " ends 2" in ends.detail
    authority.issue(tmp_path / "other.pem", key)
    assert found(served, "tokenizer certificate").state == MISSING


def test_the_authorities_of_the_tokenizer(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    broken = replace(config, gateway=replace(config.gateway, tokenizer_ca=str(file)))
    assert found(broken, "gateway tokenizer_ca").state == MISSING
    Authority(tmp_path)
    assert found(broken, "gateway tokenizer_ca").state == OK


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("", 0o600, "has no key"),
        ("1 " + "ab" * 31, 0o600, "line 1: expected a new version"),
        ("1 " + "ab" * 32, 0o640, "chmod 600"),
    ],
)
def test_the_gateway_s_sealing_keys(config: Config, text: str, mode: int, says: str) -> None:
    path = config.state_path / "gateway-sealing.keys"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    finding = found(config, "gateway sealing keys")
    assert finding.state == MISSING and says in finding.detail
    with pytest.raises(GatewayConfigurationError) as refused:
        keys_for(path, {}, make=False)
    assert finding.detail == str(refused.value)


def test_issuers_that_cannot_be_simulated_under_dual_control(config: Config) -> None:
    assert found(config, "issuers").state == OK
    controlled = replace(config, hsm=replace(config.hsm, dual_control=True))
    finding = found(controlled, "issuers")
    assert (finding.state, finding.mend) == (WARNING, "cardswitch up --no-issuers")
    assert "alpha: its keys are in no file" in finding.detail and "beta: " in finding.detail


def test_an_issuer_s_key_of_another_party(config: Config) -> None:
    keys = tuple(replace(key, party="gamma") if key.name == "zpk-beta" else key for key in config.key)
    links = tuple(replace(link, mac_key="zpk-alpha") if link.name == "beta" else link for link in config.issuer)
    finding = found(replace(config, key=keys, issuer=links), "issuers")
    assert finding.state == WARNING and "there is no [[key]] zpk-beta of party alpha" in finding.detail


def test_data_of_another_postgresql(config: Config) -> None:
    data = config.state_path / "postgresql" / "server" / "data"
    data.mkdir(parents=True)
    (config.state_path / "postgresql" / "place.json").write_text(
        msgspec.json.encode({"root": str(data.parent)}).decode()
    )
    (data / "PG_VERSION").write_text("15\n")
    finding = doctor._postgresql(config.state_path)
    assert finding.state == MISSING and "was made by PostgreSQL 15, the embedded server is 18" in finding.detail
    (data / "PG_VERSION").write_text("18\n")
    assert doctor._postgresql(config.state_path).state == OK


def test_a_machine_with_a_gateway_alone_is_asked_for_what_it_needs(config: Config) -> None:
    remote = RemoteSwitch(address="10.0.0.1:5010")
    alone = replace(
        config, hsm=replace(config.hsm, vault=False), gateway=replace(config.gateway, switch=remote), issuer=()
    )
    names = {one.check for one in start_findings(alone, running=False)}
    assert {"gateway sealing keys", "gateway tokenizer_ca", "hsm lock"} <= names
    assert not {"issuers", "tokenizer certificate"} & names
    assert found(alone, "tokenizer secret").state == MISSING and found(config, "tokenizer secret").state == OK
    (alone.state_path).mkdir()
    (alone.state_path / "tokenizer.secret").write_text("secret")
    assert found(alone, "tokenizer secret").state == OK


def test_a_switch_whose_gateway_is_elsewhere_needs_none_of_its_files(config: Config) -> None:
    links = tuple(replace(link, listen="127.0.0.1:5020") if link.surrogate else link for link in config.acquirer)
    names = {one.check for one in start_findings(replace(config, acquirer=links), running=False)}
    assert not {"gateway sealing keys", "gateway tokenizer_ca", "tokenizer secret"} & names
    assert {"issuers", "tokenizer certificate"} <= names


def test_a_check_that_fails_is_a_finding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Config) -> str:
        raise OSError("broken")

    monkeypatch.setattr("console.supervisor.long_socket", broken)
    finding = found(config, "socket paths")
    assert finding.state == WARNING and "could not be checked: OSError: broken" in finding.detail


def test_the_page_lists_every_check(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = page.partition("### Before a start\n")[2].partition("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])}
    others = set(re.findall(r"`([^`]+)`", section.rpartition("stop nothing: ")[2].partition(".\n")[0]))
    run_doctor(Path(config.source), config.state_path, as_json=True)
    made = {one["check"] for one in msgspec.json.decode(capsys.readouterr().out)["checks"]}
    assert (listed - {"hsm key NAME"}) | others == made
