"""A system whose only issuer link leads to a simulated network: two issuers behind it, faults, one book, one proof."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console.config import Config, load_config
from console.supervisor import System, config_file
from tests.e2e.conftest import quick
from tests.e2e.shop import cardswitch
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e-network")

SCENARIO = """
name = "alpha"
seed = 11
[[fault]]
kind = "silence"
rate = 0.05
[[fault]]
kind = "duplicate"
rate = 0.05
[[fault]]
kind = "wrong-stan"
rate = 0.03
[[issuer]]
name = "north"
prefixes = ["4"]
default = { balance_minor = 100_000_000 }
[[issuer]]
name = "south"
prefixes = ["5"]
default = { balance_minor = 100_000_000 }
[[issuer.fault]]
kind = "late"
delay_s = 1.5
rate = 0.05
"""


def configured() -> Config:
    """The packaged configuration with one issuer link, on a port that is free now."""
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    [alpha] = [msgspec.structs.replace(link, address=address) for link in config.issuer if link.name == "alpha"]
    routes = tuple(msgspec.structs.replace(route, issuer="alpha") for route in config.route)
    keys = tuple(key for key in config.key if key.party != "beta")
    return msgspec.structs.replace(config, issuer=(alpha,), route=routes, key=keys)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    state = new_state("network")
    try:
        with System.start(configured(), state, ports="free", issuers=False, longest_pause_s=0.5) as running:
            yield running
    finally:
        shutil.rmtree(state, ignore_errors=True)


def told(system: System, *arguments: str) -> Any:
    done = cardswitch(*arguments, config=config_file(system.config.state_path))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else [json.loads(line) for line in done.stdout.splitlines()]


def test_payments_of_two_issuers_behind_one_link_agree_to_the_cent(system: System, tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_text(SCENARIO)
    command = [sys.executable, "-m", "console.cli", "sim", "network", "alpha", "--scenario", str(file)]
    command += ["--config", str(config_file(system.config.state_path))]
    with (tmp_path / "network.log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as network:
        try:
            until = time.monotonic() + 20
            while not signed_on(system):
                assert time.monotonic() < until, (tmp_path / "network.log").read_text()
                time.sleep(0.2)
            report = told(system, "sim", "acquirer", "pos", "--count", "80", "--rate", "0", "--seed", "5", "--json")
            assert (report["unanswered"], report["unsettled"]) == (0, 0)
            assert report["total"]["approved"] > 40
            assert told(system, "prove", "--wait", "30", "--json")["differences"] == []

            lines = told(system, "sim", "book", "alpha")
            assert {line["member"] for line in lines if line["posted_minor"]} == {"north", "south"}
            totals = told(system, "sim", "book", "alpha", "--totals")
            assert {line["issuer"] for line in totals} == {"north", "south"}
            posted = sum(line["posted_minor"] for line in lines)
            assert sum(line["net_minor"] for line in totals) == posted
            [stats] = told(system, "sim", "ask", "alpha", "stats")
            assert {name for name in stats["counts"] if name.startswith("fault")} >= {
                "fault silence",
                "fault duplicate",
            }
        finally:
            network.send_signal(signal.SIGTERM)
            network.wait(10)
    assert told(system, "sim", "book", "alpha") == lines  # amount left


def signed_on(system: System) -> bool:
    done = cardswitch("sim", "ask", "alpha", "stats", config=config_file(system.config.state_path))
    return done.returncode == 0 and json.loads(done.stdout)["signed_on"] is True
