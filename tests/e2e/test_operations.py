"""Operators' tools: health pages, metrics, the proof and the command line, on the running system."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import specs
from console.supervisor import System
from simulators.acquirer import Card
from simulators.book import BookLine, write_book
from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop, cardswitch

pytestmark = pytest.mark.xdist_group("e2e")

VISA = Card("4242424242424242", pin="1234")
POOR = Card("4000000000009995")
UNROUTED = Card("6011111111111117")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def pages(system: System, name: str) -> dict[str, str]:
    """URLs of /healthz, /readyz or /metrics by process."""
    addresses = system.addresses()
    found = {
        f"switch-{name_.removeprefix('metrics ')}": url.replace("/metrics", f"/{name}")
        for name_, url in addresses.items()
        if name_.startswith("metrics ")
    }
    assert len(found) == system.config.switch.workers
    return found | {process: f"{addresses[process]}/{name}" for process in ("gateway", "tokenizer")}


def samples(system: System, process: str = "") -> Samples:
    """All series, the workers' added up; of one process if one is named."""
    sums: Samples = {}
    for name, url in pages(system, "metrics").items():
        if name.startswith(process):
            text = httpx.get(url, trust_env=False).raise_for_status().text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    key = (sample.name, frozenset(sample.labels.items()))
                    sums[key] = sums.get(key, 0) + sample.value
    return sums


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    """By how much all series of this name grew that have these labels."""

    def total(found: Samples) -> float:
        return sum(value for (key, given), value in found.items() if key == name and given >= frozenset(labels.items()))

    return total(after) - total(before)


