"""The card-fields page and its loader as they are served; tests/e2e/test_card_fields.py has a browser use them."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hsm.tokenizer.field_pages import loader_integrity
from messages.card_numbers import SCHEMES
from tests.hsm.tokenizer.endpoint_calls import call

ROOT = Path(__file__).parents[3]
SHOP = "https://shop.example"
SOURCES = ROOT / "hsm" / "tokenizer" / "fields"


def policy(*origins: str) -> dict[str, str]:
    answer = call("GET", f"/fields?origin={SHOP}", run_with={"origins": origins or (SHOP,)})
    return dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))


def test_the_policy_allows_this_page_to_do_what_it_does_and_nothing_else() -> None:
    found = policy()
    assert found["default-src"] == "'none'"
    assert found["connect-src"] == "'self'"
    assert found["base-uri"] == found["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", found["script-src"])
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", found["style-src"])
    assert found["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in str(found) and "http" not in str({**found, "frame-ancestors": ""})


def test_who_may_show_it_in_a_frame() -> None:
    assert policy(SHOP)["frame-ancestors"] == SHOP
    assert policy(SHOP, "https://b.example")["frame-ancestors"] == f"https://b.example {SHOP}"
    assert policy("*")["frame-ancestors"] == "*"


def test_script_and_style_are_those_of_the_hashes() -> None:
    page = call("GET", f"/fields?origin={SHOP}").text
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy()[directive] == f"'sha256-{digest}'"


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def elements() -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(call("GET", f"/fields?origin={SHOP}").text)
    return parser.found


def test_nothing_is_loaded_from_anywhere_and_no_handler_is_inline() -> None:
    for tag, attributes in elements():
        assert not {"src", "href", "action", "style", "srcdoc"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    text = "".join(path.read_text("utf-8") for path in SOURCES.iterdir())
    assert not re.search(r"https?://|@import|url\(|innerHTML|outerHTML|document\.write|\beval\b|new Function", text)


def test_fields_have_labels_errors_and_what_browsers_fill_in_by() -> None:
    found = elements()
    labels = {attributes["for"] for tag, attributes in found if tag == "label"}
    inputs = {attributes["id"]: attributes for tag, attributes in found if tag == "input"}
    ids = {attributes.get("id") for _, attributes in found}
    assert labels == set(inputs) == {"number", "expiry", "cvc"}
    assert [inputs[name]["autocomplete"] for name in ("number", "expiry", "cvc")] == ["cc-number", "cc-exp", "cc-csc"]
    for name, attributes in inputs.items():
        assert attributes["inputmode"] == "numeric"
        assert set(str(attributes["aria-describedby"]).split()) <= ids
        assert ("p", {"class": "error", "id": f"{name}-error", "role": "alert"}) in found
    assert dict(found)["html"] == {"lang": "en"} and "title" in dict(found)


@pytest.mark.parametrize(
    "query",
    [
        "mode=dark&font=serif&size=18&radius=0&accent=0a7f5a&text=112233&background=ffffff&border=cccccc&error=aa0000",
        "mode=auto",
        "radius=24",
    ],
)
def test_looks_that_can_be_chosen(query: str) -> None:
    assert call("GET", f"/fields?origin={SHOP}&{query}").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "",
        "origin=shop.example",
        "origin=https://shop.example/path",
        "origin=https://shop.example%0d%0aX:1",
        "origin=javascript:alert(1)",
        "origin=null",
        "origin=*",
        f"origin={SHOP}&origin={SHOP}",
        f"origin={SHOP}&accent=red",
        f"origin={SHOP}&accent=%23ff0000",
        f"origin={SHOP}&accent=ff0000;background:red",
        f"origin={SHOP}&size=200",
        f"origin={SHOP}&radius=-1",
        f"origin={SHOP}&mode=blue",
        f"origin={SHOP}&font=url(x)",
        f"origin={SHOP}&key=pk_test_1",
        f"origin={SHOP}&<script>=1",
    ],
)
def test_addresses_that_are_refused_and_not_repeated(query: str) -> None:
    answer = call("GET", f"/fields?{query}")
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("text/plain")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    for value in ("shop.example", "script>", "pk_test", "alert"):
        assert value not in answer.text


def test_a_page_that_is_not_configured_gets_none() -> None:
    answer = call("GET", "/fields?origin=https://evil.example", run_with={"origins": (SHOP,)})
    assert answer.status_code == 400


def test_the_page_has_nothing_of_the_request_in_it() -> None:
    first = call("GET", f"/fields?origin={SHOP}")
    second = call("GET", "/fields?origin=https://other.example&accent=0a7f5a")
    assert first.content == second.content and "shop.example" not in first.text


def test_caching() -> None:
    page = call("GET", f"/fields?origin={SHOP}")
    # Asked again each time: its headers say who may show it, and that can change.
    assert page.headers["cache-control"] == "no-cache"
    known = call("GET", f"/fields?origin={SHOP}", headers={"If-None-Match": page.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["content-security-policy"] == page.headers["content-security-policy"]
    assert call("GET", "/fields.js").headers["cache-control"] == "public, max-age=300"
    assert call("GET", "/fields").headers["cache-control"] == "no-store"


def test_the_loader_can_be_held_to_its_integrity() -> None:
    answer = call("GET", "/fields.js", headers={"Origin": SHOP}, run_with={"origins": (SHOP,)})
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "*"  # else a browser does not check it
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    digest = base64.b64encode(hashlib.sha384(answer.content).digest()).decode()
    assert loader_integrity() == f"sha384-{digest}"
    assert f'integrity="{loader_integrity()}"' in (ROOT / "docs" / "card-fields.md").read_text("utf-8")


def test_the_page_knows_the_brands_of_messages_card_numbers() -> None:
    (table,) = re.findall(r"const BRANDS = \[(.*?)\n  \];", (SOURCES / "card.js").read_text("utf-8"), re.DOTALL)
    assert tuple(re.findall(r'\["(\d+)", "(\d+)", "(\w+)"\]', table)) == tuple(row[:3] for row in SCHEMES)


def test_it_is_in_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(f"fields/*{suffix}" in text for suffix in {path.suffix for path in SOURCES.iterdir()})
