"""Card fields in Chromium: a merchant's page on another origin gets a token, pays with it, and never has the card.

The page is the one of docs/card-fields.md, the system is the real one, the payment is made by the `stripe` package.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Frame, Page, Request, Route, expect, sync_playwright

from console.supervisor import System
from tests.e2e.merchant import Merchant
from tests.e2e.test_readme import blocks, here
from tests.hsm.tokenizer.tokenizer_process import serving

CHROMIUM = Path("/usr/bin/chromium")
PAN, WRONG, AMEX = "4242424242424242", "4242424242424241", "378282246310005"
SPACED = "4242 4242 4242 4242"
DECLINED = "4000000000000002"
PATIENCE_MS = 15_000

pytestmark = [
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed"),
]

# Runs in the merchant's page before anything else: keeps every message that arrives, and says what the page ends with.
RECORDER = """
window.__messages = [];
window.addEventListener("message", (event) => window.__messages.push(JSON.stringify(event.data)));
"""


class MerchantSite:
    """A merchant's web server: the documented page, and /pay with the documented function."""

    def __init__(self, page: str, pay: Any) -> None:
        self.received: list[bytes] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(page if self.path == "/" else "", "text/html; charset=utf-8")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                site.received.append(body)
                self.answer(pay(parse_qs(body.decode())["token"][0]), "text/plain")

            def answer(self, text: str, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://localhost:{self._server.server_address[1]}"  # the tokenizer is another site: 127.0.0.1
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def site(system: System, merchant: Merchant) -> Iterator[MerchantSite]:
    """The page and the function of docs/card-fields.md, with this system's addresses and keys."""
    (page,) = blocks("In a page", "html", "docs/card-fields.md")
    (code,) = blocks("In a page", "python", "docs/card-fields.md")
    names: dict[str, Any] = {}
    exec(code, names)
    shown = here(page, system).replace("pk_test_YOUR_PUBLISHABLE_KEY", merchant.publishable_key)
    made = MerchantSite(shown, lambda token: names["pay"](merchant.key, token, merchant.gateway))
    yield made
    made.close()


class Watched:
    """A page that is being watched: every request of every frame with its body, and every line on its console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[Request] = []
        self.console: list[str] = []
        page.context.on("request", lambda request: self.requests.append(request))
        page.on("console", lambda line: self.console.append(line.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.add_init_script(RECORDER)
        page.set_default_timeout(PATIENCE_MS)

    @property
    def fields(self) -> Frame:
        """The frame with the card fields, once they can be used."""
        element = self.page.wait_for_selector("#card iframe")
        frame = element.content_frame() if element is not None else None
        assert frame is not None
        frame.wait_for_selector("#number")
        return frame

    def fill(self, pan: str = PAN, expiry: str = "1231", cvc: str = "123") -> None:
        """Type as a person does."""
        for name, text in (("number", pan), ("expiry", expiry), ("cvc", cvc)):
            self.fields.locator(f"#{name}").click()
            self.page.keyboard.type(text)

    def of_the_merchants_page(self) -> str:
        """All that the merchant's side of the browser holds or has sent: DOM, values, storage, messages, network."""
        held = self.page.evaluate(
            """() => JSON.stringify([
                document.documentElement.outerHTML, [...document.querySelectorAll("input")].map((input) => input.value),
                window.__messages, {...localStorage}, {...sessionStorage}, document.cookie, location.href,
                performance.getEntries().map((entry) => entry.name),
            ])"""
        )
        sent = [
            f"{request.url} {request.post_data} {request.headers}"
            for request in self.requests
            if request.frame == self.page.main_frame or not request.url.endswith("/v1/tokens")
        ]
        return "\n".join([held, *sent, *self.console])


@contextmanager
def watched(browser: Browser, url: str, **context: Any) -> Iterator[Watched]:
    opened = browser.new_context(**context)
    try:
        one = Watched(opened.new_page())
        one.page.goto(url)
        yield one
    finally:
        opened.close()


def test_a_card_is_paid_with_and_the_merchants_page_never_has_it(
    browser: Browser, site: MerchantSite, merchant: Merchant
) -> None:
    with watched(browser, site.url) as shown:
        shown.fill()
        expect(shown.fields.locator("#brand")).to_have_text("Visa")
        expect(shown.fields.locator("#number")).to_have_value(SPACED)
        expect(shown.fields.locator("#expiry")).to_have_value("12 / 31")
        shown.page.click("button")
        expect(shown.page.locator("#message")).to_have_text("succeeded")
        messages = [json.loads(text) for text in shown.page.evaluate("window.__messages")]
        everything = shown.of_the_merchants_page()
        posted = [request for request in shown.requests if request.url.endswith("/v1/tokens")]
        with pytest.raises(Exception, match=r"cross-origin|SecurityError"):
            shown.page.evaluate("window.frames[0].document.body.innerHTML")

    (token,) = [message["token"] for message in messages if message["type"] == "token"]
    assert token == {"id": token["id"], "brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2031}
    assert site.received == [f"token={token['id']}".encode()]
    # The number went to the tokenizer, from its own frame, once; so this test would see it elsewhere.
    assert [request.url for request in posted] == [f"{merchant.tokenizer}/v1/tokens"]
    assert PAN in (posted[0].post_data or "") and posted[0].frame.url.startswith(f"{merchant.tokenizer}/fields?")
    assert token["id"] in everything
    for digits in (PAN, SPACED, PAN[:12], "4242 4242 4"):
        assert digits not in everything
    kinds = {message["type"] for message in messages}
    assert kinds == {"ready", "resize", "change", "token"}
    for message in messages:
        assert not re.search(r"\d{5}", re.sub(r'"id": "\w+"', "", json.dumps(message))), message


def test_a_declined_card_and_another_try(browser: Browser, merchant: Merchant, site: MerchantSite) -> None:
    import stripe

    with watched(browser, site.url) as shown:
        shown.fill(DECLINED)
        token = shown.page.evaluate("fields.tokenize()")
        with pytest.raises(stripe.CardError):
            merchant.stripe.v1.payment_intents.create(
                {
                    "amount": 999,
                    "currency": "eur",
                    "confirm": True,
                    "payment_method_data": {"type": "card", "card": {"token": token["id"]}},
                }
            )
        shown.page.evaluate("fields.clear()")
        expect(shown.fields.locator("#number")).to_have_value("")
        shown.fill()
        shown.page.click("button")
        expect(shown.page.locator("#message")).to_have_text("succeeded")


@pytest.mark.parametrize(
    ("pan", "expiry", "cvc", "field", "code"),
    [
        (WRONG, "1231", "123", "number", "incorrect_number"),
        ("42424242", "1231", "123", "number", "incomplete_number"),
        (PAN, "0120", "123", "expiry", "expired_card"),
        (PAN, "1331", "123", "expiry", "invalid_expiry"),
        (PAN, "1", "123", "expiry", "incomplete_expiry"),
        (PAN, "1231", "12", "cvc", "incomplete_cvc"),
        (AMEX, "1231", "123", "cvc", "incomplete_cvc"),
    ],
)
def test_mistakes_are_shown_where_they_are_and_send_nothing(
    pan: str, expiry: str, cvc: str, field: str, code: str, browser: Browser, site: MerchantSite
) -> None:
    with watched(browser, site.url) as shown:
        shown.fill(pan, expiry, cvc)
        failure = shown.page.evaluate("fields.tokenize().catch((error) => [error.code, error.field, error.message])")
        assert failure[:2] == [code, field]
        expect(shown.fields.locator(f"#{field}-error")).to_have_text(failure[2])
        expect(shown.fields.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        expect(shown.fields.locator(f"#{field}")).to_be_focused()
        expect(shown.page.locator("#message")).to_have_text(failure[2])
        assert not [request for request in shown.requests if "/v1/" in request.url]
        assert pan not in shown.of_the_merchants_page()


def test_by_keyboard_alone(browser: Browser, site: MerchantSite) -> None:
    with watched(browser, site.url) as shown:
        shown.page.evaluate("fields.focus()")
        expect(shown.fields.locator("#number")).to_be_focused()
        shown.page.keyboard.type(f"{PAN}1231123")  # each field goes on to the next when it is full
        assert [shown.fields.input_value(f"#{name}") for name in ("number", "expiry", "cvc")] == [
            *(SPACED, "12 / 31", "123"),
        ]
        for _ in range(3):
            shown.page.keyboard.press("Backspace")
        shown.page.keyboard.press("Backspace")  # and back, where it is empty
        expect(shown.fields.locator("#expiry")).to_be_focused()
        shown.page.keyboard.press("Tab")
        shown.page.keyboard.type("321")
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_function("window.__messages.some((text) => JSON.parse(text).type === 'token')")


def test_a_script_that_gets_into_the_frame_does_not_run(browser: Browser, site: MerchantSite) -> None:
    with watched(browser, site.url) as shown:
        violations = shown.fields.evaluate(
            """async (elsewhere) => {
                const seen = [];
                window.injected = null;
                document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
                const attempts = [
                    () => {
                        const script = document.createElement("script");
                        script.append("window.injected = 1");
                        document.body.append(script);
                    },
                    () => { document.body.innerHTML += '<img src=x onerror="window.injected = 2">'; },
                    () => document.querySelector("form").setAttribute("onclick", "window.injected = 3"),
                    () => eval("window.injected = 4"),
                    () => fetch(elsewhere + "/?stolen").catch(() => {}),
                    () => { new Image().src = elsewhere + "/?stolen"; },
                    () => navigator.sendBeacon(elsewhere + "/?stolen"),
                    () => {
                        const form = document.createElement("form");
                        form.action = elsewhere;
                        document.body.append(form);
                        form.submit();
                    },
                ];
                // Each in a task of its own: what a debugger runs may do what the policy forbids the page.
                for (const attempt of attempts) {
                    await new Promise((resolve) => setTimeout(() => {
                        try { attempt(); } catch (error) { seen.push(error.name); }
                        resolve();
                    }));
                }
                document.querySelector("form").click();
                await new Promise((resolve) => setTimeout(resolve, 300));
                return [...seen, window.injected];
            }""",
            site.url,
        )
        assert violations[-1] is None, violations
        expected = {"require-trusted-types-for", "EvalError", "connect-src", "img-src", "form-action"}
        assert expected <= set(violations), violations
        assert not [request for request in shown.requests if "stolen" in request.url and request.failure is None]
        assert not site.received


def test_a_script_that_gets_into_the_html_does_not_run(browser: Browser, site: MerchantSite) -> None:
    injected = b'<script>window.injected = 1</script><p id="bad" onclick="window.injected = 2" style="color: red">x</p>'

    with watched(browser, site.url) as shown:

        def inject(route: Route) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, body=answer.body().replace(b"</form>", b"</form>" + injected))

        shown.page.route("**/fields?*", inject)
        shown.page.reload()
        shown.fill()
        shown.fields.click("#bad")
        assert shown.fields.evaluate("window.injected") is None
        assert shown.fields.evaluate("getComputedStyle(document.querySelector('#bad')).color") != "rgb(255, 0, 0)"
        blocked = [line for line in shown.console if "Content Security Policy" in line]
        assert any("inline script" in line for line in blocked) and any("event handler" in line for line in blocked)
        assert shown.page.evaluate("fields.tokenize()")["last4"] == "4242"  # our own script ran


def test_pages_that_are_not_the_parent_are_not_listened_to(browser: Browser, site: MerchantSite) -> None:
    """A frame that names another origin as its parent says nothing to this page and takes no orders from it."""
    with watched(browser, site.url) as shown:
        shown.fields.wait_for_selector("#number")
        shown.page.evaluate(
            """() => new Promise((resolve) => {
                const frame = document.querySelector("#card iframe").cloneNode();
                frame.src = frame.src.replace(encodeURIComponent(location.origin), encodeURIComponent("https://b.example"));
                window.__messages.length = 0;
                frame.addEventListener("load", () => {
                    frame.contentWindow.postMessage({ cardswitch: 1, type: "focus" }, "*");
                    setTimeout(resolve, 300);
                });
                document.body.append(frame);
            })"""
        )
        assert shown.page.evaluate("window.__messages") == []
        other = next(frame for frame in shown.page.frames if "b.example" in frame.url)
        assert other.evaluate("document.activeElement.id") != "number"


def test_a_page_that_is_not_configured_cannot_show_the_fields(browser: Browser, tmp_path: Path) -> None:
    """Not even by naming an origin that is."""
    with serving(tmp_path, origins=("https://shop.example",)) as tokenizer:
        frame = f'<iframe src="{tokenizer.url}/fields?origin=https://shop.example"></iframe>'
        site = MerchantSite(f"<!doctype html><title>evil</title>{frame}", lambda token: "")
        try:
            with watched(browser, site.url) as shown:
                shown.page.wait_for_load_state("networkidle")
                assert [request.failure for request in shown.requests if "/fields" in request.url] != [None]
                assert any("frame-ancestors" in line for line in shown.console), shown.console
                assert all(frame.query_selector("#number") is None for frame in shown.page.frames)
        finally:
            site.close()


def test_messages_of_others_make_no_token(browser: Browser, site: MerchantSite) -> None:
    """The loader believes the fields' frame only: not the page's own scripts, not another frame."""
    with watched(browser, site.url) as shown:
        shown.fill()
        heard = shown.page.evaluate(
            """() => new Promise((resolve) => {
                const promise = fields.tokenize();
                const forged = { cardswitch: 1, type: "token", token: { id: "tok_forged" } };
                window.postMessage(forged, location.origin);
                const frame = document.createElement("iframe");
                frame.srcdoc = `<script>parent.postMessage(${JSON.stringify(forged)}, "*")</` + "script>";
                document.body.append(frame);
                promise.then((token) => resolve(token.id));
            })"""
        )
        assert heard.startswith("tok_") and heard != "tok_forged"


def test_mistakes_of_the_merchant_are_said(browser: Browser, site: MerchantSite) -> None:
    with watched(browser, site.url) as shown:
        attempt = (
            "(options) => { try { cardswitch.fields(options); return ''; } catch (error) { return error.message; } }"
        )
        good = {"key": "pk_test_1", "mount": "#card"}
        for options, said in (
            ({"key": "sk_test_1", "mount": "#card"}, "secret key"),
            ({"key": "pk_1", "mount": "#card"}, "publishable key"),
            ({**good, "mount": "#none"}, "mount"),
            ({**good, "colour": "red"}, "unknown option colour"),
            ({**good, "theme": {"colour": "red"}}, "unknown theme colour"),
            ({**good, "create": "charge"}, "create"),
            ({**good, "onToken": 1}, "onToken is a function"),
        ):
            assert said in shown.page.evaluate(attempt, options)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_on_a_telephone_with_a_theme(mode: str, browser: Browser, site: MerchantSite) -> None:
    with watched(browser, site.url, viewport={"width": 360, "height": 640}, has_touch=True) as shown:
        theme = {"mode": mode, "accent": "#0A7F5A", "size": 18, "radius": 0}
        shown.page.evaluate(
            "(theme) => { fields.destroy();"
            " window.other = cardswitch.fields({key: 'pk_test_1', mount: '#card', theme}) }",
            theme,
        )
        frame = shown.fields
        frame.wait_for_function("getComputedStyle(document.documentElement).getPropertyValue('--accent') === '#0a7f5a'")
        assert frame.evaluate("getComputedStyle(document.body).fontSize") == "18px"
        assert frame.evaluate("document.documentElement.classList.contains('dark')") == (mode == "dark")
        assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
        height = frame.evaluate("Math.ceil(document.body.getBoundingClientRect().height)")
        expect(shown.page.locator("#card iframe")).to_have_css("height", f"{height}px")
        # An unknown key is the merchant's mistake, and said as one: the customer cannot mend it.
        shown.fill()
        assert shown.page.evaluate("other.tokenize().catch((error) => error.code)") == "invalid_request_error"


def test_a_payment_method_instead_of_a_token(browser: Browser, site: MerchantSite, merchant: Merchant) -> None:
    with watched(browser, site.url) as shown:
        shown.page.evaluate(
            "(key) => { fields.destroy(); "
            "window.other = cardswitch.fields({key, mount: '#card', create: 'payment_method'}) }",
            merchant.publishable_key,
        )
        shown.fill()
        made = shown.page.evaluate("other.tokenize()")
    assert made["id"].startswith("pm_")
    for _ in range(2):  # not used up by the first
        intent = merchant.stripe.v1.payment_intents.create(
            {"amount": 700, "currency": "eur", "confirm": True, "payment_method": made["id"]}
        )
        assert intent.status == "succeeded"
