"""Headers for browsers: CORS for exactly the configured origins, and the security headers of every answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hsm.software import SoftwareHsm
from tests.hsm.tokenizer.endpoint_calls import FORM, KEY, call, run

SHOP = "https://shop.example"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def preflight(origin: str, origins: tuple[str, ...], path: str = "/v1/tokens") -> httpx.Response:
    return call("OPTIONS", path, headers={"Origin": origin, **ASKED}, run_with={"origins": origins})


@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/payment_methods"])
@pytest.mark.parametrize(
    ("origins", "origin", "granted"),
    [
        (("*",), SHOP, "*"),
        (("*",), "null", "*"),
        ((SHOP,), SHOP, SHOP),
        ((SHOP, "http://localhost:3000"), "http://localhost:3000", "http://localhost:3000"),
        ((SHOP,), "https://shop.example.evil.example", None),
        ((SHOP,), "https://evil-shop.example", None),
        ((SHOP,), "https://sub.shop.example", None),
        ((SHOP,), "http://shop.example", None),
        ((SHOP,), "https://shop.example:8443", None),
        ((SHOP,), "https://SHOP.example", None),
        ((SHOP,), "null", None),
        ((SHOP,), "", None),
    ],
)
def test_origins(origins: tuple[str, ...], origin: str, granted: str | None, path: str) -> None:
    before = preflight(origin, origins, path)
    assert before.status_code == (204 if granted else 403)
    assert before.headers.get("access-control-allow-origin") == granted
    actual = call("POST", path, data=FORM, headers=KEY | {"Origin": origin}, run_with={"origins": origins})
    assert actual.headers.get("access-control-allow-origin") == granted
    for answer in (before, actual):
        assert "access-control-allow-credentials" not in answer.headers
        assert ("Origin" in answer.headers.get("vary", "")) == (origins != ("*",))
    if granted:
        assert before.headers["access-control-allow-methods"] == "GET, POST"
        assert "Authorization" in before.headers["access-control-allow-headers"]
        assert "Request-Id" in actual.headers["access-control-expose-headers"]


def test_errors_can_be_read_by_the_page_too() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        statuses = []
        for headers in (KEY, {}, KEY, KEY):
            answer = await client.post("/v1/tokens", data={}, headers=headers | {"Origin": SHOP})
            statuses.append(answer.status_code)
            assert answer.headers["access-control-allow-origin"] == SHOP
        assert statuses == [400, 401, 400, 429]

    run(test, origins=(SHOP,), rate_per_s=0.1, burst=2)


@pytest.mark.parametrize("path", ["/internal/resolve", "/metrics", "/readyz", "/healthz", "/fields"])
def test_nothing_else_is_open_to_other_pages(path: str) -> None:
    for origins in (("*",), (SHOP,)):
        assert preflight(SHOP, origins, path).status_code == 405
        answer = call("GET", path, headers={"Origin": SHOP}, run_with={"origins": origins})
        assert "access-control-allow-origin" not in answer.headers


def test_answers_without_an_origin_vary_too() -> None:
    answer = call("POST", "/v1/tokens", data=FORM, run_with={"origins": (SHOP,)})
    assert (answer.status_code, answer.headers["vary"]) == (200, "Origin")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/tokens", 400),
        ("GET", "/v1/tokens/tok_0", 403),
        ("POST", "/internal/resolve", 401),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nothing", 404),
        ("DELETE", "/v1/tokens", 405),
        ("GET", "/fields", 400),
        ("GET", f"/fields?origin={SHOP}", 200),
        ("GET", "/fields.js", 200),
    ],
)
def test_every_answer_has_them(method: str, path: str, status: int) -> None:
    answer: Any = call(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "strict-transport-security" not in answer.headers  # not by http: browsers would ignore it
    assert "server" not in answer.headers
