"""Links that prove nothing about their peer are listed: at the start of a worker, by `up` and by `doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from console.config import load_config
from console.doctor import OK, WARNING
from console.doctor_command import run_doctor
from console.doctor_links import link_finding, unproved_links
from tests.console.test_config import GOOD
from tests.simulation.world import World, play


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cardswitch.toml"
    file.write_text(text)
    return file


def test_links_without_proof_are_listed_with_what_mends_it(tmp_path: Path) -> None:
    config = load_config(_file(tmp_path, GOOD))
    assert unproved_links(config) == ["acquirer pos", "issuer alpha"]
    finding = link_finding(config)
    assert (finding.state, finding.mend.startswith("give them a mac_key")) == (WARNING, True)
    assert "acquirer pos, issuer alpha" in finding.detail and "gateway" not in finding.detail


def test_links_with_a_mac_or_a_unix_socket_are_well(tmp_path: Path) -> None:
    text = GOOD.replace('pin_key = "zpk-pos"', 'mac_key = "zak-pos"')
    text = text.replace('"127.0.0.1:6001"', '"unix:alpha.sock"').replace("zpk-pos", "zak-pos").replace('"pin"', '"mac"')
    finding = link_finding(load_config(_file(tmp_path, text)))
    assert (finding.state, finding.detail) == (OK, "3 of 3 prove who their peer is")


def test_doctor_lists_them_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_doctor(_file(tmp_path, GOOD), tmp_path / "state", as_json=True)
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["links"]["state"] == WARNING and "issuer alpha" in checks["links"]["detail"]


def test_a_worker_warns_once_of_each_link_without_proof() -> None:
    """All links of the simulated world but the gateway's have MACs; only the first worker says so."""

    async def script(world: World) -> None:
        await world.open(workers=2)

    with capture_logs() as logs:
        play(script)
    warned = [entry["link"] for entry in logs if entry["event"] == "link_without_proof_of_identity"]
    assert warned == ["gateway"]
