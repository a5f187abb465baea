"""The loop of the fuzz targets: finds what raises, and starts from what it kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import driver
from tests.fuzz.driver import Found, Target, corpus, fuzz


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(driver, "CORPUS", tmp_path)
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "one.hex").write_text("30 31 # two digits\n3233\n")
    (tmp_path / "sample" / "two.bin").write_bytes(b"\x00#")
    return tmp_path


def test_a_corpus_is_hexadecimal_with_comments_or_bytes_as_they_are(kept: Path) -> None:
    assert corpus("sample") == [b"0123", b"\x00#"]


@pytest.mark.usefixtures("kept")
def test_what_raises_is_found_with_its_bytes() -> None:
    def run(data: bytes) -> str:
        if b"\xff" in data:
            raise KeyError("a bug")
        return "read"

    with pytest.raises(Found, match="sample with seed 3 fails on") as caught:
        fuzz(Target("sample", run), seconds=20, seed=3)
    assert b"\xff" in caught.value.data
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.usefixtures("kept")
def test_what_does_something_new_is_mutated_further() -> None:
    """Four bytes in a row are never guessed at once; each step towards them is an outcome of its own."""

    def run(data: bytes) -> str:
        depth = next((size for size in range(4) if data[: size + 1] != b"WXYZ"[: size + 1]), 4)
        if depth == 4:
            raise ValueError("reached")
        return str(depth)

    with pytest.raises(Found):
        fuzz(Target("sample", run, words=(b"W", b"X", b"Y", b"Z")), seconds=20, seed=1)


@pytest.mark.usefixtures("kept")
def test_the_corpus_and_the_seeds_are_run_first() -> None:
    seen: list[bytes] = []

    def run(data: bytes) -> str:
        seen.append(data)
        return "read"

    outcomes = fuzz(Target("sample", run, seeds=lambda: [b"seed"]), seconds=0)
    assert seen == [b"0123", b"\x00#", b"seed"]
    assert outcomes == {"read": 3}
