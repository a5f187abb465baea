"""The tokenizer as it runs: a process before the HSM's process, with the gateway's keys in PostgreSQL."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx

from console.database_roles import GATEWAY, TOKENIZER
from gateway.keys import create_key, ensure_account
from hsm.tokenizer.server import internal_secret
from tests.conftest import Database
from tests.hsm.conftest import HsmProcess
from tests.hsm.tokenizer.endpoint_calls import FORM, PAN
from tests.hsm.tokenizer.tokenizer_process import serving


async def merchant(dsn: str, name: str) -> tuple[str, str, str]:
    """An account with its publishable and its secret key."""
    connection = await asyncpg.connect(dsn)
    try:
        account = await ensure_account(connection, name, name)
        publishable, secret = await create_key(connection, name, "publishable"), await create_key(connection, name)
        return account, publishable.key, secret.key
    finally:
        await connection.close()


def test_two_merchants_before_the_real_hsm(hsm_process: HsmProcess, database: Database) -> None:
    account, publishable, secret = asyncio.run(merchant(database.dsn(GATEWAY), "ONE"))
    other_account, _, other_secret = asyncio.run(merchant(database.dsn(GATEWAY), "TWO"))
    with (
        serving(hsm_process.state, database.dsn(TOKENIZER)) as process,
        httpx.Client(base_url=process.url, trust_env=False, timeout=10) as client,
    ):

        def resolved(token: str, domain: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {internal_secret(hsm_process.state)}"}
            return client.post("/internal/resolve", json={"id": token, "domain": domain}, headers=headers)

        assert client.get("/readyz").json() == {"ready": True, "hsm": True, "token": True, "vault": True}
        trace = {"X-Trace-Id": "abcdef0123456789"}
        made = client.post("/v1/tokens", data=FORM, auth=(publishable, ""), headers=trace).json()
        assert client.get(f"/v1/tokens/{made['id']}", auth=(secret, "")).json()["card"]["last4"] == "4242"
        assert client.get(f"/v1/tokens/{made['id']}", auth=(other_secret, "")).status_code == 404
        stolen = {"type": "card", "card[token]": made["id"]}
        assert client.post("/v1/payment_methods", data=stolen, auth=(other_secret, "")).status_code == 404
        assert resolved(made["id"], other_account).json()["error"]["message"] == "No such token."
        assert resolved(made["id"], account).json()["surrogate"].startswith("990000")
        for domain in (account, other_account):
            assert resolved("pm_card_visa", domain).json()["last4"] == "4242"
        assert "cardswitch_hsm_commands_total" in client.get("/metrics").text
        log = process.log
    assert any("okenize" in line and "abcdef0123456789" in line for line in hsm_process.log.splitlines())
    for text in (hsm_process.log, log):
        assert PAN not in text and secret not in text and publishable not in text
