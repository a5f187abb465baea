"""Imports that are interrupted, and what their output says; the HSM is a stand-in that counts."""

from __future__ import annotations

import csv
import io
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import specs
from console.config import Config, load_config
from console.errors import ConsoleError, UsageError
from console.vault import card_import
from console.vault.card_file import BadLine
from console.vault.card_import import BATCH, Import, run_import
from console.vault.deletion import run_proof
from hsm.vault_commands import ImportCards, ImportedCard, ImportedCards
from messages.card import luhn_digit


def pan(number: int) -> str:
    partial = f"40000000{number:07d}"
    return partial + luhn_digit(partial)


REFUSED = pan(77)


def source(count: int) -> bytes:
    return b"".join(f"{pan(number)},12,30\n".encode() for number in range(count))


class Vault:
    """Gives the same card the same token; away after `lasts` batches."""

    running = True

    def __init__(self, lasts: int = 10**9) -> None:
        self.batches: list[ImportCards] = []
        self.lasts = lasts

    def ask(self, request: ImportCards) -> ImportedCards:
        if len(self.batches) >= self.lasts:
            raise ConsoleError("the HSM did not answer")
        self.batches.append(request)
        return ImportedCards(tuple(self._imported(card.pan, request.domain) for card in request.cards))

    def _imported(self, number: str, domain: str) -> ImportedCard:
        if number == REFUSED:
            return ImportedCard(refused="pan_invalid")
        return ImportedCard(f"{'pm' if domain else 'card'}_{number[::-1]}", bytes(16), number[:8], number[-4:])


def run(vault: Vault, data: bytes, output: Path, size: int = 1) -> tuple[Import, list[BadLine]]:
    bad: list[BadLine] = []
    with Import(vault, output, (size, 1)) as work:
        for _ in work.run(io.BytesIO(data), bad.append):
            pass
        work.finish()
    return work, bad


def rows(output: Path) -> list[dict[str, Any]]:
    with output.open() as file:
        return list(csv.DictReader(file))


def test_output_and_batches(tmp_path: Path) -> None:
    vault, output = Vault(), tmp_path / "out.csv"
    work, bad = run(vault, source(1201), output)
    assert [len(batch.cards) for batch in vault.batches] == [BATCH, BATCH, 201]
    found = rows(output)
    assert [int(row["line"]) for row in found] == [line for line in range(1, 1202) if pan(line - 1) != REFUSED]
    assert found[1] == {
        "token": f"card_{pan(1)[::-1]}",
        "last4": pan(1)[-4:],
        "brand": "visa",
        "fingerprint": "00" * 16,
        "line": "2",
    }
    assert work.mark.imported == len(found) and work.mark.bad == len(bad)
    assert output.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_bad_lines_are_told_in_order_with_those_that_the_hsm_refuses(tmp_path: Path) -> None:
    data = f"{pan(1)},12,30\n4242,1,30\n{REFUSED},12,30\nx\n{pan(2)},13,30\n".encode()
    work, bad = run(Vault(), data, tmp_path / "out.csv")
    assert [line.number for line in bad] == [2, 3, 4, 5]
    assert (work.mark.imported, work.mark.bad) == (1, 4)
    assert [row["line"] for row in rows(tmp_path / "out.csv")] == ["1"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr("hsm.process.forbid_dumps", lambda: None)  # of this process
    return load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), state=tmp_path / "state")


def test_too_many_bad_lines_stop_and_say_what_helps(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_import, "running_officer", lambda _: nullcontext(Vault()))
    (tmp_path / "cards.csv").write_bytes(b"x\n" * 3 + source(BATCH))
    output = tmp_path / "out.csv"
    for _ in range(2):  # to say the same again changes nothing
        with pytest.raises(ConsoleError, match="more than 2 lines are no cards") as stopped:
            run_import(config, str(tmp_path / "cards.csv"), output, 2, True)
        assert stopped.value.fix == "look at the file, or raise --max-bad"
    assert run_import(config, str(tmp_path / "cards.csv"), output, 10, True) == 1
    assert [int(row["line"]) for row in rows(output)] == [line for line in range(4, BATCH + 4) if line != 81]


