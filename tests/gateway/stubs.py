"""HTTP servers for the tests: the tokenizer's internal endpoint, and a webhook sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

SECRET = "internal-secret"
VISA = {
    "surrogate": "9900000000000042",
    "brand": "visa",
    "last4": "4242",
    "exp_month": 12,
    "exp_year": 2030,
    "fingerprint": "Xt5EWLLDS7FJjR1c",
    "country": "US",
    "funding": "credit",
}
CARDS = {"pm_card_visa": VISA, "tok_visa": VISA, "tok_once": VISA, "pm_stored0001": VISA}

Respond = Callable[[str, dict[str, str], bytes], tuple[int, bytes]]


class Stub:
    """A server on a free port; `respond` takes path, headers and body and gives status and body."""

    def __init__(self, respond: Respond) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, answer = respond(self.path, headers, body)
                self.send_response(status)
                if status in (301, 302, 307, 308):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def tokenizer() -> Stub:
    used: dict[str, str] = {}

    def respond(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/readyz":
            return 200, b"{}"
        if headers.get("authorization") != f"Bearer {SECRET}":
            return 401, b"{}"
        asked = msgspec.json.decode(body)
        if not asked["domain"].startswith("acct_"):
            return 400, b"{}"
        card = CARDS.get(asked["id"])
        if asked["id"] == "tok_once" and used.setdefault("tok_once", asked["used_by"]) != asked["used_by"]:
            return 400, b'{"error": {"type": "invalid_request_error", "code": "token_already_used"}}'
        return (200, msgspec.json.encode(card)) if card else (404, b"{}")

    return Stub(respond)


class Sink:
    """A merchant's webhook address; answers with `statuses` one after the other, the last one from then on."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses) or [200]
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self._stub = Stub(self._respond)
        self.url = self._stub.url

    def _respond(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.calls.append((path, headers, body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return status, b"thanks"

    def close(self) -> None:
        self._stub.close()
