"""`cardswitch sim acquirer` on a link of a running system: its keys, its mix, its book beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

OWN = "20777"  # the acquirer of the other tests would be asked about these payments if they had its number


def test_a_day_of_everything_agrees_with_the_ledger(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'name = "pos"\nacquirer_id = "{OWN}"\n[[card]]\nprefix = "42424242"\ncount = 50\n')
    arguments = ("--scenario", str(file), "--count", "80", "--rate", "0", "--seed", "4", "--json")
    told = shop.command("sim", "acquirer", "pos", *arguments)
    assert (told["requests"], told["unanswered"], told["unsettled"]) == (80, 0, 0)
    assert told["total"]["approved"] > 40
    assert told["total"]["p99_ms"] > 0
    shop.agree()
    proof = shop.command("prove", "--json")
    assert proof["differences"] == []


def test_it_goes_wrong_on_purpose_and_still_agrees(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "rough.toml"
    file.write_text(
        """
name = "pos"
timeout_s = 1.0
acquirer_id = "20778"
connections = 2
[[card]]
prefix = "42424242"
count = 50
[[fault]]
kind = "late-reversal"
rate = 0.1
delay_s = 0.2
[[fault]]
kind = "disconnect-after"
rate = 0.03
[[fault]]
kind = "garbage"
rate = 0.03
[[fault]]
kind = "duplicate"
rate = 0.05
"""
    )
    arguments = ("--scenario", str(file), "--count", "80", "--rate", "0", "--concurrency", "8", "--json")
    told = shop.command("sim", "acquirer", "pos", *arguments)
    assert (told["unanswered"], told["unsettled"]) == (0, 0)
    shop.agree()
    assert shop.command("prove", "--json")["differences"] == []
