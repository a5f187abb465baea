"""The gateway's settings: `[gateway]` of the TOML file as one frozen struct.

`console.config` converts the section with msgspec and calls `problems`; everything here has a stated limit.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.destinations import Network, networks
from messages.address import address_of
from web.config import HttpConfig

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway]`.

    Args:
        listen: host:port of the merchants' API. Port 0 takes a free one.
        link: the name of the `[[acquirer]]` section that it signs on to.
        tokenizer_url: where this process reaches the tokenizer; empty: as `console` makes it out of `[tokenizer]`.
        tokenizer_ca: PEM file with the authorities that vouch for the tokenizer's certificate; empty: the system's.
        sealing_keys: file with the keys that seal secrets in the database, mode 0600; empty: as `console` makes it,
            `gateway-sealing.keys` in the state directory.
        connections: sockets to the switch.
        acquirer_id: DE 32, up to 11 digits. terminal: DE 41, 8 characters.
        max_in_flight: messages to the switch without an answer; above it: 429 at once.
        answer_timeout_s: time that one message waits for its answer before it is repeated.
        repeats: repeats of a request before it is reversed.
        repeat_cap_s: the longest pause between two repeats of a capture or reversal, which go on until answered.
        echo_s: silence on a connection after which an echo is sent.
        request_timeout_s: longest wait of an HTTP request for the network; then it answers `processing`.
        claim_s: time that a process owns a message or an idempotency key without a sign of life.
        max_body_bytes, max_requests, requests_per_s: a request's size, requests at once, and requests a second and
            account (twice that in a burst).
        webhook_timeout_s, webhook_tries, webhook_backoff_s, webhook_cap_s: one delivery's time, how many tries, the
            first pause (doubled each time) and the longest.
        max_deliveries, deliveries_per_account, deliveries_per_endpoint, deliveries_per_host: webhooks sent at once, in
            all and of one account, to one endpoint, to one host.
        webhook_networks: networks (127.0.0.0/8, ::1) to which webhooks may go besides the public internet.
        http: limits and deadlines of connections.
    """

    listen: str = "127.0.0.1:8080"
    link: str = "gateway"
    tokenizer_url: str = ""
    tokenizer_ca: str = ""
    sealing_keys: str = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    acquirer_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,11}$")] = "400001"
    terminal: Annotated[str, msgspec.Meta(min_length=8, max_length=8)] = "ECOM0001"
    max_in_flight: Count = 1000
    answer_timeout_s: Seconds = 6.0
    repeats: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    repeat_cap_s: Seconds = 30.0
    echo_s: Seconds = 30.0
    request_timeout_s: Seconds = 25.0
    claim_s: Seconds = 30.0
    max_body_bytes: Count = 65_536
    max_requests: Count = 1000
    requests_per_s: Seconds = 1000.0
    webhook_timeout_s: Seconds = 10.0
    webhook_tries: Count = 12
    webhook_backoff_s: Seconds = 2.0
    webhook_cap_s: Seconds = 3600.0
    max_deliveries: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64
    deliveries_per_account: Count = 8
    deliveries_per_endpoint: Count = 4
    deliveries_per_host: Count = 16
    webhook_networks: tuple[str, ...] = ()
    pool: Annotated[int, msgspec.Meta(ge=2, le=100)] = 8
    http: HttpConfig = HttpConfig()

    def problems(self) -> list[str]:
        """Everything wrong with it that types cannot say, one line each."""
        found = []
        try:
            address_of(self.listen)
        except ValueError as error:
            found.append(f"gateway.listen: {error}")
        try:
            networks(self.webhook_networks)
        except ValueError as error:
            found.append(f"gateway.webhook_networks: {error}")
        if self.tokenizer_url:
            found += _url_problems(self.tokenizer_url)
        if self.request_timeout_s <= self.answer_timeout_s:
            found.append("gateway.request_timeout_s: must be longer than answer_timeout_s")
        return found + self.http.problems("gateway.http")

    def webhook_destinations(self) -> tuple[Network, ...]:
        """`webhook_networks`, read. Raises ValueError where `problems` has found one."""
        return networks(self.webhook_networks)


def _url_problems(url: str) -> list[str]:
    scheme, _, place = url.rstrip("/").partition("://")
    try:
        host, _ = address_of(place if scheme != "https" or place.rpartition(":")[2].isdigit() else f"{place}:443")
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        return [f"gateway.tokenizer_url: {url!r} is not http://host:port or https://host:port"]
    if scheme == "http" and not (host in ("localhost", "::1") or host.startswith("127.")):
        return ["gateway.tokenizer_url: by http to another machine a secret would cross the network: use https"]
    return []
