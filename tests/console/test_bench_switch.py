"""The bench's JSON has exactly the keys that its readers expect."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import specs
from console.bench.switch import GROUPS, BenchResult, _result, quiet
from console.config import load_config
from simulators.load import LoadResult

LOAD = LoadResult(
    seconds=1.0, sent=10, answered=10, unanswered=0, settled=0, unsettled=0, answers={"00": 10}, per_s=100.0,
    p50_ms=1.0, p99_ms=2.0, max_ms=3.0, cpu_s=0.5, wrong_macs=0, reconnects=0, lines=10,
)  # fmt: skip


def test_the_keys_and_the_ratio() -> None:
    config = load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"))
    relay = msgspec.structs.replace(LOAD, per_s=1_000.0)
    result = _result(config, LOAD, relay, {"switch": 1.0, "hsm": 0.5, "gateway": 9.0}, 0)
    assert list(msgspec.to_builtins(result)) == [
        "authorizations_per_s",
        "p50_ms",
        "p99_ms",
        "relay_per_s",
        "relay_ratio",
        "cpu_s",
        "workers",
        "prove_differences",
    ]
    assert isinstance(result, BenchResult)
    assert result.relay_ratio == pytest.approx(0.1)
    assert list(result.cpu_s) == list(GROUPS)
    assert result.cpu_s["load"] == 0.5


def test_the_load_is_not_declined_by_velocity_rules() -> None:
    config = quiet(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    assert all(rule.count_1h_over is None for rule in config.fraud)
    assert config.switch.payment_log
