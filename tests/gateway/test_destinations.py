"""Webhooks go to the public internet only: addresses in every spelling, checked where they are connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.doctor import OK, WARNING, webhook_finding
from gateway.config import GatewayConfig
from gateway.delivery import REFUSED, Deliverer, Due
from gateway.destinations import Resolver, _getaddrinfo, chosen, literal, networks, permitted, plainly_refused
from gateway.endpoints import check_url
from gateway.errors import ApiError
from gateway.metrics import Metrics
from gateway.sealing import Sealer
from gateway.shares import Waiting
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import eventually
from tests.gateway.stubs import Sink
from tests.switch.links.certificates import Forge

LOOPBACK = networks(["127.0.0.0/8", "::1"])
INTERNAL = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:10.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "100::1"),
    *("2001::1", "2001:0:4136:e378::1", "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"),
    *("192.0.0.192", "192.0.0.9", "192.88.99.1", "::ffff:192.0.0.192"),
    *("fe80::1%eth0", "2606:4700::1%1", "ff02::1", "ff0e::1", "5f00::1", "4000::1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "169.253.0.1", "9.255.255.255"),
    *("2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"),
]
# Hosts of URLs that mean an internal address, and would be taken for names or for something else.
SPELLINGS = [
    *(
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
    ),
    *("0", "0x0", "00.0.0.0", "10.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[fd00:ec2::254]", "[fe80::1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local"),
    *("db", "metadata.google.internal", "router.home.arpa", "localhost.localdomain", "127%2e0%2e0%2e1"),
]


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused(address: str) -> None:
    assert not permitted(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert permitted(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("host", SPELLINGS)
def test_an_endpoint_with_an_internal_host_is_refused_in_any_spelling(host: str) -> None:
    for url in (f"http://{host}/", f"https://{host}:8443/hook"):
        with pytest.raises(ApiError) as refused:
            check_url(url)
        assert refused.value.code == "url_invalid"


@pytest.mark.parametrize("port", [0, 1, 22, 25, 53, 81, 444, 587, 1023])
def test_ports_of_other_services_are_refused(port: int) -> None:
    for host in ("hooks.example", "8.8.8.8"):
        with pytest.raises(ApiError):
            check_url(f"https://{host}:{port}/")


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example/a?b=c", "http://hooks.example:8080/", "https://8.8.8.8/", "https://xn--bcher-kva.example/"],
)
def test_addresses_on_the_internet_are_taken(url: str) -> None:
    check_url(url)


def test_networks_that_the_configuration_allows() -> None:
    for host in ("127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"):
        assert not plainly_refused(host.strip("[]"), 4242, LOOPBACK)
    for host in ("10.0.0.1", "169.254.169.254", "fd00:ec2::254"):
        assert plainly_refused(host, 4242, LOOPBACK)
    assert GatewayConfig(webhook_networks=("10.0.0.1/8",)).problems()[0].startswith("gateway.webhook_networks: ")
    assert GatewayConfig().webhook_networks == ()


def test_doctor_names_the_networks_that_are_open() -> None:
    closed = webhook_finding(GatewayConfig())
    assert (closed.state, closed.detail) == (OK, "public internet only")
    opened = webhook_finding(GatewayConfig(webhook_networks=("127.0.0.0/8", "::1")))
    assert opened.state == WARNING and "127.0.0.0/8, ::1" in opened.detail


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"]))
def test_an_address_inside_of_an_address_is_judged_by_itself(number: int, network: str) -> None:
    inner = ipaddress.IPv4Address(number)
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Network(network).network_address) | number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80))
    expected = permitted(inner, ())
    assert permitted(outer, ()) == permitted(six_to_four, ()) == expected
    assert not expected or (inner.is_global and not inner.is_private)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{:d}", "0x{:x}", "0{:o}"]))
def test_numbers_are_read_as_the_system_s_resolver_reads_them(number: int, form: str) -> None:
    assert literal(form.format(number)) == ipaddress.IPv4Address(number)


@given(st.integers(0, 2**128 - 1))
def test_no_ipv6_address_outside_the_global_range_is_permitted_by_itself(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if permitted(address, ()):
        assert address.is_global or address in ipaddress.IPv6Network("2002::/16")


def test_of_a_name_s_addresses_only_public_ones_are_left() -> None:
    assert chosen(["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1"], ()) == ["8.8.8.8", "2606:4700::1"]


def due(url: str) -> Due:
    return Due(1, 1, url, "whsec_x", "evt_1", b"{}", Waiting(1, "acct_1", "we_1", "hooks.example"))


def post(url: str, resolve: Any, *allowed: str, timeout_s: float = 5.0) -> str:
    async def run() -> str:
        config = GatewayConfig(webhook_networks=allowed, webhook_timeout_s=timeout_s)
        deliverer = Deliverer(None, config, Metrics(), asyncio.Event(), Sealer({1: bytes(32)}), Resolver(resolve))
        async with httpx.AsyncClient(trust_env=False) as client:
            return await deliverer._post(client, due(url), [])

    return asyncio.run(run())


def test_the_address_that_was_checked_is_connected_to_and_the_name_asked_for_once() -> None:
    receiver, asked = Sink(), []
    port = receiver.url.rpartition(":")[2]

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    try:
        assert post(f"http://hooks.example:{port}/a?b=c", resolve, "127.0.0.0/8") == "200"
        assert asked == ["hooks.example"]
        [(path, headers, _)] = receiver.calls
        assert (path, headers["host"]) == ("/a?b=c", f"hooks.example:{port}")
        assert post(f"http://hooks.example:{port}/", lambda *_: ["127.0.0.1"]) == REFUSED
        assert post(f"http://127.0.0.1:{port}/", _getaddrinfo) == REFUSED
        assert post(f"http://2130706433:{port}/", _getaddrinfo) == REFUSED
        assert post(f"http://localhost.:{port}/", _getaddrinfo) in (REFUSED, "gaierror")
        assert post("http://hooks.example:25/", lambda *_: ["127.0.0.1"], "127.0.0.0/8") == REFUSED
        assert len(receiver.calls) == 1
    finally:
        receiver.close()


def test_tls_asks_for_the_name_and_checks_the_certificate_against_it(tmp_path: Path) -> None:
    made = Forge(tmp_path).make("hooks.example", authority=True)  # it is for 127.0.0.1, too
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.private_key)
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def run() -> list[str]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        config = GatewayConfig(webhook_networks=("127.0.0.0/8",), webhook_timeout_s=5.0)
        resolver = Resolver(lambda *_: ["127.0.0.1"])
        deliverer = Deliverer(None, config, Metrics(), asyncio.Event(), Sealer({1: bytes(32)}), resolver)
        trusting = ssl.create_default_context(cafile=made.certificate)
        async with server, httpx.AsyncClient(trust_env=False, verify=trusting) as client:
            names = ("hooks.example", "other.example")
            return [await deliverer._post(client, due(f"https://{name}:{port}/"), []) for name in names]

    assert asyncio.run(run()) == ["204", "ConnectError"]
    assert asked == ["hooks.example", "other.example"]


def test_a_name_server_that_does_not_answer_costs_no_more_than_the_delivery_s_time() -> None:
    answered = threading.Event()

    def resolve(*_: Any) -> list[str]:
        answered.wait(10)
        return []

    try:
        assert post("http://hooks.example/", resolve, timeout_s=0.05) == "timeout"
    finally:
        answered.set()


def test_a_refused_address_looks_like_any_other_failure(gateway: Gateway) -> None:
    receiver = Sink()
    client = gateway.stripe()
    try:
        url = receiver.url.replace("127.0.0.1", "[::1]")
        made = gateway.post("/v1/webhook_endpoints", {"url": url, "enabled_events[]": "*"})
        assert made.json()["error"]["code"] == "url_invalid"
        endpoint = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
        # As a name would that comes to mean another address later.
        gateway.rows("UPDATE gateway.webhook_endpoints SET url = $1 WHERE id = $2", url, endpoint.id)
        client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
        eventually(lambda: gateway.rows("SELECT 1 FROM gateway.deliveries WHERE state = 'failed'"))
        [event] = gateway.get("/v1/events").json()["data"]
        assert event["pending_webhooks"] == 1  # not delivered, for any reason, and given up or not
        shown = msgspec.json.encode([event, gateway.get("/v1/webhook_endpoints").json()])
        assert b"refused" not in shown and b"Connect" not in shown
        assert receiver.calls == []
    finally:
        receiver.close()
