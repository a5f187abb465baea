"""Scenarios of acquirers: their files, made-up traffic and replays against an issuer, faults of the sending side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from console.message_view import as_plain
from messages.dialect import load_dialect
from messages.message import Message
from simulators.acquirer.faults import CONTRADICTING, MEANINGS
from simulators.acquirer.report import AcquirerReport, percentile_ms
from simulators.acquirer.scenario import AcquirerScenario, acquirer_scenario_from, load_acquirer_scenario
from simulators.acquirer.serve import run_scenario
from simulators.book import BookLine, read_book
from simulators.control import ask_book
from simulators.errors import ScenarioError, SimulatorError, WireLost
from simulators.faults import KINDS
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import serve_issuer

KEY = "0123456789ABCDEFFEDCBA9876543210"
PAN = "4242424242424242"
ZAK = "00112233445566778899AABBCCDDEEFF"
TABLE: dict[str, Any] = {
    "name": "pos",
    "pin_key": "zpk",
    "mac_key": "zak",
    "test_keys": {"zpk": KEY, "zak": ZAK},
    "timeout_s": 0.25,
    "connections": 2,
    "seed": 7,
    "card": [{"prefix": "42424242", "count": 20, "pin": "1234"}, {"pan": "4000056655665556", "weight": 0.2}],
    "run": {"count": 120, "seconds": 20.0, "rate": 0.0, "concurrency": 8},
}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.configure(**before)


def play(
    tmp_path: Path, table: dict[str, Any], dialect: str = "iso87-ascii", **run: Any
) -> tuple[AcquirerReport, dict[str, Any]]:
    """Run an acquirer against an issuer in the place of a switch; the report, and both books by DE 7 and DE 11."""
    issuer = IssuerScenario(
        name="alpha",
        dialect=dialect,
        pin_key="zpk",
        mac_key="zak",
        test_keys={"zpk": KEY, "zak": ZAK},
        default=AccountRule(balance_minor=10_000_000),
        log_messages=False,
    )
    books: dict[str, Any] = {}
    control, path = tmp_path / "c.sock", tmp_path / "pos.jsonl"

    async def main() -> AcquirerReport:
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: Any) -> None:
                await serve_issuer(issuer, keys={}, control_path=control, task_status=task_status)

            host, port = await nursery.start(serve)
            scenario = acquirer_scenario_from({**table, "dialect": dialect, "dial": f"{host}:{port}"})
            with trio.fail_after(60):
                report = await run_scenario(scenario, book_path=path, **run)
            books["issuer"] = by_number(await trio.to_thread.run_sync(ask_book, control))
            books["acquirer"] = by_number(read_book(path))
            nursery.cancel_scope.cancel()
        return report

    return trio.run(main), books


def by_number(lines: list[BookLine]) -> dict[tuple[str, str], tuple[int, int]]:
    """Held and posted amounts that are not zero, by DE 7 and DE 11."""
    found = {}
    for line in lines:
        _, _, moment, stan = line.key.split("|")[:4]
        if line.held_minor or line.posted_minor:
            found[(moment[-10:], stan)] = (line.held_minor, line.posted_minor)
    return found


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
def test_a_day_of_everything_ends_in_equal_books(tmp_path: Path, dialect: str) -> None:
    report, books = play(tmp_path, TABLE, dialect)
    assert (report.requests, report.total.count, report.unanswered, report.unsettled) == (120, 120, 0, 0)
    assert {"purchase", "authorization", "capture", "inquiry", "verification"} <= {row.kind for row in report.kinds}
    assert 0 < report.total.p50_ms <= report.total.p99_ms <= report.total.max_ms
    assert report.answers["00"] > 60
    assert books["acquirer"]
    assert books["issuer"] == books["acquirer"]


# A simulated issuer does not compare messages with their payment, and books those that contradict.
UNLIKE = CONTRADICTING | {"decline", "wrong-stan", "wrong-mac", "missing-mac", "late"}


@pytest.mark.parametrize("kind", sorted(set(MEANINGS) - UNLIKE))
def test_whatever_goes_wrong_on_the_way_the_books_agree(tmp_path: Path, kind: str) -> None:
    traits = KINDS[kind]
    rule = {"kind": kind, "mti": ["*"], "rate": 0.15, "count": 6}
    if traits["delayed"]:
        rule["delay_s"] = 0.1
    table = {**TABLE, "fault": [rule], "run": {**TABLE["run"], "count": 60}}
    report, books = play(tmp_path, table)
    assert (report.requests, report.unanswered, report.unsettled) == (60, 0, 0)
    assert books["issuer"] == books["acquirer"]


@pytest.mark.parametrize("kind", ["wrong-mac", "missing-mac"])
def test_a_spoiled_mac_is_refused_and_nothing_is_booked(tmp_path: Path, kind: str) -> None:
    table = {**TABLE, "fault": [{"kind": kind, "nth": 3}], "mix": {"purchase": 1}, "run": {"count": 10, "rate": 0.0}}
    table["mix"] |= dict.fromkeys(AcquirerScenario(name="x").mix.__struct_fields__, 0.0) | {"purchase": 1.0}
    table["afterwards"] = {"reversal": 0.0, "refund": 0.0}
    report, books = play(tmp_path, table)
    assert report.answers == {"00": 9, "63": 1}
    assert books["issuer"] == books["acquirer"]
    assert len(books["acquirer"]) == 9


def test_a_rate_and_a_time_bound_the_run(tmp_path: Path) -> None:
    table = {**TABLE, "run": {"count": 1000, "seconds": 1.0, "rate": 60.0, "concurrency": 8}}
    report, _ = play(tmp_path, table)
    assert 30 <= report.requests <= 60


def test_a_file_is_sent_again_with_new_numbers(tmp_path: Path) -> None:
    held = {"2": "4242424242424242", "3": "000000", "4": "000000005000", "7": "0101000000", "11": "000001"}
    held |= {"14": "3012", "22": "051", "32": "10001", "37": "000000000001", "41": "TERM0001", "42": "SHOP".ljust(15)}
    held |= {"49": "978"}
    of = "0100" + "000001" + "0101000000" + "00000010001" + "0" * 11
    capture = {**held, "4": "000000003000", "11": "000002", "60": "F", "90": of}
    path = tmp_path / "day.jsonl"
    path.write_text(
        "# a hold, its capture, a text\n\n"
        + json.dumps({"mti": "0100", "elements": held, "pin": "1234"})
        + "\n"
        + json.dumps({"mti": "0220", "elements": capture, "wait_s": 0.05})
        + "\n"
        + json.dumps({"mti": "0600", "elements": {"7": "0101000000", "11": "000009", "32": "1", "48": "hello"}})
        + "\n"
    )
    report, books = play(tmp_path, {**TABLE, "replay": str(path)})
    assert [row.kind for row in report.kinds] == ["administrative", "authorization", "capture"]
    assert report.answers == {"00": 3}
    assert list(books["acquirer"].values()) == [(0, 3000)]
    assert books["issuer"] == books["acquirer"]


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    for text, problem in (
        ("\n4242", "line 2: "),
        ("zz", "line 1: neither JSON nor hexadecimal digits"),
        ('{"mti": "0110"}', "line 1: 0110 is an answer"),
        ('{"mti": "0100", "elements": {"PAN": "1"}}', "line 1: elements are named by their numbers"),
        ('{"mti": "0100", "wait_s": -1}', "line 1: wait_s"),
        ('{"mti": "0100", "elements": {"4": {"1": "4242"}}}', "line 1: DE 4 must be text"),
        ('{"mti": "0100", "elements": {"3": {"1": "4242"}}}', "line 1: 3.1"),
        ("", "there is no message in it"),
        ("# nothing\n\n", "there is no message in it"),
    ):
        path.write_text(text)
        with pytest.raises(SimulatorError, match=problem) as raised:
            trio.run(run_scenario, acquirer_scenario_from({**TABLE, "replay": str(path)}))
        assert "4242" not in str(raised.value)
    with pytest.raises(SimulatorError, match="No such file"):
        trio.run(run_scenario, acquirer_scenario_from({**TABLE, "replay": str(tmp_path / "none")}))


@pytest.mark.parametrize(
    ("dialect", "native"),
    [
        ("iso87-ascii", Message("0200", {2: PAN, 3: "000000", 4: "000000005000", 7: "0101000000", 11: "000001"})),
        ("iso93-binary", Message("1200", {2: PAN, 3: "000000", 4: "000000005000", 7: "0101000000", 11: "000001"})),
    ],
)
def test_what_decode_prints_is_sent_again(tmp_path: Path, dialect: str, native: Message) -> None:
    more = {12: "000000", 32: "10001", 41: "TERM0001", 42: "SHOP".ljust(15), 49: "978", 55: "9F0206000000005000"}
    if native.mti == "1200":
        more |= {12: "260101000000", 22: "510101511340", 24: "200", 26: "5999"}
    native.elements.update(more)
    shown = as_plain(native, True, load_dialect(dialect))
    assert isinstance(shown["elements"]["3"], dict)
    assert isinstance(shown["elements"]["55"], dict)
    path = tmp_path / "day.jsonl"
    path.write_text("\ufeff" + json.dumps(shown) + "\n", "utf-8")
    report, books = play(tmp_path, {**TABLE, "replay": str(path), "dialect": dialect}, dialect)
    assert report.answers == {"00": 1}
    assert list(books["acquirer"].values()) == [(0, 5000)] == list(books["issuer"].values())


@pytest.mark.parametrize("replayed", [True, False])
def test_a_run_that_is_told_to_stop_ends_what_it_has_begun(tmp_path: Path, replayed: bool) -> None:
    text = {"mti": "0600", "elements": {"7": "0101000000", "11": "000009", "32": "1", "48": "hello"}, "wait_s": 0.5}
    path = tmp_path / "day.jsonl"
    path.write_text((json.dumps(text) + "\n") * 100)
    table = {**TABLE, "run": {"count": 100, "seconds": 50.0, "rate": 2.0}, "replay": str(path) if replayed else ""}
    stopping = trio.Event()
    report, _ = play(tmp_path, table, progress=lambda number: stopping.set(), stopping=stopping)
    assert 1 <= report.requests <= 2
    assert (report.unanswered, report.unsettled) == (0, 0)


def test_nobody_there_is_an_error_in_time() -> None:
    scenario = acquirer_scenario_from({**TABLE, "dial": "127.0.0.1:1", "timeout_s": 0.1})
    with pytest.raises(WireLost, match="no connection"):
        trio.run(run_scenario, scenario)


def test_every_problem_of_a_file_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "pos.toml"
    path.write_text(
        """
