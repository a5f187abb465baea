"""The load generator against a real issuer, and against the bare relay: counts, shares, and a book that agrees."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from messages.card import luhn_valid
from simulators.book import BookLine, read_book
from simulators.control import ask_book
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import serve_issuer
from simulators.load import LoadConfig, run_load
from simulators.load.lane import LaneConfig
from simulators.load.mix import MixConfig
from simulators.load.population import POOR, RICH, population
from simulators.load.relay import serve_echo, serve_relay

POOR_ACCOUNTS = tuple(AccountRule(prefix=prefix, balance_minor=0) for prefix in POOR)


@contextmanager
def serving(*services: Any) -> Iterator[list[str]]:
    """Run services, each called with the addresses before it, in a thread; gives their addresses."""
    addresses: list[str] = []
    ready, stopped = threading.Event(), threading.Event()
    tokens: list[trio.lowlevel.TrioToken] = []
    scopes: list[trio.CancelScope] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for service in services:
                host, port = await nursery.start(service, list(addresses))
                addresses.append(f"{host}:{port}")
            tokens.append(trio.lowlevel.current_trio_token())
            scopes.append(nursery.cancel_scope)
            ready.set()

    def run() -> None:
        try:
            trio.run(main)
        finally:
            ready.set()
            stopped.set()

    threading.Thread(target=run, daemon=True).start()
    assert ready.wait(10)
    assert tokens, "a service could not start"
    try:
        yield addresses
    finally:
        tokens[0].run_sync_soon(scopes[0].cancel)
        assert stopped.wait(10)


def issuer(control: Path | None = None, **changes: Any) -> Any:
    values = {
        "name": "alpha",
        "default": AccountRule(balance_minor=1_000_000),
        "account": POOR_ACCOUNTS,
        "log_messages": False,
    }
    scenario = IssuerScenario(**{**values, **changes})

    async def service(addresses: list[str], *, task_status: Any) -> None:
        await serve_issuer(scenario, keys={}, control_path=control, task_status=task_status)

    return service


def amounts(lines: list[BookLine]) -> dict[tuple[str, str], int]:
    """Held amounts, by DE 7 and DE 11: an acquirer's key and an issuer's have these two in common."""
    held = {}
    for line in lines:
        _, _, moment, stan = line.key.split("|")[:4]
        held[(moment[-10:], stan)] = line.held_minor
    return held


def test_shares_and_counts_are_exact(tmp_path: Path) -> None:
    book_path = tmp_path / "books" / "pos.jsonl"
    surrogates = tuple(population(100, start=50_000))
    with serving(issuer(), issuer(name="gateway")) as (pos, gateway):
        config = LoadConfig(
            pos=LaneConfig(link="pos", address=pos),
            gateway=LaneConfig(link="gateway", address=gateway),
            surrogates=surrogates,
            mix=MixConfig(cards=200, poor_cards=20),
            count=1200,
            connections=2,
            in_flight=40,
            book_path=str(book_path),
        )
        result = run_load(msgspec.json.decode(msgspec.json.encode(config), type=LoadConfig))
    assert (result.sent, result.answered, result.unanswered, result.lines) == (1200, 1200, 0, 1200)
    assert result.answers == {"00": 1140, "51": 60}
    assert 0 < result.p50_ms <= result.p99_ms <= result.max_ms
    assert result.per_s == pytest.approx(1200 / result.seconds)
    lines = read_book(book_path)
    assert Counter(line.link for line in lines) == {"pos": 800, "gateway": 400}
    assert len({line.key for line in lines}) == 1200
    assert all(line.settled for line in lines)


def test_lost_answers_are_settled_and_the_books_agree(tmp_path: Path) -> None:
    control, book_path = tmp_path / "c.sock", tmp_path / "pos.jsonl"
    faults = (
        FaultRule(kind="silence", rate=0.02),
        FaultRule(kind="disconnect-before", rate=0.01, count=3),
        FaultRule(kind="silence", mti=("0420",), rate=0.5),
    )
    with serving(issuer(control, fault=faults, seed=7)) as [pos]:
        config = LoadConfig(
            pos=LaneConfig(link="pos", address=pos),
            mix=MixConfig(cards=200, poor_cards=20),
            count=600,
            connections=2,
            in_flight=60,
            timeout_s=0.3,
            settle_timeout_s=0.1,
            book_path=str(book_path),
        )
        result = run_load(config)
        issuer_book = ask_book(control)
    assert result.unanswered > 3
    assert (result.settled, result.unsettled) == (result.unanswered, 0)
    assert result.reconnects > 0
    lines = read_book(book_path)
    assert len(lines) == result.sent
    held = amounts(lines)
    assert {key: amount for key, amount in amounts(issuer_book).items() if amount or key in held} == {
        key: amount for key, amount in held.items() if key in amounts(issuer_book)
    }


def test_a_fixed_rate_is_kept() -> None:
    with serving(issuer()) as [pos]:
        mix = MixConfig(cards=200, poor_cards=20)
        config = LoadConfig(pos=LaneConfig(link="pos", address=pos), mix=mix, seconds=1.0, rate=300.0)
        result = run_load(config)
    assert 200 <= result.sent <= 301


def test_the_bare_relay_carries_the_same_frames() -> None:
    async def echo(addresses: list[str], *, task_status: Any) -> None:
        await serve_echo(("127.0.0.1", 0), task_status=task_status)

    async def relay(addresses: list[str], *, task_status: Any) -> None:
        host, port = addresses[0].split(":")
        await serve_relay(("127.0.0.1", 0), (host, int(port)), task_status=task_status)

    with serving(echo, relay) as (_, address):
        lane = LaneConfig(link="pos", address=address)
        result = run_load(LoadConfig(pos=lane, mix=MixConfig(cards=50, poor_cards=5), count=500, bare=True))
    assert (result.answered, result.unanswered, result.lines) == (500, 0, 0)


def test_it_runs_as_a_process_that_prints_nothing_but_the_result(tmp_path: Path) -> None:
    with serving(issuer(fault=(FaultRule(kind="silence", nth=5),))) as [pos]:
        path = tmp_path / "load.json"
        mix = MixConfig(cards=50, poor_cards=5)
        config = LoadConfig(pos=LaneConfig(link="pos", address=pos), mix=mix, count=50, timeout_s=0.3)
        path.write_bytes(msgspec.json.encode(config))
        command = [sys.executable, "-m", "simulators.load", str(path)]
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    result = json.loads(done.stdout)
    assert (result["answered"], result["unanswered"], result["settled"]) == (49, 1, 1)


def test_a_population_is_valid_and_without_twins() -> None:
    pans = population(1000) + population(100, start=1000) + population(100, POOR)
    assert len(set(pans)) == 1200
    assert all(luhn_valid(pan) and len(pan) == 16 and pan.startswith(RICH + POOR) for pan in pans)
