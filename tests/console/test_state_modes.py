"""Files of a state directory are for its owner alone, under any umask; others are found."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.config import load_config, write_effective
from console.doctor import WARNING, _state_modes
from console.postgresql import role_passwords
from console.private_files import open_private, private_directory, write_private
from console.state_modes import Wrong, wrong_modes
from simulators.book import write_book
from simulators.control import _bound as simulator_socket
from switch.control import _bound as worker_socket


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


WRITERS: dict[str, Callable[[Path], object]] = {
    "configuration": lambda state: write_effective(load_config(None), state / "run" / "config.json"),
    "passwords": lambda state: role_passwords(state),
    "book": lambda state: write_book(state / "books" / "pos.jsonl", []),
    "simulator's socket": lambda state: simulator_socket(state / "run" / "alpha.sock").close(),
    "worker's socket": lambda state: worker_socket(private_directory(state / "run") / "w.sock").close(),
    "log": lambda state: os.close(open_private(private_directory(state / "log") / "x.err", os.O_APPEND)),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_files_have_their_modes_whatever_the_umask(tmp_path: Path, umask: int, write: Callable[[Path], object]) -> None:
    state = private_directory(tmp_path / "state")
    write(state)
    assert len(list(state.rglob("*"))) >= 1
    assert wrong_modes(state) == []


def test_a_file_that_was_open_to_others_is_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("before")
    path.chmod(0o666)
    write_private(path, b"after")
    assert path.read_bytes() == b"after" and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    os.close(open_private(path, os.O_APPEND))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "mode"), [("run", 0o755), ("keys.json", 0o640), ("log/x.err", 0o644), ("hsm", 0o750), ("lock", 0o666)]
)
def test_doctor_names_what_others_may_read(tmp_path: Path, name: str, mode: int) -> None:
    state = private_directory(tmp_path / "state")
    for directory in ("run", "hsm", "log"):
        private_directory(state / directory)
    path = state / name
    if not path.is_dir():
        os.close(open_private(path))
    assert wrong_modes(state) == []
    path.chmod(mode)
    assert wrong_modes(state) == [Wrong(name, mode)]
    finding = _state_modes(state)
    assert finding.state == WARNING and name in finding.detail and "chmod" in finding.mend
