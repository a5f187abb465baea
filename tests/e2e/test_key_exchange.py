"""Keys exchanged over the links of a real system: MACs on all links, SoftHSM, load before, during and after."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console.config import Config, load_config
from console.link_commands import exchange_key, links
from console.supervisor import System
from hsm.config import KeyConfig
from hsm.keys.exchange import load_party_keys, load_party_zmk
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.control import ask
from tests.e2e.conftest import quick
from tests.e2e.shop import POS, Buyer, Shop, pos_address
from tests.e2e.terminal import Terminal, terminal
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e")

GRACE_S = 4.0
CARDS = [Card("4242424242424242", pin="1234"), Card("5555555555554444", pin="1234"), Card("4000056655665556")]


def with_macs(config: Config) -> Config:
    """MACs to the issuers, too: a retail MAC to alpha; HMAC to beta, for network management as well."""
    replace = msgspec.structs.replace
    return replace(
        config,
        hsm=replace(config.hsm, key_grace_s=GRACE_S),
        key=(
            *config.key,
            KeyConfig(name="zak-alpha", usage="mac", party="alpha", algorithm="ISO9797-1-ALG3"),
            KeyConfig(name="zak-beta", usage="mac", party="beta", algorithm="HMAC-SHA-256"),
        ),
        issuer=tuple(
            replace(link, mac_key=f"zak-{link.name}", mac_management=link.name == "beta") for link in config.issuer
        ),
    )


@pytest.fixture(scope="module")
def exchanging() -> Iterator[System]:
    """A system of its own: the keys of the session's are what other tests know."""
    state = new_state("e2e")
    config = with_macs(quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"))))
    try:
        with System.start(config, state, ports="free", longest_pause_s=0.5) as running:
            yield running
    finally:
        shutil.rmtree(state, ignore_errors=True)


def party(system: System, number: int, terminal_id: str) -> Acquirer:
    """An acquirer with the keys of `pos` as its party's file has them now, and its zone master key."""
    directory = system.config.exchange_path
    keys = load_party_keys(directory, POS)
    profile = AcquirerProfile(link=POS, acquirer_id=f"4{number:05d}", terminal=terminal_id)
    zmk = load_party_zmk(directory, POS)
    return Acquirer(profile, pin_key=keys["zpk-pos"], mac_key=keys["zak-pos"], zmk=zmk)


@pytest.fixture
def exchange_shop(exchanging: System) -> Iterator[Shop]:
    with terminal(party(exchanging, 1, "TERM0001"), pos_address(exchanging)) as pos:
        shop = Shop(exchanging, pos, [pos.acquirer])
        shop.fill_accounts()
        yield shop


class Counter(threading.Thread):
    """The acquirer's own keys change on this connection, beside those that pay."""

    def __init__(self, shell: Terminal) -> None:
        super().__init__(daemon=True)
        self.shell = shell
        self.halt = threading.Event()

    def run(self) -> None:
        while not self.halt.is_set():
            try:
                self.shell.receive(0.1)
            except TimeoutError:
                continue
            except (OSError, ConnectionError):
                return


def active(shop: Shop, link: str) -> dict[str, tuple[int, str]]:
    """Version and check value of the keys in force, by kind; all workers say the same."""
    rows = [row for row in links(shop.system.config) if row["link"] == link]
    assert {row["worker"] for row in rows} == set(range(shop.system.config.switch.workers))
    shown = [
        {key["kind"]: (key["version"], key["kcv"]) for key in row["keys"] if key["status"] == "active"} for row in rows
    ]
    assert all(one == shown[0] for one in shown)
    return shown[0]


def test_links_are_listed_with_state_and_keys(exchange_shop: Shop) -> None:
    exchange_shop.pos.buy(CARDS[0], 1_000)
    rows: list[dict[str, Any]] = exchange_shop.command("link", "list", "--json")["links"]
    assert {row["link"] for row in rows} == {"pos", "gateway", "alpha", "beta"}
    for row in rows:
        if row["side"] == "issuer":
            assert (row["state"], row["connections"]) == ("signed_on", 1)
            assert {key["name"] for key in row["keys"]} == {f"zpk-{row['link']}", f"zak-{row['link']}"}
        assert row["link"] != "gateway" or row["keys"] == []
    status, table = exchange_shop.output("link", "list")
    assert status == 0
    for text in (
        "alpha (issuer)",
        "signed_on",
        "zak-alpha/1",
        *(kcv for _, kcv in active(exchange_shop, "alpha").values()),
    ):
        assert text.encode() in table


def test_payments_pass_while_issuers_keys_are_exchanged_from_both_ends(exchange_shop: Shop) -> None:
    shop, stop = exchange_shop, threading.Event()
    buyers = [
        Buyer(party(shop.system, 10 + number, f"LOAD{number:04d}"), shop.pos.address, stop, CARDS, number)
        for number in range(3)
    ]
    before = {link: active(shop, link) for link in ("alpha", "beta")}
    for buyer in buyers:
        buyer.start()
    exchanged = 0
    for _ in range(2):
        for link in ("alpha", "beta"):
            for kind in ("pin", "mac"):
                done = exchange_key(shop.system.config, link, kind)
                assert active(shop, link)[kind] == (done["version"], done["kcv"])
                theirs = ask(shop.system.control_socket(link), "exchange-key", kind=kind)[0]
                assert theirs["done"] is True
                assert active(shop, link)[kind][1] == theirs["kcv"]
                exchanged += 2
    time.sleep(GRACE_S + 0.5)  # and after the grace time, with the new keys alone
    approved = sum(buyer.approved for buyer in buyers)
    time.sleep(1.0)
    stop.set()
    for buyer in buyers:
        buyer.join(20)
    assert [buyer.error for buyer in buyers] == ["", "", ""]
    assert sum(buyer.approved for buyer in buyers) > approved > 100
    codes = [request.response_code for buyer in buyers for request in buyer._acquirer.requests.values()]
    assert set(codes) == {"00"}, {code: codes.count(code) for code in set(codes)}
    for link in ("alpha", "beta"):
        after = active(shop, link)
        assert all(after[kind][0] == before[link][kind][0] + 4 for kind in ("pin", "mac")), after
        assert shop.issuer_stats(link)["counts"].get("mac refused", 0) == 0
    assert exchanged == 16


def test_an_acquirers_old_keys_are_taken_for_the_grace_time_and_not_longer(exchange_shop: Shop) -> None:
    shop = exchange_shop
    stale = party(shop.system, 30, "STALE001")
    shop.pos.close()  # the reader is the only one there
    with terminal(party(shop.system, 31, "FRESH001"), shop.pos.address) as new:
        counter = Counter(new)
        counter.start()
        before = active(shop, POS)
        try:
            for kind in ("mac", "pin"):
                # MAC by this process: the start of another would eat up the grace time that is looked at here.
                done = (
                    exchange_key(shop.system.config, POS, kind)
                    if kind == "mac"
                    else shop.command("link", "exchange-key", POS, "--kind", kind, "--json")
                )
                assert done["kcv"] == new.acquirer.keys.check_value(kind)
                assert active(shop, POS)[kind] == (before[kind][0] + 1, done["kcv"])
                if kind == "mac":
                    assert pays_with(stale, shop) == "00"
        finally:
            counter.halt.set()
            counter.join(5)
        time.sleep(GRACE_S + 0.2)
        _, answer = new.buy(CARDS[0], 1_200)
        assert answer.elements[39] == "00"
        assert pays_with(stale, shop) == "63"
    # The party's file has all that it needs after a restart.
    with terminal(party(shop.system, 32, "FRESH002"), shop.pos.address) as again:
        _, answer = again.buy(CARDS[0], 1_400)
        assert answer.elements[39] == "00"


def test_an_acquirer_starts_an_exchange(exchange_shop: Shop) -> None:
    pos, before = exchange_shop.pos, active(exchange_shop, POS)
    for kind in ("pin", "mac"):
        pos.send(pos.acquirer.key_change(kind, _now()))
        answer = pos.receive()
        assert (answer.mti, answer.elements[39]) == ("0810", "00")
        assert active(exchange_shop, POS)[kind] == (before[kind][0] + 1, pos.acquirer.keys.check_value(kind))
        _, bought = pos.buy(CARDS[0], 1_500)
        assert bought.elements[39] == "00"


def test_a_restarted_hsm_and_issuer_go_on_with_the_exchanged_keys(exchange_shop: Shop) -> None:
    import os
    import signal

    system = exchange_shop.system
    for name in ("hsm", "issuer-alpha"):
        pid = system.pid(name)
        os.kill(pid, signal.SIGKILL)
        system.wait_child(name, other_than=pid)
    exchange_shop.until_approved(CARDS[0], 1_600)
    assert active(exchange_shop, "alpha")["mac"][0] >= 1


def test_what_cannot_be_exchanged_is_one_line(exchange_shop: Shop) -> None:
    for arguments, status, text in (
        (("gateway", "--kind", "pin"), 2, b"gateway has no pin key"),
        (("nobody", "--kind", "pin"), 2, b"there is no link 'nobody'"),
    ):
        found, shown = exchange_shop.output("link", "exchange-key", *arguments)
        assert (found, shown.count(b"\n")) == (status, 1), shown
        assert text in shown


def _now() -> Any:
    from tests.e2e.terminal import utcnow

    return utcnow()


def pays_with(acquirer: Acquirer, shop: Shop) -> str:
    """DE 39 of a purchase on a connection of its own, with the answer's MAC under any key."""
    with terminal(acquirer, shop.pos.address) as shell:
        shell.send(acquirer.purchase(CARDS[0], 1_100, "EUR", _now()).message)
        return acquirer.codec.decode(shell.receive_raw()).elements[39]
