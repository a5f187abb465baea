"""Every fuzz target for about a second; `python -m tests.fuzz NAME --seconds N` runs one for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.driver import CORPUS, Target, fuzz
from tests.fuzz.targets import TARGETS

_SECONDS = 1.0


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_only_documented_errors_come_out(target: Target) -> None:
    outcomes = fuzz(target, _SECONDS)
    assert len(outcomes) > 3, "the inputs never got far"


def test_every_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {target.name for target in TARGETS}


def test_the_command_runs_what_it_is_told() -> None:
    arguments = [sys.executable, "-m", "tests.fuzz", "framing", "--seconds", "0", "--seed", "7"]
    done = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("framing, seed 7: ")
