"""Stored advices, stand-in and reload on a system of their own: kill -9, operators, and books that agree at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import specs
from console.config import load_config
from console.database_roles import LEDGER, OWNER
from console.postgresql import resolve_dsn
from console.process_table import descendants
from console.supervisor import System, config_file
from simulators.acquirer import Card
from simulators.acquirer.book import Request
from simulators.control import ask
from tests.e2e.shop import Shop, cardswitch, new_acquirer, pos_address
from tests.e2e.terminal import terminal
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e-saf")

VISA = Card("4242424242424242")
UNROUTED = Card("6011111111111117")
REPEATS = 3
SECTIONS = """
[saf]
repeats = 1000
limit = 2

[[stand_in]]
issuer = "alpha"
on_timeout = true
floor_minor = { EUR = 5000 }

[[breaker]]
failures = 0
ratio = 0.0
"""


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    """The configuration of this system, which its tests edit."""
    folder = new_state("saf")
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text()
    waits = "deadline_s = 1.0\nadvice_timeout_s = 0.5\nreconnect_cap_s = 0.5"
    text = text.replace("deadline_s = 3.0", waits).replace("recovery_grace_s = 5.0", "recovery_grace_s = 1.0")
    path = folder / "cardswitch.toml"
    path.write_text(text + SECTIONS)
    yield path
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def routed(file: Path) -> Iterator[System]:
    with System.start(load_config(file), file.parent / "state", ports="free", longest_pause_s=0.5) as running:
        yield running


@pytest.fixture(scope="module")
def book(routed: System) -> list[Any]:
    return [new_acquirer(routed, "10001", "TERM0001")]


@pytest.fixture
def shop(routed: System, book: list[Any]) -> Iterator[Shop]:
    with terminal(book[0], pos_address(routed)) as pos:
        one = Shop(routed, pos, book)
        one.fill_accounts()
        yield one


def saf(shop: Shop, *arguments: str, status: int = 0) -> Any:
    return shop.command("saf", *arguments, "--json", status=status)


def advices(shop: Shop) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = saf(shop, "list")["advices"]
    return rows


def until(found: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def clear_faults(shop: Shop, issuer: str = "alpha") -> None:
    ask(shop.system.control_socket(issuer), "clear")


def lost(shop: Shop, amount_minor: int, *, booked: bool = True) -> Request:
    """A payment above the floor that alpha does not answer, and whose reversal it does not receive."""
    shop.fault("alpha", kind="silence", amount_minor=amount_minor, count=1, booked=booked)
    shop.fault("alpha", kind="silence", mti=["0420"], amount_minor=amount_minor, booked=False)
    request, answer = shop.pos.buy(VISA, amount_minor)
    assert answer.elements[39] == "91"
    return request


@contextmanager
def few_repeats(shop: Shop, file: Path) -> Iterator[None]:
    """All workers park what was sent REPEATS + 1 times. Elsewhere a slow machine must not lose an advice to that."""
    before = file.read_text()
    try:
        file.write_text(before.replace("repeats = 1000", f"repeats = {REPEATS}"))
        assert [row["taken"] for row in shop.command("reload", "--json")["workers"]] == [["saf"], ["saf"]]
        yield
    finally:
        file.write_text(before)
        shop.command("reload", "--json")


def test_advices_survive_the_death_of_everybody_at_once_and_go_out_in_order(shop: Shop) -> None:
    requests = [lost(shop, amount) for amount in (6_001, 6_002)]
    before = [row["advice_id"] for row in advices(shop)]
    assert len(before) == 2
    dead = {name: shop.system.pid(name) for name in ("switch-0", "switch-1", "postgresql")}
    for pid in [*dead.values(), *descendants(dead["postgresql"])]:
        with suppress(ProcessLookupError):  # PostgreSQL's processes follow the first of them by themselves
            os.kill(pid, signal.SIGKILL)
    clear_faults(shop)
    for name, pid in dead.items():
        shop.system.wait_child(name, other_than=pid)
    shop.pos.reconnect()
    until(lambda: [shop.acknowledgements(request) for request in requests] == [["00"], ["00"]])
    answered = shop.sql("SELECT advice_id FROM ledger.acknowledgements ORDER BY acknowledged_at, advice_id")
    assert [row["advice_id"] for row in answered] == before
    assert advices(shop) == []
    shop.agree(timeout_s=30)


def test_an_advice_is_parked_after_its_repeats_and_an_operator_sends_it_again(shop: Shop, file: Path) -> None:
    with few_repeats(shop, file):
        request = lost(shop, 6_100)
        until(lambda: [row["state"] for row in advices(shop)] == ["parked"], timeout_s=30)
    (parked,) = advices(shop)
    assert parked["reason"].startswith(f"sent {REPEATS + 1} times: ") and parked["actor"].startswith("worker ")
    shop.fault("alpha", kind="silence", amount_minor=6_101, count=1)
    other, _ = shop.pos.buy(VISA, 6_101)
    until(lambda: shop.acknowledgements(other) == ["00"])
    assert shop.acknowledgements(request) == [], "it holds up nobody"
    clear_faults(shop)
    done = saf(shop, "retry", str(parked["advice_id"]), "--reason", "alpha listens again", "--actor", "ann")
    assert done["advices"] == [{"advice_id": parked["advice_id"], "result": "done"}]
    until(lambda: shop.acknowledgements(request) == ["00"])
    assert advices(shop) == []
    rows = shop.sql("SELECT action, actor, reason FROM ledger.advice_actions ORDER BY id")
    assert [row["action"] for row in rows] == ["parked", "retried"]
    assert rows[1] == {"action": "retried", "actor": "ann", "reason": "alpha listens again"}
    shop.agree(timeout_s=30)


def test_an_advice_that_is_dropped_is_never_sent_again(shop: Shop) -> None:
    request = lost(shop, 6_200, booked=False)  # alpha has nothing to undo
    (waiting,) = advices(shop)
    done = saf(shop, "drop", str(waiting["advice_id"]), "--reason", "reversed by telephone")
    assert done["advices"][0]["result"] == "done"
    clear_faults(shop)
    time.sleep(2.0)
    assert shop.acknowledgements(request) == ["dropped"]
    assert (
        saf(shop, "retry", str(waiting["advice_id"]), "--reason", "no", status=1)["advices"][0]["result"] == "dropped"
    )
    shop.agree()


def written(shop: Shop, role: str, sql: str, *values: Any) -> Any:
    """A statement of somebody who has a password of the database."""

    async def run() -> Any:
        config = shop.system.config
        connection: Any = await asyncpg.connect(resolve_dsn(config.postgresql, config.state_path, role))
        try:
            return await connection.fetchval(sql, *values)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_a_row_that_somebody_has_written_reaches_no_issuer(shop: Shop) -> None:
    paid, answer = shop.pos.buy(VISA, 1_700)
    assert answer.elements[39] == "00"
    forged = written(
        shop,
        LEDGER,
        """INSERT INTO ledger.advices (intent_id, link, mti, elements, token)
           SELECT id, issuer, '0420', '{"3":"000000","4":"000000001700","7":"0314092653","11":"000777"}', token
             FROM ledger.intents WHERE key = $1 RETURNING id""",
        paid.key,
    )
    until(lambda: [(row["advice_id"], row["state"]) for row in advices(shop)] == [(forged, "parked")])
    assert advices(shop)[0]["reason"] == "no outcome of the journal calls for it"
    saf(shop, "retry", str(forged), "--reason", "of an intruder")
    until(lambda: [row["state"] for row in advices(shop)] == ["parked"])
    found = shop.command("ledger", "verify", "--json", status=1)
    assert f"advice {forged}, 0420 to alpha" in str(found)
    assert shop.acknowledgements(paid) == [] and shop.standing(paid) == (0, 1_700)
    saf(shop, "drop", str(forged), "--reason", "forged")
    written(shop, OWNER, "DELETE FROM ledger.advices WHERE id = $1", forged)
    written(shop, OWNER, "DELETE FROM ledger.advice_actions WHERE advice_id = $1", forged)
    written(shop, OWNER, "DELETE FROM ledger.acknowledgements WHERE advice_id = $1", forged)
    shop.command("ledger", "verify", "--json")
    shop.agree()


def test_a_frozen_issuer_is_stood_in_for_and_told_when_it_is_back(shop: Shop) -> None:
    pid = shop.system.pid("issuer-alpha")
    os.kill(pid, signal.SIGSTOP)
    try:
        small, answer = shop.pos.buy(VISA, 2_500)
        assert answer.elements[39] == "00" and answer.elements[38].startswith("S")
        large, answer = shop.pos.buy(VISA, 5_001)
        assert answer.elements[39] == "91"
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: advices(shop) == [])
    assert shop.acknowledgements(small) == ["00", "00"], "the reversal of the request, then the approval"
    assert shop.acknowledgements(large) == ["00"]
    assert shop.standing(small) == (0, 2_500)
    until(lambda: shop.pos.buy(VISA, 100)[1].elements.get(38, "S").isdigit())


def test_routes_change_without_a_restart_and_outlive_the_death_of_a_worker(shop: Shop, file: Path) -> None:
    pids = [shop.system.pid(f"switch-{number}") for number in range(2)]
    before = file.read_text()
    assert shop.pos.buy(UNROUTED, 700)[1].elements[39] == "15"
    assert shop.command("route", "explain", UNROUTED.pan, "--json")["route"] is None
    try:
        file.write_text(before + '\n[[route]]\nfrom = "60111111"\nto = "60111119"\nissuer = "beta"\n')
        done = shop.command("reload", "--json")
        assert [(row["worker"], row["taken"], row["restart"]) for row in done["workers"]] == [
            (0, ["route"], []), (1, ["route"], []),
        ]  # fmt: skip
        assert shop.pos.buy(UNROUTED, 701)[1].elements[39] == "14", "beta knows no such card"
        found = shop.command("route", "explain", UNROUTED.pan, "--json")
        assert found["number"] == "601111******1117" and found["rules"][0]["label"] == "route 60111111–60111119"
        assert [row["circuit"] for row in found["links"][0]["workers"]] == ["closed", "closed"]

        file.write_text(before + '\n[[route]]\nprefix = "6x"\nissuer = "gamma"\n[saf2]\n')
        status, said = shop.output("reload")
        assert status == 2
        for part in ("6x", "gamma", "saf2"):
            assert part in said.decode(), said
        for pid in pids:
            os.kill(pid, signal.SIGHUP)  # each reads the same broken file, and goes on
        time.sleep(1.0)
        assert [shop.system.pid(f"switch-{number}") for number in range(2)] == pids
        assert shop.pos.buy(UNROUTED, 702)[1].elements[39] == "14"

        for number, pid in enumerate(pids):
            os.kill(pid, signal.SIGKILL)
            shop.system.wait_child(f"switch-{number}", other_than=pid)
        shop.pos.reconnect()
        until(lambda: shop.pos.buy(UNROUTED, 703)[1].elements[39] == "14")
    finally:
        file.write_text(before)
    for number in range(2):
        os.kill(shop.system.pid(f"switch-{number}"), signal.SIGHUP)
    until(lambda: shop.pos.buy(UNROUTED, 704)[1].elements[39] == "15")


def test_a_stopped_system_still_explains_its_routes(routed: System, file: Path) -> None:
    done = cardswitch("route", "explain", "42424242", config=config_file(routed.config.state_path))
    assert done.returncode == 0 and "route 4" in done.stdout
