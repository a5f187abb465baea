"""`cardswitch link list` where workers are away; the sockets are stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import specs
from console.config import Config, load_config
from console.errors import ConsoleError
from console.link_commands import links
from switch.errors import ControlError


@pytest.fixture
def config() -> Config:
    return load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), workers=3)


def workers(monkeypatch: pytest.MonkeyPatch, config: Config, alive: set[int]) -> None:
    numbers = {config.worker_socket(number): number for number in range(config.switch.workers)}

    def ask(path: Path, command: str) -> list[dict[str, Any]]:
        if numbers[path] not in alive:
            raise ControlError("away", f"worker {numbers[path]} is away")
        return [{"worker": numbers[path]}]

    monkeypatch.setattr("switch.control.ask", ask)


@pytest.mark.parametrize("alive", [{0}, {1}, {2}, {0, 1, 2}])
def test_dead_workers_are_told_wherever_they_stand(
    alive: set[int], config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, alive)
    assert [row["worker"] for row in links(config)] == sorted(alive)
    told = [f"cardswitch: worker {number} is away" for number in range(3) if number not in alive]
    assert capsys.readouterr().err.splitlines() == told


def test_no_worker_at_all_is_one_error(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers(monkeypatch, config, set())
    with pytest.raises(ConsoleError, match=r"no worker of the switch answers: worker \d is away"):
        links(config)
    assert not capsys.readouterr().err
