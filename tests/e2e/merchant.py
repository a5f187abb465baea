"""A merchant of the running system: the official `stripe` package, a browser that makes tokens, a webhook address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import requests
import stripe

from console.supervisor import System


class Merchant:
    """A shop's programmer: the two addresses and two keys.

    Args:
        key, publishable_key: as `cardswitch gateway key create` gave them.
    """

    def __init__(self, system: System, key: str, publishable_key: str) -> None:
        self.gateway = system.addresses()["gateway"]
        self.tokenizer = system.addresses()["tokenizer"]
        self.key = key
        self.publishable_key = publishable_key
        self._http = stripe.RequestsClient(session=_session())
        self.stripe = self.client(key)

    def client(self, key: str) -> stripe.StripeClient:
        """The official client with only the base address changed."""
        return stripe.StripeClient(
            key, base_addresses={"api": self.gateway}, http_client=self._http, max_network_retries=0
        )

    def close(self) -> None:
        self._http.close()  # type: ignore[no-untyped-call]

    def token(self, pan: str, kind: str = "tokens") -> str:
        """The browser's part with the customer's card: tok_…, or pm_… for `payment_methods`."""
        fields = {"card[number]": pan, "card[exp_month]": "12", "card[exp_year]": "2031", "card[cvc]": "123"}
        if kind == "payment_methods":
            fields["type"] = "card"
        answer = httpx.post(
            f"{self.tokenizer}/v1/{kind}", data=fields, auth=(self.publishable_key, ""), trust_env=False, timeout=10
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """A call without the package, for what the package would not send."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"{self.gateway}{path}", data=fields, headers=given, auth=(self.key, ""), trust_env=False, timeout=30
        )

    def pay(self, pan: str, amount_minor: int, currency: str = "eur", **more: Any) -> stripe.PaymentIntent:
        """Create and confirm in one call, with a token of the card."""
        data = {"type": "card", "card": {"token": self.token(pan)}}
        return self.stripe.v1.payment_intents.create(
            {"amount": amount_minor, "currency": currency, "payment_method_data": data, "confirm": True, **more}  # type: ignore[typeddict-item]
        )


def trace_id_of(answer: stripe.StripeObject) -> str:
    """The trace id of the request that made this answer, out of its Request-Id."""
    assert answer.last_response is not None
    request_id = answer.last_response.request_id
    assert request_id is not None and request_id.startswith("req_")
    return request_id.removeprefix("req_")


class Sink:
    """A webhook address that answers with `statuses` one after the other, the last one from then on."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses) or [200]
        self._calls: list[tuple[int, str, bytes]] = []
        self._arrived = threading.Condition()

    def take(self, body: bytes, signature: str) -> int:
        with self._arrived:
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            self._calls.append((status, signature, body))
            self._arrived.notify_all()
        return status

    def wait_for(self, number: int, timeout_s: float = 20.0) -> list[tuple[int, str, bytes]]:
        """The first `number` calls: the status that each was answered with, its Stripe-Signature header, its body."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._calls) >= number, timeout_s), self._calls
            return self._calls[:number]


@contextmanager
def listening(sink: Sink) -> Iterator[str]:
    """Serve the sink on a free port; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(sink.take(body, self.headers["Stripe-Signature"]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session
