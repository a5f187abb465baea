"""Acquirers under TLS: they dial, they listen, and they look at whom they talk to."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.acquirer.scenario import acquirer_scenario_from
from simulators.errors import ScenarioError, WireLost
from simulators.testing import start_acquirer, start_issuer
from tests.switch.links.certificates import Certificate, Forge

PAN = "4242424242424242"
ISSUER = {"name": "alpha", "default": {"balance_minor": 10_000}}


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def tls(own: Certificate, peer: Certificate, **more: str) -> dict[str, str]:
    return {"certificate": own.certificate, "private_key": own.private_key, "ca": peer.certificate, **more}


def test_it_dials_with_its_certificate(forge: Forge) -> None:
    ours, theirs = forge.make("acquirer"), forge.make("issuer")
    with (
        start_issuer(ISSUER, tls=tls(theirs, ours)) as issuer,
        start_acquirer(dial=issuer.address, tls=tls(ours, theirs), connections=2) as acquirer,
    ):
        assert acquirer.purchase(PAN, 100).response_code == "00"
        assert acquirer.run(count=30, rate=0.0, concurrency=4).unsettled == 0


def test_it_listens_with_its_certificate(forge: Forge) -> None:
    ours, theirs = forge.make("acquirer"), forge.make("issuer")
    with (
        start_acquirer(listen="127.0.0.1:0", tls=tls(ours, theirs)) as acquirer,
        start_issuer(ISSUER, dial=f"127.0.0.1:{acquirer.port}", tls=tls(theirs, ours)),
    ):
        acquirer.wait_connected()
        assert acquirer.purchase(PAN, 100).response_code == "00"


def test_a_stranger_gets_nothing(forge: Forge) -> None:
    ours, theirs, stranger = forge.make("acquirer"), forge.make("issuer"), forge.make("stranger")
    with (
        start_issuer(ISSUER, tls=tls(stranger, ours)) as issuer,
        pytest.raises(WireLost),
        start_acquirer(dial=issuer.address, tls=tls(ours, theirs), timeout_s=0.3),
    ):
        pass


def test_files_that_cannot_be_used_are_said() -> None:
    with pytest.raises(ScenarioError, match="tls: No such file"):
        acquirer_scenario_from({"name": "pos", "tls": {"ca": "/nowhere.pem"}})
    with pytest.raises(ScenarioError, match="tls: a dialling end needs a ca"):
        acquirer_scenario_from({"name": "pos", "tls": {}})
