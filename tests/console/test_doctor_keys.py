"""Doctor names each configured key that the HSM would not start with, who has to act, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.doctor import MISSING, OK, Finding
from console.doctor_command import run_doctor
from console.doctor_keys import NAME, key_findings
from hsm.config import HsmConfig, KeyConfig
from hsm.errors import ConfigurationError
from hsm.key_commands import ActivateKey, GenerateKey, ImportComponents
from hsm.keys.configured import key_faults
from hsm.keys.control import Control, WaitingProposal
from hsm.keys.provisioning import provision
from hsm.keys.records import FORMAT, KeyFile, KeyRecord
from hsm.keys.roles import attributes_for
from hsm.officer_commands import EnteredComponent, OfficerCard, Proposal

NOW = 1_800_000_000
PIN = KeyConfig("zpk-north", "pin", "north")
MAC = KeyConfig("zak-north", "mac", "north", "HMAC-SHA-256")
ZMK = KeyConfig("zmk-north", "zmk", "north")
OFFICERS = tuple(OfficerCard(name=name, public_key="", signature="") for name in ("alice", "bob", "carol"))
ENFORCED = Control(store="0" * 32, officers=OFFICERS)


def record(key: KeyConfig, version: int = 1, status: str = "active", **more: Any) -> KeyRecord:
    return KeyRecord(
        name=key.name, version=version, role=key.usage, attributes=attributes_for(key.usage, key.algorithm),
        status=status, kcv="ABCDEF", party=key.party, **more,
    )  # fmt: skip


def proposal(request: Any, *entered: str, expires_at: int = NOW + 60) -> WaitingProposal:
    components = tuple(EnteredComponent(officer=name, check_value="ABCDEF") for name in entered)
    return WaitingProposal(
        proposal=Proposal(
            id="85d0c7a2e914", request=request, proposer="alice", nonce="", made_at=NOW - 60, expires_at=expires_at,
            entered=components,
        )
    )  # fmt: skip


def found(
    state: Path, *keys: KeyConfig, records: tuple[KeyRecord, ...] = (), control: Control = ENFORCED, **config: Any
) -> dict[str, Finding]:
    (state / "hsm").mkdir(exist_ok=True)
    (state / "hsm" / "keys.json").write_bytes(msgspec.json.encode(KeyFile(FORMAT, {}, list(records), control)))
    return {one.check: one for one in key_findings(HsmConfig(keys=keys, **config), state, NOW)}


def test_a_missing_key_is_named_with_its_command(tmp_path: Path) -> None:
    findings = found(tmp_path, PIN, MAC, records=(record(PIN),))
    assert set(findings) == {"hsm key zak-north", NAME}
    missing = findings["hsm key zak-north"]
    assert missing.state == MISSING and "has no version in force" in missing.detail
    command = "cardswitch hsm key generate zak-north --role mac --party north --algorithm HMAC-SHA-256"
    assert missing.mend.startswith(f"{command} (one person alone), or cardswitch hsm key import --as OFFICER.key")
    assert findings[NAME].state == MISSING and "zak-north; officers: alice, bob, carol" in findings[NAME].detail


def test_all_is_well_with_every_key_in_force(tmp_path: Path) -> None:
    findings = found(tmp_path, PIN, MAC, records=(record(PIN), record(PIN, 2, "pending"), record(MAC)))
    assert findings == {NAME: Finding(NAME, OK, "2 of 2 configured keys are in force; pending: zpk-north/2")}


def test_a_pending_key_is_put_in_force_by_two_officers(tmp_path: Path) -> None:
    pending = found(tmp_path, PIN, records=(record(PIN, 1, "retired"), record(PIN, 2, "pending")))["hsm key zpk-north"]
    assert pending.state == MISSING and "version 2 is pending" in pending.detail
    assert pending.mend == (
        "cardswitch hsm key activate zpk-north --version 2 --as OFFICER.key, and another officer: "
        "cardswitch hsm approve ID --as OFFICER.key"
    )


def test_a_key_whose_versions_are_all_over_is_imported_not_generated(tmp_path: Path) -> None:
    over = found(tmp_path, PIN, records=(record(PIN, 3, "retired"),))["hsm key zpk-north"]
    assert "version 3 is retired" in over.detail and "generate" not in over.mend  # that is refused: key_exists
    command = "cardswitch hsm key import zpk-north --role pin --party north --under zmk-north --block-file FILE --as"
    assert over.mend.startswith(command)


@pytest.mark.parametrize(
    ("request_", "entered", "waits"),
    [
        (ActivateKey(name="zmk-north", version=1), (), "waits for approval of bob or carol"),
        (GenerateKey(name="zmk-north", role="zmk", party="north"), (), "waits for approval of bob or carol"),
        (
            ImportComponents(name="zmk-north", role="zmk", party="north", count=2),
            ("alice",),
            "waits for one more component of bob or carol",
        ),
        (
            ImportComponents(name="zmk-north", role="zmk", party="north", count=3),
            ("alice",),
            "waits for 2 more components of bob or carol",
        ),
        (
            ImportComponents(name="zmk-north", role="zmk", party="north", count=3),
            ("alice", "bob"),
            "waits for one more component of carol",
        ),
    ],
)
def test_a_proposal_that_waits_is_named_with_those_who_may_approve(
    tmp_path: Path, request_: Any, entered: tuple[str, ...], waits: str
) -> None:
    control = msgspec.structs.replace(ENFORCED, waiting=(proposal(request_, *entered),))
    waiting = found(tmp_path, ZMK, control=control)["hsm key zmk-north"]
    assert waiting.state == MISSING and waits in waiting.detail and "by alice" in waiting.detail
    assert waiting.mend == "cardswitch hsm approve 85d0c7a2e914 --as OFFICER.key"


def test_a_proposal_that_has_expired_waits_for_nobody(tmp_path: Path) -> None:
    request = GenerateKey(name="zmk-north", role="zmk", party="north")
    control = msgspec.structs.replace(ENFORCED, waiting=(proposal(request, expires_at=NOW),))
    missing = found(tmp_path, ZMK, control=control)["hsm key zmk-north"]
    assert "proposal" not in missing.detail
    assert missing.mend.startswith("cardswitch hsm key generate zmk-north --role zmk --party north --as OFFICER.key")
    assert "cardswitch hsm approve" in missing.mend


def test_before_there_are_officers_they_come_first(tmp_path: Path) -> None:
    findings = found(tmp_path, ZMK, control=Control())
    register = "cardswitch hsm init --officer A.card --officer B.card"
    assert findings["hsm key zmk-north"].mend.startswith(f"{register}; then cardswitch hsm key generate zmk-north")
    assert f"no officers are registered: {register}" in findings[NAME].detail


def test_before_the_first_start_all_keys_are_missing_under_dual_control(tmp_path: Path) -> None:
    findings = key_findings(HsmConfig(keys=(PIN, MAC)), tmp_path, NOW)
    assert [one.check for one in findings] == ["hsm key zpk-north", "hsm key zak-north", NAME]
    assert all(one.state == MISSING for one in findings) and not list(tmp_path.iterdir())
    (made,) = key_findings(HsmConfig(keys=(PIN, MAC), dual_control=False), tmp_path, NOW)
    assert made.state == OK and "the others are made at the next start" in made.detail


def test_a_test_system_that_makes_no_keys_names_no_officers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"control": Control(), "dual_control": False, "provision": False}
    missing = found(tmp_path, PIN, **options)["hsm key zpk-north"]
    assert missing.mend == (
        "cardswitch hsm key generate zpk-north --role pin --party north, or cardswitch hsm key import"
    )


def test_a_key_that_was_made_for_something_else(tmp_path: Path) -> None:
    other = record(msgspec.structs.replace(PIN, party="south"))
    findings = found(tmp_path, PIN, MAC, records=(other, record(KeyConfig("zak-north", "mac", "north"))))
    assert "made for pin with south, the configuration says pin with north" in findings["hsm key zpk-north"].detail
    assert "the configuration says HMAC-SHA-256" in findings["hsm key zak-north"].detail
    assert findings["hsm key zpk-north"].mend == "give the new key a new name"


@given(st.sets(st.integers(1, 40), max_size=40))
def test_the_list_is_never_cut(tmp_path_factory: pytest.TempPathFactory, gone: set[int]) -> None:
    keys = [KeyConfig(f"zpk-{number}", "pin", f"party-{number}") for number in range(1, 41)]
    records = tuple(record(key) for number, key in enumerate(keys, 1) if number not in gone)
    findings = found(tmp_path_factory.mktemp("doctor"), *keys, records=records)
    assert set(findings) == {NAME, *(f"hsm key zpk-{number}" for number in gone)}
    assert all(f"zpk-{number}" in findings[NAME].detail.replace(";", ",").split(": ")[1].split(", ") for number in gone)


def test_it_sees_exactly_what_the_start_refuses(tmp_path: Path) -> None:
    """The same keys, by name and text, as the HSM's own refusal."""
    stored = {PIN.name: [record(PIN, 1, "pending")], ZMK.name: [record(msgspec.structs.replace(ZMK, party="south"))]}
    configured = (PIN, MAC, ZMK)

    class Store:
        def versions(self, name: str) -> list[KeyRecord]:
            return stored.get(name, [])

    store: Any = Store()
    with pytest.raises(ConfigurationError) as refused:
        provision(store, configured, tmp_path, make=False)
    faults = key_faults(configured, store.versions, make=False)
    assert [fault.key.name for fault in faults] == ["zpk-north", "zak-north", "zmk-north"]
    assert all(f"key {fault.key.name} {fault.what}: {fault.fix}" in str(refused.value) for fault in faults)


