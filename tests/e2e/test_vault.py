"""The vault on the running system: cards imported, paid with, erased with a proof; the ledger stays whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from console.supervisor import config_file
from messages.card import luhn_digit
from simulators.acquirer import Card
from simulators.control import ask
from tests.e2e.shop import Shop, cardswitch

pytestmark = pytest.mark.xdist_group("e2e")


def pan(number: int) -> str:
    partial = f"40000077{number:07d}"
    return partial + luhn_digit(partial)


def imported(shop: Shop, text: str, directory: Path, *options: str, status: int = 0) -> list[dict[str, Any]]:
    """Import cards from standard input; returns what was written."""
    output = directory / "tokens.csv"
    done = cardswitch(
        "vault", "import", "-", "--output", str(output), *options, config=config_file(shop.system.config.state_path),
        given=text,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    with output.open() as file:
        return list(csv.DictReader(file))


def intent_of(shop: Shop, key: str) -> dict[str, Any]:
    (row,) = shop.sql("SELECT token, fingerprint, masked_pan FROM ledger.intents WHERE key = $1", key)
    return row


def test_a_card_is_imported_paid_with_and_erased(shop: Shop, tmp_path: Path) -> None:
    card = Card(pan(1), pin="1234")
    ask(shop.system.control_socket("alpha"), "accounts", set={"pan": card.pan, "balance_minor": 10**6})
    (row,) = imported(shop, f"{card.pan},12,2030\n", tmp_path)
    bought, answer = shop.pos.buy(card, 1_900)
    assert answer.elements[39] == "00"
    before = intent_of(shop, bought.key)
    assert before["token"] == row["token"] and before["fingerprint"].hex() == row["fingerprint"]

    proof = shop.command("vault", "delete", row["token"], "--reason", "data_subject_request", "--yes", "--json")
    assert proof["record"]["card"] == row["token"]
    shown = shop.command("vault", "proof", row["token"], "--json")
    assert shown["whole"] and shown["record"] == proof["record"] and shown["chained"] >= proof["record"]["number"]
    status, text = shop.output("vault", "proof", row["token"])
    assert status == 0 and b"data_subject_request" in text and card.pan.encode() not in text

    # The ledger has what it had, and still verifies; token, masked number and fingerprint are all that it ever knew.
    assert intent_of(shop, bought.key) == before
    assert shop.command("ledger", "verify", "--json")["whole"]
    assert shop.standing(bought) == (0, 1_900)

    # The same number again is a new card of the same fingerprint.
    again, answer = shop.pos.buy(card, 2_100)
    assert answer.elements[39] == "00"
    after = intent_of(shop, again.key)
    assert after["token"] != before["token"] and after["fingerprint"] == before["fingerprint"]
    shop.agree()
    assert shop.command("ledger", "verify", "--json")["whole"]


def test_files_with_bad_lines_and_two_formats(shop: Shop, tmp_path: Path) -> None:
    good = [pan(number) for number in range(100, 110)]
    lines = [f'{{"pan":"{number}","exp_month":1,"exp_year":2031,"domain":"acct_shop"}}' for number in good]
    lines[3:3] = ["4242424242424241,12,30", "nothing"]
    source = tmp_path / "cards.jsonl"
    source.write_text("\n".join(lines) + "\n")
    first = tmp_path / "first.csv"
    status, text = shop.output("vault", "import", str(source), "--output", str(first))
    assert status == 1 and b"line 4: pan is not a card number" in text and b"4242424242424241" not in text
    rows = list(csv.DictReader(first.read_text().splitlines()))
    assert [row["line"] for row in rows] == ["1", "2", "3", *map(str, range(6, 13))]
    assert all(row["token"].startswith("pm_") and row["brand"] == "visa" for row in rows)
    csv_text = "".join(f"{number},1,31,acct_shop\n" for number in good)
    assert [row["token"] for row in imported(shop, csv_text, tmp_path)] == [row["token"] for row in rows]
    status, text = shop.output("vault", "import", str(source), "--output", str(first))
    assert status == 2 and b"exists" in text


def test_what_the_commands_refuse(shop: Shop) -> None:
    for arguments, said in (
        (("delete", "card_none", "--reason", "data_subject_request", "--yes"), "card_unknown"),
        (("delete", "card_none", "--reason", "boredom", "--yes"), "retention_expired"),
        (("delete", "card_none", "--reason", "account_closed"), "--yes"),
        (("proof", "card_none"), "card_unknown"),
        (("import", "/none", "--output", "/none/x"), "/none"),
    ):
        status, text = shop.output("vault", *arguments)
        assert status in (1, 2) and said in text.decode(), text


def test_erasures_are_in_the_audit_and_numbers_are_not(shop: Shop, tmp_path: Path) -> None:
    card = pan(2)
    (row,) = imported(shop, f"{card},12,2030\n", tmp_path)
    shop.command("vault", "delete", row["token"], "--reason", "import_error", "--yes", "--json")
    audit = shop.system.config.state_path / "hsm" / "audit"
    text = b"".join(path.read_bytes() for path in audit.rglob("*.jsonl"))
    assert b"delete_card" in text and b"import_cards" in text
    assert card.encode() not in text
    assert json.loads(cardswitch("vault", "proof", row["token"], "--json",
                                 config=config_file(shop.system.config.state_path)).stdout)["whole"]  # fmt: skip
