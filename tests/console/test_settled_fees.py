"""`ledger verify --settled FILE`: two people and a reason for each finding, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.errors import ConfigError, UsageError
from console.ledger_verification import verification_text
from console.settled_fees import settled_lines
from ledger.verify import CheckResult, Report

LINE = "intent 4: 130 of 100 EUR in fees came back, merchant DEMOSHOP got 30 too much"
ENTRY = f'[[settled]]\nline = "{LINE}"\nreason = "invoice 4711"\nby = ["Alice Adams", "Bob Brown"]\n'


def read(tmp_path: Path, text: str) -> frozenset[str]:
    file = tmp_path / "settled.toml"
    file.write_text(text)
    return settled_lines(file)


def test_the_findings_are_read_word_for_word(tmp_path: Path) -> None:
    assert read(tmp_path, ENTRY + ENTRY.replace("130", "131")) == {LINE, LINE.replace("130", "131")}
    assert read(tmp_path, "") == frozenset()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("invoice 4711", " "), "settled[0].reason: is empty"),
        ((LINE, ""), "settled[0].line: is empty"),
        (('["Alice Adams", "Bob Brown"]', '["Alice Adams"]'), "settled[0].by: 2 people settle a difference"),
        (('"Bob Brown"', '" alice adams "'), "settled[0].by: 2 people settle a difference"),
        (('"Bob Brown"', '""'), "settled[0].by: 2 people settle a difference"),
        (("reason = ", "raison = "), "unknown setting (is it 'reason'?)"),
        (("[[settled]]", "[[settled"), "line 1"),
    ],
)
def test_one_person_or_no_reason_settles_nothing(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, ENTRY.replace(*change))
    assert says in str(refused.value) and "settled.toml" in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        settled_lines(tmp_path / "settled.toml")


def test_the_verdict_counts_what_was_settled() -> None:
    checks = [CheckResult("fees", "fees", [], [LINE])]
    report = Report(checks, 9, 9, 30, 9, 2, 0, 2, "", "", True, 0, None)
    assert verification_text(report).startswith("whole, but for 1 settled outside of the books; 9 intents")


def test_the_page_has_a_file_that_is_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    sample = page.partition("### Fees that an earlier version booked wrong")[2].partition("```toml\n")[2]
    assert read(tmp_path, sample.partition("```")[0]) == {LINE.replace("intent 4:", "intent 8812:")}