def test_a_zone_master_key_that_is_not_the_one_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "exchange").mkdir()
    (tmp_path / "exchange" / "north.zmk").write_text("AB" * 32)
    options: dict[str, Any] = {"control": Control(), "dual_control": False}
    findings = found(tmp_path, PIN, records=(record(PIN), record(ZMK)), **options)
    assert findings["hsm key zmk-north"].state == MISSING and "has ABCDEF" in findings["hsm key zmk-north"].detail
    (tmp_path / "exchange" / "north.zmk").write_text("no key")
    assert "64 hexadecimal" in found(tmp_path, PIN, records=(record(PIN), record(ZMK)), **options)[
        "hsm key zmk-north"
    ].detail  # fmt: skip


def test_a_key_file_that_is_damaged_or_gone(tmp_path: Path) -> None:
    found(tmp_path, PIN, records=(record(PIN),))
    file = tmp_path / "hsm" / "keys.json"
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    (damaged,) = key_findings(HsmConfig(keys=(PIN,)), tmp_path, NOW)
    assert damaged.state == MISSING and "not a key file" in damaged.detail
    assert damaged.mend.startswith("cardswitch hsm restore")
    copy = tmp_path / "hsm" / "backup" / "000001"
    copy.mkdir(parents=True)
    (copy / "manifest.json").write_text('{"made_at":0,"files":{"keys.json":""}}')
    file.unlink()
    (gone,) = key_findings(HsmConfig(keys=(PIN,)), tmp_path, NOW)
    assert (gone.state, gone.mend) == (MISSING, "cardswitch hsm restore") and "is missing" in gone.detail


def test_the_command_ends_with_status_1_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = (Path(__file__).parents[2] / "specs" / "cardswitch.toml").read_text()
    file = tmp_path / "own.toml"
    file.write_text("\n".join(line for line in sample.splitlines() if not line.startswith("dual_control")))
    assert run_doctor(file, tmp_path / "state", as_json=True) == 1
    checks = {one["check"]: one for one in msgspec.json.decode(capsys.readouterr().out)["checks"]}
    assert {f"hsm key {name}" for name in ("zpk-pos", "zak-pos", "zpk-alpha", "zpk-beta")} <= set(checks)
    assert run_doctor(file, tmp_path / "state", as_json=False) == 1
    shown = capsys.readouterr().out
    assert "zpk-beta" in shown and "Ready" not in shown
