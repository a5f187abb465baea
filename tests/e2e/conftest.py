"""One system of real processes for all end-to-end tests of a session, and a shop on it for each test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console.config import Config, load_config
from console.supervisor import System, config_file
from simulators.acquirer import Acquirer
from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop, cardswitch, new_acquirer, pos_address
from tests.e2e.terminal import terminal
from tests.state import new_state


def quick(config: Config) -> Config:
    """The packaged configuration with shorter waits, and a velocity limit that a session of tests does not reach."""
    replace = msgspec.structs.replace
    return replace(
        config,
        fraud=tuple(replace(rule, count_1h_over=100_000) if rule.count_1h_over else rule for rule in config.fraud),
        switch=replace(config.switch, recovery_grace_s=1.0),
        gateway=replace(config.gateway, webhook_backoff_s=0.2),
        issuer=tuple(
            replace(link, deadline_s=1.0, advice_timeout_s=0.5, reconnect_cap_s=0.5) for link in config.issuer
        ),
    )


@pytest.fixture(scope="session")
def state_directory() -> Iterator[Path]:
    state = new_state("e2e")
    yield state
    shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="session")
def system(state_directory: Path) -> Iterator[System]:
    """Everything that `cardswitch up` starts, on free ports; on failure look at `system.log_tail()`."""
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    with System.start(config, state_directory, ports="free", longest_pause_s=0.5) as running:
        yield running


@pytest.fixture(scope="session")
def acquirers(system: System) -> list[Acquirer]:
    """Every acquirer whose book counts; the first is the terminal's of `shop`."""
    return [new_acquirer(system, "10001", "TERM0001")]


@pytest.fixture
def shop(system: System, acquirers: list[Acquirer]) -> Iterator[Shop]:
    # A connection for each test: some tests kill the worker at its other end.
    with terminal(acquirers[0], pos_address(system)) as pos:
        one = Shop(system, pos, acquirers)
        one.fill_accounts()
        yield one


def create_key(system: System, *options: str) -> dict[str, Any]:
    """The output of `cardswitch gateway key create DEMOSHOP` for programs."""
    config = config_file(system.config.state_path)
    done = cardswitch("gateway", "key", "create", "DEMOSHOP", "--json", *options, config=config)
    assert done.returncode == 0, done.stderr
    created: dict[str, Any] = json.loads(done.stdout)
    return created


@pytest.fixture(scope="session")
def merchant(system: System) -> Iterator[Merchant]:
    """The merchant of the packaged configuration with keys that the operator has made for it."""
    secret, publishable = create_key(system), create_key(system, "--publishable")
    assert secret["key"].startswith("sk_test_") and secret["kind"] == "secret"
    assert publishable["key"].startswith("pk_test_") and publishable["account"] == secret["account"]
    one = Merchant(system, secret["key"], publishable["key"])
    yield one
    one.close()
