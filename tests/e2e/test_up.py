"""`cardswitch up` as an operator sees it: one command starts all, says who died, and stops all, however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import specs
from tests.e2e.test_demo import children_of

pytestmark = pytest.mark.xdist_group("e2e")

ROOT = Path(__file__).parents[2]


class Up:
    """A running `cardswitch up` and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    def text(self) -> str:
        return self._output.read_text()

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> re.Match[str]:
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.text())) is None:
            assert time.monotonic() < deadline, f"no {pattern!r} in\n{self.text()}"
            assert self.process.poll() is None or re.search(pattern, self.text()), self.text()
            time.sleep(0.05)
        return found


@contextmanager
def up(state: Path, tmp_path: Path, *arguments: str) -> Iterator[Up]:
    output = tmp_path / "up.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli", "up", "--free-ports", "--state", str(state), *arguments],
            stdout=stream,
            stderr=stream,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Up(process, output)
    finally:
        process.kill()
        process.wait()


def wait_gone(state: Path, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while left := children_of(state):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.fixture
def up_state(state_directory: Path) -> Path:
    return state_directory / "up"


def test_a_dead_worker_is_replaced_and_it_is_said_then_ctrl_c_stops_all(up_state: Path, tmp_path: Path) -> None:
    with up(up_state, tmp_path) as running:
        running.wait_for("cardswitch is running")
        pid = int(running.wait_for(r"ready\s+switch-1\s+pid (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        running.wait_for(r"died\s+switch-1\s+killed by SIGKILL; starting it again")
        running.wait_for(r"died(.|\n)*ready\s+switch-1")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        assert "stopped" in running.text()
    assert children_of(up_state) == []


def test_nothing_outlives_a_killed_supervisor_and_the_next_start_works(up_state: Path, tmp_path: Path) -> None:
    with up(up_state, tmp_path) as running:
        running.wait_for("cardswitch is running")
        running.process.kill()
        running.process.wait()
        wait_gone(up_state)
    with up(up_state, tmp_path) as running:
        running.wait_for("cardswitch is running")
        running.process.terminate()
        assert running.process.wait(30) == 0
    assert children_of(up_state) == []


def test_ctrl_c_while_starting_leaves_nothing(up_state: Path, tmp_path: Path) -> None:
    with up(up_state, tmp_path) as running:
        running.wait_for(r"ready\s+postgresql")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 130
    assert children_of(up_state) == []


def test_it_starts_while_the_issuers_of_others_are_away(up_state: Path, tmp_path: Path) -> None:
    with up(up_state, tmp_path, "--no-issuers") as running:
        running.wait_for("cardswitch is running", timeout_s=30.0)  # and not only after the time-out of the links
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0


def test_a_busy_port_is_named_with_its_setting(tmp_path: Path) -> None:
    config = tmp_path / "busy.toml"
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config.write_text(text.replace('listen = "127.0.0.1:5010"', f'listen = "127.0.0.1:{port}"'))
        done = subprocess.run(
            [sys.executable, "-m", "console.cli", "up", "--config", str(config), "--state", str(tmp_path / "s")],
            capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"127.0.0.1:{port} (acquirer[pos].listen)" in done.stderr
    assert "--free-ports" in done.stderr
