"""A whole state directory, made by a system that was started under an umask of somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.state_modes import wrong_modes
from tests.e2e.test_up import up

pytestmark = pytest.mark.xdist_group("e2e")


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_a_state_directory_has_its_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    state = tmp_path / "s"
    before = os.umask(umask)
    try:
        with up(state, tmp_path) as running:
            running.wait_for("Ctrl-C", 120)
            assert {"log", "run", "hsm", "postgresql", "exchange"} <= {path.name for path in state.iterdir()}
            assert wrong_modes(state) == []
    finally:
        os.umask(before)
    assert wrong_modes(state) == []
