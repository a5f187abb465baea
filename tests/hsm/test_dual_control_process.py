"""Dual control by the running process: commands of officers and others over its sockets, and their audit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.postgresql import EmbeddedPostgres
from hsm.asyncio_client import open_hsm
from hsm.audit import read_records
from hsm.commands import HsmRefused
from hsm.config import HsmConfig
from hsm.key_commands import ExportKey, GenerateKey, ImportComponents, RenewLinkKey, RetireKey, RotateKey
from hsm.ledger_commands import AcceptLedgerHead
from hsm.officer_commands import ListProposals, Propose, RegisterOfficers
from hsm.server import AUDIT
from tests.hsm.conftest import HsmProcess, new_database
from tests.hsm.dual_control.room import IMPORT, KCV, PARTS
from tests.hsm.officers import ALICE, BOB, CAROL, approve, propose, reject


@pytest.fixture
def process(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[HsmProcess]:
    running = HsmProcess(tmp_path, new_database(postgresql_server), HsmConfig())
    yield running
    running.stop()


def test_a_ceremony_with_the_running_process(process: HsmProcess) -> None:
    async def test() -> None:
        officer_socket = process.state / "hsm-officer.sock"
        async with open_hsm(officer_socket) as hsm, open_hsm(process.socket) as other:
            assert (await hsm.status()).dual_control == "no officers"
            await hsm.ask(RegisterOfficers(cards=(ALICE.card, BOB.card, CAROL.card)))
            assert (await hsm.status()).dual_control == "enforced"
            listed: Any = await hsm.ask(ListProposals())

            async def both(request: Any, *parts: bytes) -> Any:
                first, second = parts or (b"", b"")
                proposed: Any = await hsm.ask(propose(ALICE, listed, request, first))
                return await other.ask(approve(BOB, listed.store, proposed.proposal, second))

            assert (await both(IMPORT, *PARTS)).keys[0].kcv == KCV
            await hsm.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
            alone = (
                ImportComponents(name="zmk-x", role="zmk", components=tuple(PARTS)),
                ExportKey(name="zpk-north", under="zmk-north"),
                RetireKey(name="zpk-north", version=1),
                GenerateKey(name="zmk-x", role="zmk"),
                RenewLinkKey(name="zpk-north"),
                AcceptLedgerHead(number=7, digest=b"\7" * 32),
            )
            for request in alone:  # the caller who may send everything, by the configuration, gets round nothing
                with pytest.raises(HsmRefused, match="approval_needed"):
                    await other.ask(request)
            assert (await both(ExportKey(name="zpk-north", under="zmk-north"))).block
            assert (await both(AcceptLedgerHead(number=7, digest=b"\7" * 32))).head.number == 7
            await hsm.ask(RotateKey(name="zpk-north"))
            assert (await both(RetireKey(name="zpk-north", version=2))).keys[0].status == "retired"
            proposed: Any = await hsm.ask(propose(ALICE, listed, GenerateKey(name="zmk-x", role="zmk")))
            await hsm.ask(reject(CAROL, listed.store, proposed.proposal))
            forged: Propose = propose(ALICE, listed, GenerateKey(name="zmk-x", role="zmk"), officer="bob")
            with pytest.raises(HsmRefused, match="not_permitted"):
                await hsm.ask(forged)

    asyncio.run(test())
    assert process.stop() == 0, process.log
    said = [
        (one["command"], one["outcome"], one.get("officers"), one["keys"])
        for one in read_records(process.state / AUDIT)
    ]
    assert said[:2] == [
        ("dual_control", "no_officers", None, []),
        ("register_officers", "ok", ["alice", "bob", "carol"], []),
    ]
    for expected in (
        ("import_components", "proposed", ["alice"], ["unknown"]),
        ("import_components", "ok", ["alice", "bob"], ["zmk-north/1"]),
        ("import_components", "approval_needed", None, ["unknown"]),
        ("export_key", "approval_needed", None, ["zpk-north/1", "zmk-north/1"]),
        ("export_key", "ok", ["alice", "bob"], ["zpk-north/1", "zmk-north/1"]),
        ("retire_key", "ok", ["alice", "bob"], ["zpk-north/2"]),
        ("accept_ledger_head", "approval_needed", None, []),
        ("accept_ledger_head", "ok", ["alice", "bob"], []),
        ("generate_key", "rejected", ["alice", "carol"], ["unknown"]),
        ("generate_key", "not_permitted", None, ["unknown"]),
    ):
        assert expected in said, (expected, said)
    for part in PARTS:
        assert part.hex() not in process.log.lower()


def test_a_proposal_outlives_the_process(process: HsmProcess) -> None:
    async def first() -> Any:
        async with open_hsm(process.state / "hsm-officer.sock") as hsm:
            listed: Any = await hsm.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
            return await hsm.ask(propose(ALICE, listed, IMPORT, PARTS[0]))

    asyncio.run(first())
    assert process.stop(9) == -9
    again = HsmProcess(process.state, process.dsn, HsmConfig(dual_control=False))

    async def second() -> None:
        async with open_hsm(again.state / "hsm-officer.sock") as hsm:
            listed: Any = await hsm.ask(ListProposals())
            (proposal,) = listed.proposals
            answer: Any = await hsm.ask(approve(BOB, listed.store, proposal, PARTS[1]))
            assert answer.keys[0].kcv == KCV

    asyncio.run(second())
    assert again.stop() == 0 and "dual_control_stays" in again.log, again.log
