"""The webhook receiver takes what is signed and nothing else."""

from __future__ import annotations

import httpx
import pytest

from console.webhook_sink import WebhookSink, signature_is_right
from gateway.delivery import signature

BODY = b'{"type": "charge.dispute.created", "data": {"object": {"id": "dp_1"}}}'


def test_the_gateways_signature_is_understood() -> None:
    header = signature(BODY, "whsec_x", 1_000)
    assert signature_is_right(BODY, header, "whsec_x", 1_010)
    assert not signature_is_right(BODY + b" ", header, "whsec_x", 1_010)
    assert not signature_is_right(BODY, header, "whsec_y", 1_010)
    assert not signature_is_right(BODY, header, "", 1_010)
    assert not signature_is_right(BODY, header, "whsec_x", 2_000), "too old"


@pytest.mark.parametrize("header", ["", "t=", "t=x,v1=00", "v1=00", "t=1000,v1=é", "=,="])
def test_broken_headers_are_wrong(header: str) -> None:
    assert not signature_is_right(BODY, header, "whsec_x", 1_000)


def test_events_arrive_and_forgeries_do_not() -> None:
    import time

    with WebhookSink() as sink, httpx.Client(trust_env=False) as client:
        sink.secret = "whsec_x"
        now = int(time.time())
        forged = client.post(sink.url, content=BODY, headers={"Stripe-Signature": signature(BODY, "other", now)})
        assert forged.status_code == 400
        assert sink.wait_for(lambda event: True, 0.0) is None
        right = client.post(sink.url, content=BODY, headers={"Stripe-Signature": signature(BODY, "whsec_x", now)})
        assert right.status_code == 200
        event = sink.wait_for(lambda event: event["type"] == "charge.dispute.created", 5.0)
        assert event is not None
        assert event["data"]["object"]["id"] == "dp_1"
