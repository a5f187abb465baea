"""The tokenizer by TLS: real processes, a certificate authority made by the test, certificates that change."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from gateway.errors import ConfigurationError as GatewayConfigurationError
from gateway.errors import TokenizerUnavailable
from gateway.tokenizer import Tokenizer
from hsm.errors import ConfigurationError
from hsm.tokenizer.certificates import Certificate
from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.server import _bind, internal_secret
from tests.hsm.tokenizer.certificates import Authority
from tests.hsm.tokenizer.tokenizer_process import TokenizerProcess, serving
from web.config import HttpConfig


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> dict[str, str]:
    """The two settings."""
    certificate, private_key = tmp_path / "server.pem", tmp_path / "server.key"
    authority.issue(certificate, private_key)
    return {"certificate": str(certificate), "private_key": str(private_key)}


@pytest.fixture
def tokenizer(tmp_path: Path, files: dict[str, str]) -> Iterator[TokenizerProcess]:
    with serving(tmp_path / "state", **files) as process:
        yield process


def shaken(port: int, context: ssl.SSLContext) -> tuple[int, str]:
    """A handshake: the serial number that is served, and the protocol's version."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        seen = secured.getpeercert(binary_form=True)
        assert seen is not None
        return x509.load_der_x509_certificate(seen).serial_number, secured.version() or ""


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_by_https_with_verification_and_hsts(tokenizer: TokenizerProcess, authority: Authority) -> None:
    with httpx.Client(base_url=tokenizer.url, verify=authority.trust(), trust_env=False) as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, "max-age=31536000")
        assert client.post("/v1/tokens").headers["strict-transport-security"]
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{tokenizer.url}/healthz", trust_env=False)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{tokenizer.port}/healthz", trust_env=False)


def test_versions_of_tls(tokenizer: TokenizerProcess, authority: Authority) -> None:
    assert shaken(tokenizer.port, authority.trust())[1] == "TLSv1.3"
    twelve = authority.trust()
    twelve.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shaken(tokenizer.port, twelve)[1] == "TLSv1.2"
    twelve.set_ciphers("AES128-SHA256:ECDHE-ECDSA-AES128-SHA256")  # no forward secrecy; no authenticated encryption
    with pytest.raises(ssl.SSLError):
        shaken(tokenizer.port, twelve)
    assert Certificate(*_settings(tokenizer)).context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("how", ["poll", "signal"])
def test_a_new_certificate_is_taken_and_open_connections_go_on(
    how: str, tokenizer: TokenizerProcess, authority: Authority, files: dict[str, str]
) -> None:
    trust = authority.trust()
    before, _ = shaken(tokenizer.port, trust)
    with httpx.Client(base_url=tokenizer.url, verify=trust, trust_env=False) as client:
        client.get("/healthz")
        (connection,) = client._transport._pool.connections  # type: ignore[attr-defined]
        serial = authority.issue(Path(files["certificate"]), Path(files["private_key"]))
        if how == "signal":
            tokenizer.signal(signal.SIGHUP)
        eventually(lambda: shaken(tokenizer.port, trust)[0] == serial)
        assert client.get("/healthz").status_code == 200
        assert client._transport._pool.connections == [connection]  # type: ignore[attr-defined]
    assert serial != before


def test_a_certificate_that_cannot_be_used_changes_nothing(
    tokenizer: TokenizerProcess, authority: Authority, files: dict[str, str], tmp_path: Path
) -> None:
    trust = authority.trust()
    before, _ = shaken(tokenizer.port, trust)
    for break_it in (
        lambda: authority.issue(Path(files["certificate"]), tmp_path / "other.key"),  # not the key of the certificate
        lambda: Path(files["certificate"]).write_text("nothing"),
        lambda: Path(files["private_key"]).unlink(),
    ):
        seen = tokenizer.log.count("certificate_refused")
        break_it()
        tokenizer.signal(signal.SIGHUP)
        eventually(lambda seen=seen: tokenizer.log.count("certificate_refused") > seen)  # type: ignore[misc]
        assert shaken(tokenizer.port, trust)[0] == before
    serial = authority.issue(Path(files["certificate"]), Path(files["private_key"]))
    tokenizer.signal(signal.SIGHUP)
    eventually(lambda: shaken(tokenizer.port, trust)[0] == serial)
    assert "PRIVATE KEY" not in tokenizer.log


def test_an_end_that_is_near_and_a_key_that_all_can_read_are_said(tmp_path: Path, authority: Authority) -> None:
    certificate, private_key = tmp_path / "short.pem", tmp_path / "short.key"
    authority.issue(certificate, private_key, days=3)
    private_key.chmod(0o644)
    with serving(tmp_path / "state", certificate=str(certificate), private_key=str(private_key)) as process:
        assert "certificate_ends_soon" in process.log and "private_key_open" in process.log


