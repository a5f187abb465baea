"""The simulators as a Python interface: threads, blocking calls, received messages, faults, books, clean end."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from messages.exchange import pairing_key
from simulators.errors import ScenarioError, SimulatorError, WireLost
from simulators.issuer.scenario import IssuerScenario
from simulators.testing import BookLine, Card, State, differences, start_acquirer, start_issuer, start_network
from simulators.testing.background import Background

KEYS = {"zpk": "0123456789ABCDEFFEDCBA9876543210"}
ISSUER = {"name": "alpha", "pin_key": "zpk", "test_keys": KEYS, "default": {"balance_minor": 10_000}}
PAN = "4242424242424242"


def test_a_payment_through_both_ends_in_equal_books() -> None:
    # An issuer answers an acquirer directly: to both it looks like a switch.
    with (
        start_issuer(ISSUER) as issuer,
        start_acquirer(dial=issuer.address, pin_key="zpk", test_keys=KEYS) as acquirer,
    ):
        issuer.wait_connected()
        paid = acquirer.purchase(Card(PAN, pin="1234"), 2500)
        wrong = acquirer.purchase(Card(PAN, pin="4321"), 1)
        assert (paid.response_code, wrong.response_code, issuer.count("0200")) == ("00", "55", 2)
        assert issuer.available_minor(PAN) == 7_500
        hold = acquirer.authorization(PAN, 1000)
        assert acquirer.increment(hold, 200).response_code == "00"
        assert acquirer.reduction(hold, 1100).response_code == "00"
        assert acquirer.capture(hold, 900, final=False).response_code == "00"
        assert acquirer.reversal(hold).response_code == "00"
        assert acquirer.refund(PAN, 500, paid).response_code == "00"
        assert acquirer.advice(PAN, 300).response_code == "00"
        assert acquirer.advice(PAN, 300, hold=True).response_code == "00"
        assert acquirer.verification(PAN).response_code == "00"
        inquiry = acquirer.inquiry(PAN).response
        assert inquiry is not None
        assert len(inquiry.elements[54]) == 40
        assert acquirer.administrative("hello").response_code == "00"
        totals = acquirer.reconciliation().response
        assert totals is not None
        assert totals.elements[66] == "1"  # in balance
        assert acquirer.cut_over("1231").response_code == "00"
        assert issuer.chargeback(paid.message.elements[37], 400) == "00"
        assert differences(acquirer.book(), issuer.book()) == []
        line = issuer.line(paid.message.elements[7], paid.message.elements[11])
        assert line is not None
        assert line.posted_minor == 2100
        assert issuer.stats["0200"] == 3


def test_faults_come_and_go_on_either_side() -> None:
    with (
        start_issuer(ISSUER) as issuer,
        start_acquirer(dial=issuer.address, timeout_s=0.2) as acquirer,
    ):
        issuer.fault(kind="decline", response_code="61", amount_minor=777)
        assert acquirer.purchase(PAN, 777).response_code == "61"
        assert issuer.clear() == 1
        acquirer.fault({"kind": "late-reversal", "delay_s": 0.05}, mti=["0200"], count=1)
        taken_back = acquirer.purchase(PAN, 777)
        acquirer.settle()
        assert taken_back.state is State.REVERSED
        acquirer.clear()
        issuer.fault(kind="silence", mti=("0100", "0420"), count=3)
        assert acquirer.authorization(PAN, 100).state is State.REVERSED
        assert differences(acquirer.book(), issuer.book()) == []
        with pytest.raises(ValueError, match="rate must be"):
            issuer.fault(kind="silence", rate=2)
        with pytest.raises(ValueError, match="kind: Invalid enum value 'rain'; there are delay, late"):
            issuer.fault(kind="rain")
        with pytest.raises(ValueError, match="issuer's"):
            acquirer.fault(kind="decline")


def test_traffic_and_any_message_may_be_sent() -> None:
    with start_issuer(ISSUER) as issuer, start_acquirer(dial=issuer.address) as acquirer:
        report = acquirer.run(count=40, rate=0.0, concurrency=4)
        assert (report.requests, report.unsettled) == (40, 0)
        with pytest.raises(ScenarioError, match="count"):
            acquirer.run(count=0)
        elements = {2: PAN, 3: "000000", 4: "000000000001", 32: "1", 49: "978"}
        assert acquirer.send("0200", elements).response_code in ("00", "51")
        assert acquirer.send("0800", {32: "1", 70: "301"}).response_code == "00"
        acquirer.echo()
        issuer.wait_for(lambda: issuer.heard[-1].elements.get(70) == "301")


def test_calls_may_come_from_many_threads() -> None:
    with start_issuer(ISSUER) as issuer, start_acquirer(dial=issuer.address, connections=2) as acquirer:
        acquirer.wait_connected()
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda _: acquirer.purchase(PAN, 100).response_code, range(60)))
        assert codes == ["00"] * 60
        assert len({pairing_key(message) for message in issuer.heard if message.mti == "0200"}) == 60


def test_an_acquirer_may_be_the_one_that_listens() -> None:
    with start_acquirer(listen="127.0.0.1:0") as acquirer:
        scenario = {**ISSUER, "dial": f"127.0.0.1:{acquirer.port}"}
        with start_issuer(scenario) as issuer:
            acquirer.wait_connected()
            assert acquirer.purchase(PAN, 100).response_code == "00"
            issuer.drop()
            issuer.wait_connected()
            assert acquirer.purchase(PAN, 100).response_code == "00"


def test_a_network_has_issuers_behind_it_that_go_away() -> None:
    members = [
        {"name": "a4", "prefixes": ["4"], "default": {"balance_minor": 500}},
        {"name": "b5", "prefixes": ["5"], "default": {"balance_minor": 500}, "stand_in_minor": 100},
    ]
    with (
        start_network({"name": "net", "issuer": members}) as network,
        start_acquirer(dial=network.address) as acquirer,
    ):
        first, second = PAN, "5555555555554444"
        assert acquirer.purchase(first, 400).response_code == "00"
        assert acquirer.purchase(second, 600).response_code == "51"
        assert acquirer.purchase("378282246310005", 1).response_code == "15"
        network.set_available("b5", False)
        assert [acquirer.purchase(second, amount).response_code for amount in (100, 101)] == ["00", "91"]
        elements = {2: second, 3: "000000", 4: "000000000009", 32: "10001", 41: "TERM0001", 49: "978"}
        unknown = acquirer.send("0100", {**elements, 90: "0100" + "9" * 38})
        assert unknown.response_code == "12", "there is no hold that could grow"
        assert differences(acquirer.book(), network.book()) == []
        assert {(line.issuer, line.net_minor) for line in network.settlement()} == {("a4", 400), ("b5", 100)}
        with pytest.raises(SimulatorError, match="no issuer 'c'"):
            network.set_available("c", True)
    with start_network() as network, start_acquirer(dial=network.address) as acquirer:
        assert acquirer.purchase(PAN, 400).response_code == "00"


def test_scenarios_may_be_files_tables_or_scenarios(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text('name = "night"\n[default]\nbalance_minor = 5\n')
    with start_issuer(file, name="day") as first, start_issuer(IssuerScenario(name="x")) as second:
        assert (first.name, second.name) == ("day", "x")
        with start_acquirer(dial=second.address) as acquirer:
            assert acquirer.purchase(PAN, 1).response_code == "14"
            second.account(PAN, balance_minor=10)
            assert acquirer.purchase(PAN, 1).response_code == "00"
        with pytest.raises(ValueError, match="pin_tries"):
            second.account(PAN, pin_tries=1)
    with pytest.raises(ScenarioError, match="klingon"):
        start_issuer(dialect="klingon").__enter__()
    with pytest.raises(ScenarioError, match="no key 'zpk'"):
        start_issuer(pin_key="zpk").__enter__()


def test_the_end_frees_the_port_and_the_thread() -> None:
    before = threading.active_count()
    with start_issuer(ISSUER) as issuer:
        address = (issuer.host, issuer.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)
    assert threading.active_count() == before
    with pytest.raises(SimulatorError, match="has ended"):
        issuer.book()
    issuer.stop()


def test_nobody_there_is_said() -> None:
    with pytest.raises(WireLost, match="no connection"):
        start_acquirer(dial="127.0.0.1:1", timeout_s=0.05).__enter__()


def test_what_breaks_in_the_thread_is_raised_where_one_waits() -> None:
    async def broken(*, task_status: Any) -> None:
        raise OSError("no port")

    async def breaks_later(*, task_status: Any) -> None:
        task_status.started("up")
        await trio.sleep(0.05)
        raise OSError("gone")

    with pytest.raises(OSError, match="no port"):
        Background(broken, "broken")
    background = Background(breaks_later, "later")
    assert background.value == "up"
    with pytest.raises(SimulatorError, match="later has ended"):
        while True:
            background.do(int)
    with pytest.raises(OSError, match="gone"):
        background.stop()


def test_differences_are_counted_by_what_they_have_in_common() -> None:
    def line(held: int, posted: int, settled: bool = True) -> BookLine:
        return BookLine(link="x", key="k", currency="EUR", held_minor=held, posted_minor=posted, settled=settled)

    assert differences([line(1, 0), line(0, 0)], [line(1, 0)]) == []
    assert differences([line(0, 5), line(0, 5)], [line(0, 5), line(2, 0)]) == [
        "1 × EUR held 0 posted 5: in the acquirer's book only",
        "1 × EUR held 2 posted 0: in the issuer's book only",
    ]
    assert differences([line(0, 0, settled=False)], []) == ["k: the acquirer does not know the end"]
