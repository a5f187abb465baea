"""A webhook receiver: signed POSTs in, verified events out; the demo shows merchants with it what they will get."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec

_LONGEST_BODY = 1 << 20
_MAX_EVENTS = 1_000
_TOLERANCE_S = 300


class WebhookSink:
    """Listens on a free port of 127.0.0.1 as long as the `with` block runs.

    Attributes:
        url: where to send webhooks.
        secret: of the endpoint, to be set once it is known; events without the right signature are refused with 400.
    """

    def __init__(self) -> None:
        self.secret = ""
        self._events: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhooks"

    def __enter__(self) -> WebhookSink:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, matches: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any] | None:
        """The first event that matches, None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                for event in self._events:
                    if matches(event):
                        return event
                if not self._arrived.wait(max(0.0, deadline - time.monotonic())):
                    return None

    def _take(self, body: bytes, header: str) -> int:
        """The status to answer with."""
        if not signature_is_right(body, header, self.secret, time.time()):
            return 400
        try:
            event = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError:
            return 400
        with self._arrived:
            if len(self._events) < _MAX_EVENTS:
                self._events.append(event)
            self._arrived.notify_all()
        return 200


def signature_is_right(body: bytes, header: str, secret: str, now_s: float) -> bool:
    """Whether the Stripe-Signature header, "t=<seconds>,v1=<hex>", fits the body and is not too old.

    Source: inferred from `stripe.WebhookSignature` of the official package, 16.1.
    """
    fields = dict(part.partition("=")[::2] for part in header.split(","))
    at = fields.get("t", "")
    if not secret or not at.isascii() or not at.isdigit() or abs(now_s - int(at)) > _TOLERANCE_S:
        return False
    expected = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), fields.get("v1", "").encode())


def _handler(take: Callable[[bytes, str], int]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _LONGEST_BODY:
                self.send_error(413)
                return
            self.send_response(take(self.rfile.read(int(length)), self.headers.get("Stripe-Signature", "")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the terminal belongs to the demo."""

    return Handler
