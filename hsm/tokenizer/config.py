"""The configuration of the tokenization endpoint: `[tokenizer]` of the one TOML file.

`console.config` fills the struct from the file and calls `problems`; `hsm.tokenizer.server` serves by it.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from messages.address import address_of
from web.config import HttpConfig

# An origin as a browser sends it: scheme, host, port where it is not the scheme's own. No path, no user, no *.
ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


class TokenizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[tokenizer]`: where card data is accepted.

    Args:
        listen: host:port.
        url: base address as browsers and merchants reach it; empty: made of `listen`.
        certificate, private_key: PEM files, the chain and its key; both or neither. With them the port uses TLS.
        behind_proxy: a reverse proxy of yours terminates TLS and is the only one who reaches `listen`; the last
            address in its X-Forwarded-For is taken for the client's.
        origins: pages that may call /v1 from a browser (CORS) and embed /fields; "*" for any, since a publishable
            key is no secret.
        internal_networks: where /internal, /metrics and /readyz are answered to; elsewhere they do not exist.
        max_body_bytes: longer requests are refused.
        rate_per_s, burst: requests a second of one client address, and how many at once after a pause.
        key_rate_per_s, key_burst: the same of one API key, over all addresses.
        refused_cards: different card numbers that one address may get wrong in ten minutes with a publishable key.
        http: limits and deadlines of connections.
        request_timeout_s, max_connections, connections_per_address: now in `http`; said in `problems`.
    """

    listen: str = "127.0.0.1:8081"
    url: str = ""
    certificate: str = ""
    private_key: str = ""
    behind_proxy: bool = False
    origins: tuple[str, ...] = ("*",)
    internal_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    max_body_bytes: int = 16_384
    rate_per_s: float = 50.0
    burst: int = 200
    key_rate_per_s: float = 500.0
    key_burst: int = 1_000
    refused_cards: int = 20
    http: HttpConfig = HttpConfig()
    request_timeout_s: float | None = None
    max_connections: int | None = None
    connections_per_address: int | None = None

    def problems(self) -> list[str]:
        """Return a line for each thing that is wrong with these values; empty if they can be used."""
        found = []
        try:
            address_of(self.listen)
        except ValueError as error:
            found.append(f"tokenizer.listen: {error}")
        else:
            if not (self.certificate or self.behind_proxy or self.on_loopback()):
                found.append(
                    f"tokenizer.listen: {self.listen} can be reached from other machines, and card data would cross "
                    "the network in the clear: set certificate and private_key, or behind_proxy = true where a proxy "
                    "of yours does TLS and nobody else reaches this port"
                )
            if not self.url and (self.behind_proxy or address_of(self.listen)[0] in ("0.0.0.0", "::")):
                found.append("tokenizer.url: missing: nobody calls by the address in listen, so say the one they use")
        if bool(self.certificate) != bool(self.private_key):
            found.append("tokenizer.certificate: needs private_key, and the other way round")
        if self.url and not ORIGIN.fullmatch(self.url):
            found.append(f"tokenizer.url: {self.url!r} is not https://host[:port], in lower case and without a path")
        if self.url.startswith("http:") and (self.certificate or self.behind_proxy):
            found.append("tokenizer.url: must be https, by which browsers reach a certificate or a proxy that has one")
        if not self.origins:
            found.append('tokenizer.origins: is empty; "*" for any origin')
        for origin in self.origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                found.append(f"tokenizer.origins: {origin!r} is not an origin: https://host[:port], in lower case")
        for network in self.internal_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                found.append(f"tokenizer.internal_networks: {network!r} is not a network such as 10.0.0.0/8")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                found.append(f"tokenizer.{name}: must be greater than zero")
        for name, successor in _MOVED.items():
            if getattr(self, name) is not None:
                found.append(f"tokenizer.{name}: is now {successor} in [tokenizer.http]")
        return found + self.http.problems("tokenizer.http")

    def on_loopback(self) -> bool:
        """Whether only this machine reaches `listen`."""
        host, _ = address_of(self.listen)
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def public_url(self) -> str:
        """The base address for merchants."""
        return self.url or f"{'https' if self.certificate else 'http'}://{self.listen}"


_MOVED = {
    "request_timeout_s": "header_timeout_s and body_timeout_s",
    "max_connections": "max_connections",
    "connections_per_address": "connections_per_address",
}
_POSITIVE = (
    "max_body_bytes",
    "rate_per_s",
    "burst",
    "key_rate_per_s",
    "key_burst",
    "refused_cards",
)
