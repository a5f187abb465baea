"""The limits of an HTTP server, one struct for all: `[gateway.http]` and `[tokenizer.http]` of the TOML file.

`gateway.config` and `hsm.tokenizer.config` hold it and report its problems; `web.server` serves by it.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Bytes = Annotated[int, msgspec.Meta(ge=256, le=1_048_576)]


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway.http]`, `[tokenizer.http]`.

    Args:
        max_connections: open at once, TLS handshakes included.
        connections_per_address: of one address (IPv6: /64), as long as they have shown no valid key.
        connections_per_account: of one account, by the key in their latest request.
        requests_per_account: requests of one account at once, those whose body is still arriving included.
        keyless_per_s, keyless_burst: requests without a valid key of one address (IPv6: /64), a second and at once.
        max_request_line_bytes, max_header_line_bytes, max_headers, max_head_bytes: of one request.
        header_timeout_s: from the connection, or the first byte of a later request, to the end of the headers.
        body_timeout_s: from the end of the headers to the end of the body.
        min_body_bytes_per_s: the slowest average rate of a body, after five seconds.
        idle_timeout_s: between two requests.
        tls_handshake_timeout_s: from the connection to the end of the handshake.
        send_timeout_s: longest time that a client may leave an answer unread that no longer fits into the buffers.
        trusted_proxies: networks of reverse proxies whose X-Forwarded-For counts.
    """

    max_connections: Count = 2_000
    connections_per_address: Count = 200
    connections_per_account: Count = 500
    requests_per_account: Count = 200
    keyless_per_s: Seconds = 50.0
    keyless_burst: Count = 200
    max_request_line_bytes: Bytes = 8_192
    max_header_line_bytes: Bytes = 16_384
    max_headers: Count = 100
    max_head_bytes: Bytes = 32_768
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    min_body_bytes_per_s: Seconds = 500.0
    idle_timeout_s: Seconds = 60.0
    tls_handshake_timeout_s: Seconds = 10.0
    send_timeout_s: Seconds = 20.0
    trusted_proxies: tuple[str, ...] = ()

    def problems(self, section: str) -> list[str]:
        """Return a line for each thing that is wrong; types and ranges have been checked by msgspec where from TOML.

        Args:
            section: the name of the table, such as "gateway.http".
        """
        found = []
        for name, value in msgspec.structs.asdict(self).items():
            if isinstance(value, int | float) and value <= 0:
                found.append(f"{section}.{name}: must be greater than zero")
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                found.append(f"{section}.trusted_proxies: {network!r} is not a network such as 10.0.0.0/8")
        for name in ("max_request_line_bytes", "max_header_line_bytes"):
            if getattr(self, name) > self.max_head_bytes:
                found.append(f"{section}.{name}: is greater than max_head_bytes ({self.max_head_bytes})")
        if self.connections_per_address > self.max_connections:
            found.append(f"{section}.connections_per_address: is greater than max_connections ({self.max_connections})")
        return found

    def files_needed(self) -> int:
        """Return how many file descriptors a process with these limits may need, its own ones included."""
        return self.max_connections + SPARE_FILES


SPARE_FILES = 128