def test_files_that_are_none_are_named(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.certificate.*No such file"):
        Certificate(str(tmp_path / "none.pem"), files["private_key"])
    with pytest.raises(ConfigurationError, match=r"tokenizer\.certificate"):
        Certificate(files["private_key"], files["certificate"])


def test_a_key_that_goes_while_it_is_read_is_refused_and_following_goes_on(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, read = Certificate(**files), x509.load_pem_x509_certificates

    def read_while_the_key_goes(data: bytes) -> list[x509.Certificate]:
        Path(files["private_key"]).unlink()
        return read(data)

    monkeypatch.setattr(x509, "load_pem_x509_certificates", read_while_the_key_goes)
    assert certificate.reload() is False


def test_an_address_without_a_host_does_not_listen_on_all() -> None:
    with pytest.raises(ValueError, match="host:port"):
        _bind(":0")


def test_handshakes_that_stall_take_no_place_from_others(
    tmp_path: Path, authority: Authority, files: dict[str, str]
) -> None:
    """They count before the handshake: the oldest makes room."""
    http = HttpConfig(max_connections=20, connections_per_address=10, tls_handshake_timeout_s=2.0)
    with serving(tmp_path / "state", http=http, **files) as process:
        stalled = [
            socket.create_connection(("127.0.0.1", process.port), 10, (f"127.0.1.{1 + number // 5}", 0))
            for number in range(60)
        ]
        stalled[-1].sendall(b"\x16\x03\x01")
        with httpx.Client(verify=authority.trust(), trust_env=False) as client:
            for _ in range(5):
                assert client.get(f"{process.url}/healthz").status_code == 200
            shown = client.get(f"{process.url}/metrics").text
        assert 'cardswitch_tokenizer_http_connections_closed_total{reason="made_room"}' in shown
        for connection in (stalled[0], stalled[-1]):  # for another one, and by the clock
            with contextlib.suppress(ConnectionError):
                while connection.recv(100):
                    pass
        for connection in stalled:
            connection.close()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"listen": "0.0.0.0:443", "url": "https://a.example"}, "can be reached from other machines"),
        ({"listen": "192.0.2.1:443"}, "can be reached from other machines"),
        ({"listen": "tokens.example:443"}, "can be reached from other machines"),
        ({"listen": "[::]:443", "behind_proxy": True}, "tokenizer.url: missing"),
        ({"listen": "127.0.0.1:443", "behind_proxy": True}, "tokenizer.url: missing"),
        ({"certificate": "a.pem"}, "needs private_key"),
        ({"private_key": "a.pem"}, "needs private_key"),
        ({"url": "https://tokens.example/path"}, "tokenizer.url"),
        ({"url": "http://tokens.example", "behind_proxy": True}, "must be https"),
        ({"url": "http://tokens.example", "certificate": "a.pem", "private_key": "a.key"}, "must be https"),
        ({"origins": ("https://shop.example/",)}, "is not an origin"),
        ({"origins": ("https://*.example",)}, "is not an origin"),
        ({"origins": ("https://Shop.example",)}, "is not an origin"),
        ({"origins": ("null",)}, "is not an origin"),
        ({"origins": ()}, "is empty"),
        ({"internal_networks": ("10.0.0.0/99",)}, "is not a network"),
        ({"rate_per_s": 0.0}, "tokenizer.rate_per_s"),
        ({"request_timeout_s": 15.0}, "tokenizer.request_timeout_s: is now header_timeout_s"),
        ({"http": HttpConfig(idle_timeout_s=-1.0)}, "tokenizer.http.idle_timeout_s"),
        ({"http": HttpConfig(trusted_proxies=("10.0.0.0/99",))}, "tokenizer.http.trusted_proxies"),
    ],
)
def test_what_is_refused_before_anything_listens(settings: dict[str, Any], problem: str) -> None:
    problems = TokenizerConfig(**settings).problems()
    assert any(problem in line for line in problems), problems


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"listen": "[::1]:8081"},
        {"listen": "localhost:8081"},
        {"listen": "0.0.0.0:443", "certificate": "a.pem", "private_key": "a.key", "url": "https://tokens.example"},
        {"listen": "0.0.0.0:8081", "behind_proxy": True, "url": "https://tokens.example:8443"},
        {"origins": ("https://shop.example", "http://localhost:3000", "https://[2001:db8::1]:8443")},
    ],
)
def test_what_may_be_set(settings: dict[str, Any]) -> None:
    assert TokenizerConfig(**settings).problems() == []


def test_the_gateway_asks_by_https(tokenizer: TokenizerProcess, authority: Authority, tmp_path: Path) -> None:
    secret = internal_secret(tokenizer.state)

    async def run() -> None:
        trusting = Tokenizer("https://tokens.example", secret, tokenizer.url, str(authority.file))
        try:
            # It was reached and has refused: there is no HSM behind it.
            with pytest.raises(TokenizerUnavailable, match="status 503"):
                await trusting.resolve("pm_card_visa", "acct_1", "", "abcdef0123456789")
            assert trusting.url == "https://tokens.example"
        finally:
            await trusting.close()
        doubting = Tokenizer(tokenizer.url, secret)
        try:
            with pytest.raises(TokenizerUnavailable, match="ConnectError"):
                await doubting.resolve("pm_card_visa", "acct_1", "", "abcdef0123456789")
        finally:
            await doubting.close()

    asyncio.run(run())
    for name in ("none.pem", "state/tokenizer.log"):
        with pytest.raises(GatewayConfigurationError, match=r"gateway\.tokenizer_ca"):
            Tokenizer(tokenizer.url, secret, "", str(tmp_path / name))


def _settings(tokenizer: TokenizerProcess) -> tuple[str, str]:
    folder = tokenizer.state.parent
    return str(folder / "server.pem"), str(folder / "server.key")
