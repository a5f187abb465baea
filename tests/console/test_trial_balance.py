"""The trial balance on a narrow terminal: no account and no amount is cut short."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from console.ledger_commands import print_trial_balance
from ledger.trial_balance import AccountBalance, TrialBalance

ACCOUNT = "merchant:A-MERCHANT-15CH:pending"


def shown(width: int) -> str:
    line = AccountBalance(ACCOUNT, "liability", "posted", "EUR", 123_456_789_012, 123_456_789_012)
    console = Console(file=io.StringIO(), width=width)
    print_trial_balance(console, TrialBalance([line]))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [60, 80])
def test_nothing_is_cut_short_on_a_narrow_terminal(width: int) -> None:
    text = shown(width)
    assert "…" not in text
    assert len(re.findall(r"\d", text)) == len(re.findall(r"\d", shown(200)))


def test_a_line_has_the_whole_account_where_there_is_room() -> None:
    assert ACCOUNT in shown(200)
