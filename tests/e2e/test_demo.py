"""`cardswitch demo --once` from nothing: each step is shown, the books agree, no process and no card number is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.process_table import working_in

pytestmark = pytest.mark.xdist_group("e2e")

ROOT = Path(__file__).parents[2]
PANS = ("4242424242424242", "5555555555554444", "4000000000009995")


@pytest.fixture
def demo_state(state_directory: Path) -> Path:
    return state_directory / "demo"


def demo(state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli", "demo", "--once", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def children_of(state: Path) -> list[str]:
    """Command lines that still name the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(state) in command:
                found.append(command)
    return found


def test_the_demo_shows_every_step_and_the_books_agree_twice(demo_state: Path) -> None:
    for _ in range(2):  # the second time on what the first has left
        done = demo(demo_state)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "✗" not in done.stdout
        for line in (
            "A purchase with PIN at the till",
            "tokenize, authorize, capture",
            "A partial refund",
            "insufficient_funds",
            "the reversal 0420 was delivered and acknowledged",
            "charge.dispute.created",
            "trial balance",
            "ledger verify: whole",
            "issuers' books, ledger and acquirers' books agree to the cent",
        ):
            assert line in done.stdout, line
        assert not any(pan in done.stdout for pan in PANS)
        assert children_of(demo_state) == []
    assert working_in(demo_state / "postgresql" / "server" / "data") == []


def test_a_second_system_in_the_same_state_is_refused(system: object, state_directory: Path) -> None:
    done = demo(state_directory)
    assert done.returncode == 1
    assert "is in use by the cardswitch with pid" in done.stderr
    assert done.stderr.count("\n") == 1