def test_an_hsm_that_goes_away_says_where_the_import_goes_on(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_import, "running_officer", lambda _: nullcontext(Vault(lasts=1)))
    (tmp_path / "cards.csv").write_bytes(source(BATCH + 1))
    with pytest.raises(ConsoleError, match="did not answer") as stopped:
        run_import(config, str(tmp_path / "cards.csv"), tmp_path / "out.csv", 2, True)
    assert stopped.value.fix == f"run the same command again to go on after line {BATCH}"


def test_without_the_hsm_running_nothing_is_imported_or_proven(tmp_path: Path, config: Config) -> None:
    for run_it in (
        lambda: run_import(config, "-", tmp_path / "out.csv", 0, True),
        lambda: run_proof(config, "card_none", True),
    ):
        with pytest.raises(ConsoleError, match="the HSM does not run; start it: cardswitch up"):
            run_it()
    assert not (tmp_path / "out.csv").exists()


def test_domains_of_one_file(tmp_path: Path) -> None:
    data = "".join(f"{pan(number)},12,30,{'acct_a' if number % 2 else ''}\n" for number in range(10)).encode()
    vault, output = Vault(), tmp_path / "out.csv"
    run(vault, data, output)
    assert sorted(batch.domain for batch in vault.batches) == ["", "acct_a"]
    assert [row["token"][:3] for row in rows(output)] == ["car", "pm_"] * 5


@pytest.mark.parametrize("lasts", [0, 1, 2])
def test_an_import_goes_on_where_it_stopped(tmp_path: Path, lasts: int) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    run(Vault(), source(1201), whole)
    with pytest.raises(ConsoleError):
        run(Vault(lasts), source(1201), output)
    with output.open("ab") as file:
        file.write(b"card_of_a_batch_that_was_not_mar")  # killed while writing
    after = Vault()
    work, _ = run(after, source(1201), output)
    assert len(after.batches) == 3 - lasts
    assert output.read_bytes() == whole.read_bytes()
    assert work.mark.imported == len(rows(output))


def test_another_source_does_not_go_on(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(ConsoleError):
        run(Vault(1), source(600), output)
    with pytest.raises(UsageError, match="another file"):
        run(Vault(), source(700), output, size=2)
    (tmp_path / "out.csv.resume").write_bytes(b"{")
    with pytest.raises(UsageError, match="cannot be read"):
        run(Vault(), source(600), output)


def test_an_output_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        run(Vault(), source(1), output)
    assert output.read_text() == "mine"
    with pytest.raises(UsageError):
        run(Vault(), source(1), tmp_path / "none" / "out.csv")


def test_an_output_that_lost_lines_is_noticed(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(ConsoleError):
        run(Vault(1), source(600), output)
    output.write_bytes(output.read_bytes()[:100])
    with pytest.raises(UsageError, match="shorter"):
        run(Vault(), source(600), output)


def test_no_number_is_in_output_or_mark(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(ConsoleError):
        run(Vault(1), source(600), output)
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert not any(pan(number) in text for number in range(600))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        """Lines that are made as they are read: the file itself is not in memory either."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self._lines = (f"{pan(number)},12,30\n".encode() for number in range(count))

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            line = next(self._lines, b"")
            buffer[: len(line)] = line
            return len(line)

    class Forgetful(Vault):
        def ask(self, request: ImportCards) -> ImportedCards:
            self.batches.clear()
            return super().ask(request)

    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        with Import(Forgetful(), tmp_path / f"{count}.csv", (1, 1)) as work:
            for _ in work.run(io.BufferedReader(Endless(count)), lambda bad: None):
                pass
            work.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert work.mark.imported == count - 1
    assert peaks[1] < 1.2 * peaks[0] + 100_000
