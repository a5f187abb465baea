"""A measurement leaves nothing behind: its state directory and the data of its server are gone, after any end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import specs
from console.bench.children import output_of, started
from console.bench.state import bench_state, migrated_server
from console.bench.system import quiet, terminal_lane
from console.config import load_config
from console.database_roles import LEDGER
from console.embedded import server_data
from console.errors import ConsoleError
from tests.console.test_postgresql import query


def test_a_state_and_its_server_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data: Path | None = None
    with pytest.raises(RuntimeError), bench_state() as state, migrated_server(state) as server:
        assert state.parent == tmp_path
        data = server_data(state)
        assert query(server.dsn(LEDGER), "SELECT count(*) FROM ledger.intents") == 0
        raise RuntimeError("the measurement failed")
    assert not state.exists()
    assert data is not None and not data.exists()


def test_the_lane_of_terminals_is_that_of_the_link_with_card_numbers(tmp_path: Path) -> None:
    config = quiet(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), tmp_path))
    lane = terminal_lane(config)
    assert (lane.link, lane.address, lane.party) == ("pos", "127.0.0.1:5010", "pos")
    assert (lane.pin_key, lane.mac_key) == ("zpk-pos", "zak-pos")


def test_a_process_that_fails_is_quoted() -> None:
    reason = r"the load generator failed: .*No such file"
    with (
        started("simulators.load", "/no/such/file", errors=subprocess.PIPE) as process,
        pytest.raises(ConsoleError, match=reason),
    ):
        output_of(process, "the load generator")