name = "a|b"
colour = "red"
timeout_s = "soon"
[[card]]
pan = "4242"
prefix = "42"
pin = "12"
[[card]]
wait = 1
[[fault]]
kind = "decline"
[[fault]]
kind = "late-reversal"
[mix]
purchase = -1
[afterwards]
void = 2
[run]
count = 0
"""
    )
    with pytest.raises(ScenarioError) as raised:
        load_acquirer_scenario(str(path))
    text = "\n".join(raised.value.problems)
    for problem in (
        "colour: unknown",
        "timeout_s: Expected `float`",
        "[[card]] 1: expected either pan or prefix",
        "[[card]] 1: pin must be 4–12 digits",
        "[[card]] 2: wait: unknown",
        "[[fault]] 1: a decline is an issuer's",
        "[[fault]] 2: a late-reversal needs delay_s",
        "[mix]: weights must be >= 0",
        "[afterwards] void: must be 0–1",
        "[run] count: must be 1–1000000",
    ):
        assert problem in text, problem
    assert "4242" not in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "a|b"}, "name must not"),
        ({"dial": "nowhere"}, "dial: expected host:port"),
        ({"dialect": "klingon"}, "klingon"),
        ({"framing": "smoke"}, "smoke"),
        ({"header": "hat"}, "hat"),
        ({"header_bytes": "zz"}, "header_bytes"),
        ({"pin_format": 9}, "pin_format"),
        ({"mac_algorithm": "CRC"}, "mac_algorithm"),
        ({"test_keys": {"zpk": "00"}}, "test_keys.zpk"),
        ({"ksn": "00"}, "ksn must be"),
        ({"pin_key": ""}, "needs a pin_key"),
        ({"card": []}, "there must be a"),
        ({"from_minor": 0}, "from_minor"),
        ({"currencies": ["XXQ"]}, "currencies"),
        ({"dial": "192.0.2.1:5010"}, "loopback addresses only"),
        ({"run": 5}, "expected a table"),
        ({"card": 5}, "expected a list"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        acquirer_scenario_from({**TABLE, **changes})


def test_gentle_traffic_may_go_to_another_machine() -> None:
    run = {"count": 100, "rate": 20.0, "concurrency": 16}
    assert acquirer_scenario_from({**TABLE, "dial": "192.0.2.1:5010", "run": run}).party == "pos"


def test_a_key_that_is_missing_is_named() -> None:
    scenario = acquirer_scenario_from({**TABLE, "test_keys": {"zpk": KEY}})
    with pytest.raises(ScenarioError, match="no key 'zak' for party 'pos'"):
        trio.run(run_scenario, scenario)
    assert KEY not in repr(scenario)


def test_percentiles_are_of_what_there_is() -> None:
    assert percentile_ms([], 0.5) == 0.0
    assert [percentile_ms([0.001, 0.002, 0.003, 0.004], share) for share in (0.5, 0.99, 1.0)] == [3.0, 4.0, 4.0]
