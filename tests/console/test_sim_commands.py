"""`cardswitch sim`: scenario files checked, simulators without a configuration, their books and control sockets."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trio

from console import cli
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.client import open_acquirer

ZPK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
NORTH, SOUTH = Card("4242424242424242", pin="1234"), Card("5555555555554444", pin="1234")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()  # log lines of an acquirer in this process
    status = cli.run(["sim", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_right_scenarios_are_said_to_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check", "scenario-alpha", "scenario-network")
    assert status == 0
    assert out.splitlines() == [
        "scenario-alpha: right, IssuerScenario('alpha', 1 accounts, 0 faults)",
        "scenario-network: right, NetworkScenario('scheme', 2 issuers, 1 faults)",
    ]


def test_everything_wrong_with_a_scenario_is_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = ""\nlisten = "x"\n[[fault]]\nkind = "delay"\n')
    status, out, _ = run(capsys, "check", str(path), "scenario-beta")
    assert status == 2
    lines = out.splitlines()
    assert [line.removeprefix(f"{path}: ").partition(":")[0] for line in lines[:3]] == ["[[fault]] 1", "name", "listen"]
    assert lines[3].startswith("scenario-beta: right")
    status, out, _ = run(capsys, "check", str(path), str(tmp_path / "none.toml"), "--json")
    found = json.loads(out)
    assert status == 2
    assert [len(result["problems"]) for result in found.values()] == [3, 1]
    assert run(capsys, "check", "scenario-network", "--as", "issuer")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["network"], "give --scenario FILE"),
        (["issuer", "alpha", "--listen", "127.0.0.1:1"], "leave out the name"),
        (["issuer", "--scenario", "scenario-nobody"], "there are scenario-alpha, scenario-beta, scenario-network"),
        (["issuer", "--scenario", "scenario-network"], "issuer: unknown"),
        (["network", "--scenario", "scenario-network", "--listen", "nowhere"], "--listen: expected host:port"),
        (["ask", "nobody", "stats"], "no issuer 'nobody'"),
        (["ask", "alpha", "stats", "x"], "is no KEY=VALUE"),
        (["book", "nobody"], "no issuer 'nobody'"),
    ],
)
def test_what_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], text: str
) -> None:
    state = ["--state", str(tmp_path)] if arguments[0] != "check" else []
    status, _, err = run(capsys, *arguments, *state)
    assert status == 2
    assert err.startswith("cardswitch: ")
    assert text in err


def test_the_commands_of_a_simulator_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "ask")
    assert status == 0
    assert {"book", "fault", "chargeback", "manage", "totals", "refuse"} <= {
        line.split()[0] for line in out.splitlines()
    }


class Running:
    """A simulator of its own process."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.socket, self.book = directory / "control.sock", directory / "kept.book"
        places = ["--listen", "127.0.0.1:0", "--control", str(self.socket), "--book", str(self.book)]
        command = [sys.executable, "-m", "console.cli", "sim", *arguments, *places]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=directory)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"listens on (\S+):(\d+)$", line):
                self.address = found[1], int(found[2])
                return
        raise AssertionError("it does not listen")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=10)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, "network", "--scenario", "scenario-network")
    yield running
    running.stop()


def shop(address: tuple[str, int], first_stan: int = 1) -> list[str]:
    """Two purchases and a wrong PIN; their DE 39."""

    async def main() -> list[str]:
        acquirer = Acquirer(AcquirerProfile(link="pos", trace_element=63, first_stan=first_stan), pin_key=ZPK)
        cards = (NORTH, 2_500), (SOUTH, 1_000), (Card(NORTH.pan, pin="4321"), 100)
        async with open_acquirer(acquirer, address) as client:
            now = datetime.now(UTC)
            requests = [await client.perform(acquirer.purchase(card, amount, "EUR", now)) for card, amount in cards]
        return [request.response_code for request in requests]

    return trio.run(main)


def test_a_network_without_a_configuration(
    network: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    socket = ["--socket", str(network.socket)]
    assert shop(network.address) == ["00", "00", "55"]

    status, out, _ = run(capsys, "ask", "-", "stats", *socket)
    stats = json.loads(out)
    assert (status, stats["transactions"], stats["signed_on"]) == (0, 3, True)

    status, out, _ = run(capsys, "book", *socket)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["member"], line["posted_minor"]) for line in lines] == [
        ("north", 2_500),
        ("south", 1_000),
        ("north", 0),
    ]
    assert {line["link"] for line in lines} == {"scheme"}

    target = tmp_path / "book.csv"
    assert run(capsys, "book", *socket, "--format", "csv", "-o", str(target))[0] == 0
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert [(row["key"], int(row["posted_minor"])) for row in rows] == [(x["key"], x["posted_minor"]) for x in lines]

    status, out, _ = run(capsys, "book", "--totals", *socket)
    totals = [json.loads(line) for line in out.splitlines()]
    assert [(line["issuer"], line["debits_minor"], line["net_minor"]) for line in totals] == [
        ("north", 2_500, 2_500),
        ("south", 1_000, 1_000),
    ]

    rule = '{"kind": "decline", "response_code": "61", "count": 1}'
    assert run(capsys, "ask", "-", "fault", f"rule={rule}", *socket)[1] == '{"rules":2}\n'
    assert run(capsys, "ask", "-", "member", "name=south", "available=false", *socket)[0] == 0
    assert shop(network.address, 100) == ["61", "91", "55"]
    status, _, err = run(capsys, "ask", "-", "fault", 'rule={"kind": "repeat"}', *socket)
    assert (status, "an acquirer's" in err) == (1, True)

    network.stop()
    assert network.process.returncode == 0
    kept = run(capsys, "book", "--file", str(network.book))[1]
    assert [json.loads(line)["posted_minor"] for line in kept.splitlines()] == [2_500, 1_000, 0, 0]
    assert NORTH.pan.encode() not in network.book.read_bytes()


def test_what_a_simulator_starts_waits_for_the_answer(network: Running, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    async def main() -> None:
        acquirer = Acquirer(AcquirerProfile(link="pos"), pin_key=ZPK)
        async with open_acquirer(acquirer, network.address):
            for arguments in (("what=cut-over", "day=0305"), ("what=echo",)):
                ask = partial(run, capsys, "ask", "-", "manage", *arguments, "--socket", str(network.socket))
                _, out, _ = await trio.to_thread.run_sync(ask)
                said.append(out.splitlines()[-1])  # behind log lines of the acquirer, which is in this process

    trio.run(main)
    assert said == ['{"response_code":"00"}'] * 2


def test_books_of_acquirers_are_read_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = '{"link":"pos","key":"k","currency":"EUR","held_minor":0,"posted_minor":5,"settled":true,"member":""}\n'
    path = tmp_path / "pos.jsonl"
    path.write_text(line)
    assert run(capsys, "book", "--file", str(path)) == (0, line, "")
    path.write_text(line + "rain\n")
    status, _, err = run(capsys, "book", "--file", str(path))
    assert (status, "line 2" in err) == (1, True)


def test_an_issuer_that_cannot_start_says_so_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "console.cli", "sim", "issuer", "nobody", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.splitlines()[-1].startswith("cardswitch: there is no issuer 'nobody'; use one of")
