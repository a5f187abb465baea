"""`cardswitch gateway rotate-sealing-key` adds a key to the file of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.config import SEALING_KEYS
from gateway.sealing import make_keys, read_keys
from tests.console.test_cli import run


def test_a_key_is_added_and_none_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / SEALING_KEYS
    make_keys(path)
    status, out, err = run(capsys, "gateway", "rotate-sealing-key", "--state", str(tmp_path))
    assert status == 0, err
    keys = read_keys(path)
    assert keys.keys() == {1, 2}
    assert str(path) in out and "version 2" in out
    assert not any(key.hex() in out + err for key in keys.values())


def test_without_a_file_the_command_says_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "gateway", "rotate-sealing-key", "--state", str(tmp_path))
    assert status == 2
    assert str(tmp_path / SEALING_KEYS) in err and "first start" in err
