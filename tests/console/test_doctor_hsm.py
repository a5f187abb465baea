"""Doctor's findings about the HSM: each fault of its files is named, with the command that mends it."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path

import msgspec
import pytest

from console import cli
from console.doctor import MISSING, OK, WARNING, Finding
from console.doctor_hsm import hsm_findings
from hsm.config import HsmConfig
from hsm.keys.token import PIN_VARIABLE

SOFTHSM = HsmConfig(dual_control=False)


def found(state: Path, config: HsmConfig = SOFTHSM) -> dict[str, Finding]:
    return {finding.check: finding for finding in hsm_findings(config, state)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a token."""
    state = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsm.process.forbid_dumps", lambda: None)
        assert cli.run(["hsm", "init", "--state", str(state), "--json"]) == 0
    return state


def test_nothing_is_missing_before_the_first_start(tmp_path: Path) -> None:
    assert all(finding.state == OK for finding in found(tmp_path).values())
    assert not list(tmp_path.iterdir())


def test_all_is_well_after_it(made: Path) -> None:
    findings = found(made)
    off = findings.pop("hsm dual control")
    assert off.state == WARNING and "one person alone" in off.detail
    assert all(finding.state == OK for finding in findings.values()), findings
    assert "private SoftHSM token" in findings["hsm token"].detail
    assert "the newest" in findings["hsm backup"].detail


@pytest.mark.parametrize("name", ["hsm", "exchange", "hsm/keys.json", "hsm/pins.json", "exchange/pos.zmk"])
def test_files_that_others_may_read(made: Path, name: str) -> None:
    path = made / name
    mode = path.stat().st_mode
    path.chmod(mode | 0o040)
    try:
        finding = found(made)["hsm files"]
        assert finding.state == WARNING and str(path) in finding.detail and "chmod" in finding.mend
    finally:
        path.chmod(mode)
    assert found(made)["hsm files"].state == OK


def test_a_token_without_its_files(made: Path) -> None:
    tokens = made / "hsm" / "tokens"
    aside = tokens.rename(made / "tokens-aside")
    try:
        finding = found(made)["hsm token"]
        assert finding.state == MISSING and finding.mend == "cardswitch hsm restore"
    finally:
        aside.rename(tokens)


def test_copies_that_are_gone_or_damaged(made: Path) -> None:
    folder = made / "hsm" / "backup"
    aside = folder.rename(made / "backup-aside")
    assert found(made)["hsm backup"].state == WARNING
    aside.rename(folder)
    (copy, *_) = sorted(folder.glob("0*/keys.json"))
    content = copy.read_bytes()
    copy.write_bytes(content[:-1])
    assert "1 damaged" in found(made)["hsm backup"].detail
    copy.write_bytes(content)


def test_the_module(tmp_path: Path) -> None:
    absent = found(tmp_path, HsmConfig(module=str(tmp_path / "absent.so")))["hsm module"]
    assert absent.state == MISSING
    text = tmp_path / "text.so"
    text.write_text("no library")
    assert "cannot be loaded" in found(tmp_path, HsmConfig(module=str(text)))["hsm module"].detail


@pytest.mark.skipif(find_library("c") is None, reason="no C library is found by name")
def test_a_library_of_something_else(tmp_path: Path) -> None:
    for path in Path("/lib").glob(f"*-linux-gnu/{find_library('c')}"):
        assert "is no PKCS#11 library" in found(tmp_path, HsmConfig(module=str(path)))["hsm module"].detail


def test_where_the_pin_of_another_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PIN_VARIABLE, raising=False)
    config = HsmConfig(module=SOFTHSM.module_path(), pin_file=str(tmp_path / "pin"))
    finding = found(tmp_path, config)["hsm pin"]
    assert finding.state == MISSING and str(tmp_path / "pin") in finding.detail
    (tmp_path / "pin").write_text("123456\n")
    (tmp_path / "pin").chmod(0o644)
    finding = found(tmp_path, config)["hsm pin"]
    assert finding.state == WARNING and finding.mend.startswith("chmod 600") and "123456" not in finding.detail
    (tmp_path / "pin").chmod(0o600)
    assert found(tmp_path, config)["hsm pin"].state == OK
    monkeypatch.setenv(PIN_VARIABLE, "123456")
    finding = found(tmp_path, msgspec.structs.replace(config, pin_file=""))["hsm pin"]
    assert finding.state == OK and PIN_VARIABLE in finding.detail and "123456" not in finding.detail


def test_a_check_that_fails_is_a_finding(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise OSError("broken")

    monkeypatch.setattr("hsm.keys.backup.list_backups", broken)
    finding = found(made)["hsm backup"]
    assert finding.state == WARNING and "could not be checked" in finding.detail