class Watcher(threading.Thread):
    """Asks one page again and again; `seen` has the status codes, and what was said with 503."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.halt = threading.Event()
        self.seen: list[int] = []
        self.said: list[str] = []

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self.halt.wait(0.02):
                try:
                    answer = client.get(self._url)
                except httpx.HTTPError:
                    continue
                self.seen.append(answer.status_code)
                if answer.status_code == 503:
                    self.said.append(answer.text)

    def wait_for(self, status: int, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.seen or self.seen[-1] != status:
            assert time.monotonic() < deadline, f"{self._url}: never {status}, last {self.seen[-5:]}"
            time.sleep(0.02)


@contextmanager
def watching(system: System) -> Iterator[dict[str, Watcher]]:
    watchers = {process: Watcher(url) for process, url in pages(system, "readyz").items()}
    for watcher in watchers.values():
        watcher.start()
    try:
        for watcher in watchers.values():
            watcher.wait_for(200)
        yield watchers
    finally:
        for watcher in watchers.values():
            watcher.halt.set()
        for watcher in watchers.values():
            watcher.join(15)


def test_every_process_is_healthy_and_ready(system: System) -> None:
    for name in ("healthz", "readyz"):
        for process, url in pages(system, name).items():
            assert httpx.get(url, trust_env=False).status_code == 200, (name, process)


@pytest.mark.parametrize(("gone", "part"), [("postgresql", "journal"), ("hsm", "hsm")])
def test_nobody_is_ready_while_a_part_is_away_and_all_are_when_it_is_back(shop: Shop, gone: str, part: str) -> None:
    with watching(shop.system) as watchers:
        pid = shop.system.pid(gone)
        os.kill(pid, signal.SIGKILL)
        shop.system.wait_child(gone, other_than=pid)
        for watcher in watchers.values():
            watcher.wait_for(200)
    for process, watcher in watchers.items():
        assert 503 in watcher.seen, process
        if process.startswith("switch-"):
            assert any(json.loads(text)[part] is False for text in watcher.said), watcher.said
    shop.until_approved(VISA, 1_501)
    shop.agree(timeout_s=30)


def test_a_worker_is_ready_while_one_issuer_is_left(shop: Shop) -> None:
    pid = shop.system.pid("issuer-beta")
    os.kill(pid, signal.SIGKILL)
    for url in (url for name, url in pages(shop.system, "readyz").items() if name.startswith("switch-")):
        assert httpx.get(url, trust_env=False, timeout=10).status_code == 200
    shop.system.wait_child("issuer-beta", other_than=pid)
    shop.until_approved(Card("5555555555554444"), 1_502)
    # Of both workers: the next test pays through whichever has the gateway's connection.
    deadline = time.monotonic() + 20
    up = ("cardswitch_link_up", frozenset({("link", "beta")}))
    while samples(shop.system).get(up) != shop.system.config.switch.workers:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_series_by_link_stage_and_reason_grow_with_traffic(shop: Shop, merchant: Merchant) -> None:
    before = samples(shop.system)
    shop.pos.buy(VISA, 1_510)
    shop.pos.buy(POOR, 1_511)
    shop.pos.buy(UNROUTED, 1_512)
    merchant.pay("5555555555554444", 1_513)
    shop.pos.send_raw(b"GET / HTTP/1.1")
    shop.pos.buy(VISA, 1_514)
    after = samples(shop.system)
    assert grown(before, after, "cardswitch_received_total", link="pos", mti="0200") == 4
    assert grown(before, after, "cardswitch_received_total", link="gateway", mti="0200") == 1
    assert grown(before, after, "cardswitch_answers_total", link="pos", response_code="00") == 2
    assert grown(before, after, "cardswitch_answers_total", link="pos", response_code="51") == 1
    assert grown(before, after, "cardswitch_declines_total") == 1
    assert grown(before, after, "cardswitch_undecodable_total", link="pos") == 1
    stages = {dict(labels)["stage"] for name, labels in after if name == "cardswitch_stage_seconds_count"}
    assert len(stages) >= 5, stages
    for stage in stages:
        assert grown(before, after, "cardswitch_stage_seconds_count", stage=stage) >= 1, stage
    assert grown(before, after, "gateway_requests_total", route="/v1/payment_intents", status="200") == 1
    assert grown(before, after, "gateway_messages_total", kind="purchase", response_code="00") == 1
    assert grown(before, after, "cardswitch_hsm_commands_total", command="Dispatch", outcome="ok") >= 3
    links = {dict(labels)["link"] for name, labels in after if name == "cardswitch_link_up"}
    assert links == {"alpha", "beta"}
    shop.agree()


def test_prove_says_three_things_and_nothing_differs(shop: Shop) -> None:
    shop.pos.buy(VISA, 1_520)
    proof = shop.command("prove", "--json")
    assert proof.keys() == {"differences", "transactions", "amounts"}
    assert proof["differences"] == []
    assert proof["transactions"] > 0 and proof["amounts"]["EUR"] > 0


def test_prove_fails_where_a_book_says_something_else(shop: Shop) -> None:
    book = shop.system.config.state_path / "books" / "planted.jsonl"
    book.parent.mkdir(exist_ok=True)
    key = "pos|0200|20261122000000|999999|77777"
    line = BookLine(link="pos", key=key, currency="EUR", held_minor=0, posted_minor=1_234, settled=True)
    write_book(book, [line])
    try:
        proof = shop.command("prove", "--json", "--wait", "0", status=1)
        assert shop.output("prove", "--wait", "0")[0] == 1
    finally:
        book.unlink()
    assert [found["kind"] for found in proof["differences"] if found["key"] == key] == ["unknown"]


def test_send_shows_the_answer_as_json(shop: Shop) -> None:
    echo = shop.command("send", "--mti", "0800", "--set", "70=301", "--json")
    assert (echo["mti"], echo["elements"]["39"], echo["elements"]["70"]) == ("0810", "00", "301")
    message = {
        "mti": "0200",
        "elements": {
            "2": POOR.pan, "3": "000000", "4": "000000001530", "32": "39991", "41": "TERM0009", "42": "DEMOSHOP",
            "49": "978",
        },
    }  # fmt: skip
    answer = shop.command("send", json.dumps(message), "--json")
    assert (answer["mti"], answer["elements"]["39"]) == ("0210", "51")
    assert POOR.pan not in json.dumps(answer)
    table = shop.output("send", json.dumps(message))[1].decode()
    assert "Insufficient funds" in table
    assert POOR.pan not in table


@pytest.mark.parametrize("spec", ["iso87-ascii", "iso87-bcd"])
def test_decode_and_encode_are_each_others_reverse(spec: str) -> None:
    message = {
        "mti": "0100",
        "elements": {"2": VISA.pan, "4": "000000001530", "11": "000001", "41": "TERM0001", "52": "0123456789ABCDEF"},
    }
    encoded = cardswitch("encode", "-", "--spec", spec, given=json.dumps(message)).stdout
    decoded = cardswitch("decode", "-", "--spec", spec, "--json", "--unmasked", given=encoded).stdout
    assert json.loads(decoded) == message
    assert cardswitch("encode", "-", "--spec", spec, given=decoded).stdout == encoded
    assert VISA.pan not in cardswitch("decode", encoded.strip(), "--spec", spec).stdout


def test_doctor_finds_nothing_missing_where_a_system_runs(shop: Shop) -> None:
    report = shop.command("doctor", "--json")
    assert report["ok"] is True
    assert {"python", "pkcs11 module", "postgresql", "configuration"} <= {check["check"] for check in report["checks"]}


def test_a_wrong_configuration_lists_all_errors_at_once(tmp_path: Path) -> None:
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text()
    wrong = {
        "workers = 2": 'workers = "two"',
        'listen = "127.0.0.1:8081"': 'listen = "nowhere"',
        'issuer = "alpha"': 'issuer = "gamma"',
        'pin_key = "zpk-beta"': 'pin_key = "zpk-nobody"',
        "deadline_s = 3.0": "deadlin_s = 3.0",
    }
    file = tmp_path / "wrong.toml"
    for right, spoiled in wrong.items():
        assert right in text
        text = text.replace(right, spoiled, 1)
    file.write_text(text)
    done = cardswitch("up", "--state", str(tmp_path / "state"), config=file)
    assert done.returncode == 2
    first, *listed = done.stderr.splitlines()
    assert "5 errors" in first
    assert {line.split(":")[0].strip() for line in listed} == {
        "switch.workers", "tokenizer.listen", "route 4", "issuer[beta].pin_key", "issuer[alpha].deadlin_s",
    }  # fmt: skip
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("prove", "--json"), 1),
        (("ledger", "verify"), 1),
        (("ledger", "trial-balance", "--json"), 1),
        (("send", "--mti", "0800", "--set", "70=301"), 1),
        (("gateway", "key", "create", "DEMOSHOP"), 1),
        (("gateway", "key", "create", "NOBODY"), 2),
        (("decode", "zz"), 2),
        (("send", "--to", "nobody", "--mti", "0800"), 2),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else str(value),
)
def test_an_error_is_one_line(tmp_path: Path, arguments: tuple[str, ...], status: int) -> None:
    """In a directory where nothing runs."""
    state = () if arguments[0] == "decode" else ("--state", str(tmp_path / "s"))
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text()
    config = tmp_path / "free.toml"
    config.write_text(text.replace("127.0.0.1:5010", "127.0.0.1:1"))
    done = cardswitch(*arguments, *state, config=None if arguments[0] == "decode" else config)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("cardswitch: ")
    assert done.stderr.count("\n") == 1, done.stderr
