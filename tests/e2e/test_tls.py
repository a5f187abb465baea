"""A whole system whose tokenizer uses TLS under a certificate of the test's own authority."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import stripe

import specs
from console.config import load_config
from console.supervisor import System, config_file
from tests.e2e.conftest import quick
from tests.e2e.merchant import Merchant
from tests.e2e.shop import cardswitch
from tests.hsm.tokenizer.certificates import Authority
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[System, Authority]]:
    authority = Authority(tmp_path)
    certificate, private_key = tmp_path / "server.pem", tmp_path / "server.key"
    authority.issue(certificate, private_key)
    replace = msgspec.structs.replace
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    config = replace(
        config,
        tokenizer=replace(config.tokenizer, certificate=str(certificate), private_key=str(private_key)),
        gateway=replace(config.gateway, tokenizer_ca=str(authority.file)),
        switch=replace(config.switch, workers=1),
    )
    state = new_state("tls")
    try:
        with System.start(config, state, ports="free") as running:
            yield running, authority
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_a_payment_with_a_token_that_was_made_by_https(secured: tuple[System, Authority]) -> None:
    system, authority = secured
    done = cardswitch("gateway", "key", "create", "DEMOSHOP", "--json", config=config_file(system.config.state_path))
    key = json.loads(done.stdout)["key"]
    merchant = Merchant(system, key, "")
    assert merchant.tokenizer.startswith("https://")
    fields = {"card[number]": "4242424242424242", "card[exp_month]": "12", "card[exp_year]": "2031"}
    try:
        with httpx.Client(auth=(key, ""), verify=authority.trust(), trust_env=False) as client:
            token = client.post(f"{merchant.tokenizer}/v1/tokens", data=fields).json()["id"]
        intent = merchant.stripe.v1.payment_intents.create(
            {
                "amount": 1_999,
                "currency": "eur",
                "confirm": True,
                "payment_method_data": {"type": "card", "card": {"token": token}},
            }
        )
        assert intent.status == "succeeded"
        with pytest.raises(stripe.InvalidRequestError) as refused:
            merchant.stripe.v1.payment_methods.create({"type": "card", "card": {"number": "4242424242424242"}})  # type: ignore[typeddict-item]
        assert f"{merchant.tokenizer}/v1/tokens" in str(refused.value)
        with pytest.raises(httpx.HTTPError):
            httpx.post(merchant.tokenizer.replace("https:", "http:") + "/v1/tokens", data=fields, trust_env=False)
    finally:
        merchant.close()
