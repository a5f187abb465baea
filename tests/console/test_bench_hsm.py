"""`cardswitch bench hsm`: its output, on commands that take little time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("bench")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli", "bench", "hsm", "--seconds", "0.2", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )


def test_json() -> None:
    only = ("dispatch", "verify_cryptogram", "tokenize", "resolve")
    done = bench("--json", *(argument for name in only for argument in ("--only", name)))
    assert done.returncode == 0, done.stderr
    figures = {figure["command"]: figure for figure in json.loads(done.stdout)["commands"]}
    assert tuple(figures) == only
    for figure in figures.values():
        assert figure["per_s"] > 0 and 0 < figure["p50_us"] <= figure["p99_us"]
    for name in only[:3]:
        figure = figures[name]
        assert figure["bare_per_s"] > 0 and figure["direct_per_s"] > 0
        assert figure["ratio"] == pytest.approx(figure["per_s"] / figure["bare_per_s"], abs=0.01)
    # A number, a block from one key to another, a MAC; three derived keys and what is done with them.
    assert figures["dispatch"]["calls"] == 4 and figures["verify_cryptogram"]["calls"] > 4
    assert figures["resolve"]["bare_per_s"] is figures["resolve"]["ratio"] is None


def test_a_command_that_it_does_not_know() -> None:
    done = bench("--only", "nonsense")
    assert done.returncode == 2 and "there is no command 'nonsense'; use one of dispatch," in done.stderr
