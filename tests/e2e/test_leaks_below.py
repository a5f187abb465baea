"""Below tables and logs: no card number or key stands in the database's files, nor in the memory of those who are not
to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.config import SEALING_KEYS
from gateway.sealing import read_keys
from hsm.keys.exchange import load_party_keys, read_transport_key
from simulators.acquirer import Card
from tests.e2e.leaks import Secrets, database_files, memory_of, open_as_owner
from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop, run
from tests.e2e.test_leaks import PIN, TILL, test_number

pytestmark = pytest.mark.xdist_group("e2e")


def search_database(shop: Shop, secrets: Secrets) -> dict[str, set[str]]:
    found = {}
    for path in database_files(shop.system.config.state_path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # a segment that was just recycled
            continue
        if names := secrets.found_in(content):
            found[str(path)] = names
    return found


def checkpoint(shop: Shop) -> None:
    """Have what is in the server's memory written to its files."""

    async def write() -> None:
        connection = await open_as_owner(shop.system)
        try:
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    run(write())


def test_the_database_files_and_the_write_ahead_log_hold_no_card(shop: Shop) -> None:
    secrets, control = Secrets(), Secrets()
    below, sought = test_number("424242481726350"), test_number("424242190572846")
    secrets.add_number("BELOW", below)
    secrets.add_number("PIN", PIN)
    for number, pan in enumerate((below, TILL)):
        shop.pos.buy(Card(pan), 1_480 + number)
    token = shop.sql("SELECT token FROM ledger.intents WHERE amount_minor = 1480")[0]["token"]
    control.add_bytes("the card's token", token.encode())
    checkpoint(shop)
    assert any("pg_wal" in path for path in search_database(shop, control)), "the search sees the write-ahead log"
    assert any("base" in path for path in search_database(shop, control)), "the search sees the tables"
    assert search_database(shop, secrets) == {}

    async def plant() -> None:
        connection = await open_as_owner(shop.system)
        try:
            await connection.execute("CREATE TABLE planted (v text)")
            await connection.execute("INSERT INTO planted VALUES ($1)", f"card {sought}")
            await connection.execute("DROP TABLE planted")
        finally:
            await connection.close()

    run(plant())
    planted = Secrets()
    planted.add_number("SOUGHT", sought)
    checkpoint(shop)
    assert any("pg_wal" in path for path in search_database(shop, planted)), "a number written once is found"


def test_the_database_files_and_the_write_ahead_log_hold_no_webhook_secret(shop: Shop, merchant: Merchant) -> None:
    """Nor any table; values that merchants were shown once are known to the gateway's file of keys alone."""
    create: Any = {"url": "http://127.0.0.1:65001/none", "enabled_events": ["charge.dispute.created"]}
    endpoint = merchant.stripe.v1.webhook_endpoints.create(create, {"idempotency_key": "leak"})
    try:
        secrets, control = Secrets(), Secrets()
        secrets.add_bytes("webhook secret", (endpoint.secret or "").encode())
        secrets.add_bytes("webhook secret without its prefix", (endpoint.secret or "").removeprefix("whsec_").encode())
        for key in read_keys(shop.system.config.state_path / SEALING_KEYS).values():
            secrets.add_bytes("sealing key", key)
        control.add_bytes("id of the endpoint", endpoint.id.encode())
        checkpoint(shop)
        for part in ("pg_wal", "base"):
            assert any(part in path for path in search_database(shop, control)), f"the search sees {part}"
        assert search_database(shop, secrets) == {}
    finally:
        merchant.stripe.v1.webhook_endpoints.delete(endpoint.id)


def in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """The names of what stands in the memory of a process."""
    found: set[str] = set()
    for piece in memory_of(pid):
        found |= {name for name, needle in needles.items() if name not in found and needle in piece}
    return found


def forms(name: str, number: str) -> dict[str, bytes]:
    packed = bytes.fromhex(number)
    return {name: number.encode(), f"{name} in BCD": packed, f"{name} in hex": number.encode().hex().encode()}


def test_the_gateways_memory_holds_no_card(shop: Shop, merchant: Merchant) -> None:
    pan = test_number("424242867150392")
    payments = {f"payment {number}": merchant.pay(pan, 1_490).id.encode() for number in range(20)}
    secrets = forms("card", pan) | {f"key {number}": key for number, key in enumerate(keys_of(shop))}
    found = in_memory(shop.system.pid("gateway"), secrets | payments)
    assert found & payments.keys(), "the search sees what the gateway does hold"
    assert not found & secrets.keys()


def test_only_the_hsm_holds_keys(shop: Shop) -> None:
    """Not the workers, through which card numbers pass, and not the tokenizer, which takes them in."""
    pan = test_number("424242735081946")
    shop.pos.buy(Card(pan, pin=PIN), 1_492)
    keys = {f"key {number}": key for number, key in enumerate(keys_of(shop))}
    assert len(keys) >= 4
    for name in ("switch-0", "switch-1", "tokenizer", "gateway"):
        assert in_memory(shop.system.pid(name), keys | {"Python": b"site-packages"}) == {"Python"}, name


def keys_of(shop: Shop) -> list[bytes]:
    """Every clear zone key that the other parties were given, and their transport keys."""
    directory = shop.system.config.exchange_path
    return [
        key
        for file in sorted(directory.glob("*.zmk"))
        for key in (read_transport_key(file), *load_party_keys(directory, file.stem).values())
    ]


@pytest.mark.parametrize("name", ["hsm", "tokenizer", "switch-0", "switch-1", "gateway"])
def test_who_handles_payments_leaves_no_core_dump(shop: Shop, name: str) -> None:
    limits = Path(f"/proc/{shop.system.pid(name)}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"], line
