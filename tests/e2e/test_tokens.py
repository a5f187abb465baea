"""Tokens belong to the merchant whose key made them: two accounts on the real system."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import httpx
import pytest
import stripe

from console.database_roles import GATEWAY
from console.postgresql import resolve_dsn
from console.supervisor import System, config_file
from gateway.keys import create_key, ensure_account
from tests.e2e.conftest import create_key as create_by_command
from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop, cardswitch

pytestmark = pytest.mark.xdist_group("e2e")

PAN = "4242424242424242"


async def keys_of_another(system: System) -> tuple[str, str]:
    connection = await asyncpg.connect(resolve_dsn(system.config.postgresql, system.config.state_path, GATEWAY))
    try:
        await ensure_account(connection, "OTHERSHOP", "Other shop")
        return (await create_key(connection, "OTHERSHOP")).key, (
            await create_key(connection, "OTHERSHOP", "publishable")
        ).key
    finally:
        await connection.close()


@pytest.fixture
def other(system: System) -> Merchant:
    return Merchant(system, *asyncio.run(keys_of_another(system)))


def test_a_token_pays_for_its_own_merchant_only(shop: Shop, merchant: Merchant, other: Merchant) -> None:
    try:
        token, method = merchant.token(PAN), merchant.token(PAN, "payment_methods")
        by_token = {"payment_method_data": {"type": "card", "card": {"token": token}}}
        by_method = {"payment_method": method}
        for named in (by_token, by_method):
            wanted = {"amount": 1_234, "currency": "eur", "confirm": True, **named}
            with pytest.raises(stripe.InvalidRequestError, match="No such") as refused:
                other.stripe.v1.payment_intents.create(wanted)  # type: ignore[arg-type]
            assert refused.value.http_status == 404 and refused.value.code == "resource_missing"
            # The attempt has used nothing up.
            assert merchant.stripe.v1.payment_intents.create(wanted).status == "succeeded"  # type: ignore[arg-type]
        # Now the gateway knows the method as the first merchant's; the second still does not.
        with pytest.raises(stripe.InvalidRequestError, match="No such"):
            other.stripe.v1.payment_intents.create(
                {"amount": 1_234, "currency": "eur", "confirm": True, "payment_method": method}
            )
        assert other.pay(PAN, 1_235).status == "succeeded"
        by_name = {"amount": 1_236, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"}
        for each in (merchant, other):
            assert each.stripe.v1.payment_intents.create(by_name).status == "succeeded"  # type: ignore[arg-type]
        shop.agree()
    finally:
        other.close()


def test_keys_are_really_looked_at(merchant: Merchant) -> None:
    url, fields = (
        f"{merchant.tokenizer}/v1/tokens",
        {"card[number]": PAN, "card[exp_month]": "12", "card[exp_year]": "31"},
    )
    for key, status in (
        (merchant.publishable_key, 200),
        (merchant.key, 200),
        ("pk_test_browser", 401),
        ("sk_test_1", 401),
    ):
        answer = httpx.post(url, data=fields, auth=(key, ""), trust_env=False)
        assert answer.status_code == status, answer.text


def test_keys_are_rotated_and_revoked_by_command(system: System, merchant: Merchant) -> None:
    config = config_file(system.config.state_path)

    def status(key: str) -> tuple[int, str]:
        fields = {"card[number]": PAN, "card[exp_month]": "12", "card[exp_year]": "31"}
        answer = httpx.post(f"{merchant.tokenizer}/v1/tokens", data=fields, auth=(key, ""), trust_env=False)
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    first, second = create_by_command(system, "--publishable"), create_by_command(system, "--publishable")
    done = cardswitch("gateway", "key", "rotate", first["id"], "--json", config=config)
    successor = json.loads(done.stdout)
    assert (successor["kind"], successor["account"]) == ("publishable", first["account"])
    assert status(first["key"]) == status(successor["key"]) == (200, "")  # the old one has its grace
    assert cardswitch("gateway", "key", "revoke", second["id"], config=config).returncode == 0
    assert status(second["key"]) == (401, "api_key_expired")
    listed = json.loads(cardswitch("gateway", "key", "list", "--json", config=config).stdout)
    ends = {row["id"]: row["ends_at"] for row in listed}
    assert ends[first["id"]] and ends[second["id"]] and ends[successor["id"]] is None
    assert first["key"] not in json.dumps(listed)
    assert second["id"] in cardswitch("gateway", "key", "list", config=config).stdout
    again = cardswitch("gateway", "key", "revoke", second["id"], config=config)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
