"""An HSM with dual control and its callers, as the tests of dual control use it, and a key in two components."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.components import split_key
from hsm.algorithms.keyblock import wrap_block
from hsm.callers import Caller, Peer
from hsm.commands import HsmRefused
from hsm.dual_control import DualControl, Noted
from hsm.key_commands import (
    ImportComponents,
)
from hsm.key_desk import KeyDesk, key_handlers
from hsm.keys.holder import Keyholder
from hsm.keys.roles import attributes_for
from hsm.ledger_seals import LedgerWitness
from hsm.officer_commands import (
    ListProposals,
    Proposal,
    Proposals,
)
from tests.hsm.keys.opened import Clock, opened
from tests.hsm.officers import ALICE, BOB, approve, propose

ZMK = bytes(range(100, 132))
PARTS = split_key(ZMK, 2, lambda count: bytes(range(1, 1 + count)))
KCV = clear_check_value("A", ZMK)
IMPORT = ImportComponents(name="zmk-north", role="zmk", party="north", count=2)
PIN = attributes_for("pin")


class Room:
    """An HSM with dual control, and what its callers would see of it."""

    def __init__(self, state: Path, clock: Clock, wanted: bool = True) -> None:
        self.clock = clock
        self.audited: list[Noted] = []
        self.caller = "officer"
        self._opened = opened(state, clock=clock, dual_control=wanted)
        self.holder: Keyholder = self._opened.__enter__()
        self.desk = KeyDesk(self.holder.store, cards_under=lambda version: 0, settle_s=0.0)
        self.witness = LedgerWitness(state / "hsm", self.holder.token.seal_audit)
        self.control = DualControl(
            self.desk,
            key_handlers(self.desk),
            self.witness,
            wanted=wanted,
            peer=lambda: Peer(Caller(self.caller, "", frozenset(), frozenset()), 0, 0, 0),
            expiry_s=86_400.0,
            audit=self.audited.append,
        )
        self.handlers = self.control.handlers()

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def ask(self, request: Any) -> Any:
        answer = self.handlers[type(request)](request)
        return asyncio.run(_awaited(answer)) if inspect.isawaitable(answer) else answer

    @property
    def listed(self) -> Proposals:
        listed: Proposals = self.ask(ListProposals())
        return listed

    def propose(self, officer: Any, request: Any, component: bytes = b"") -> Proposal:
        proposal: Proposal = self.ask(propose(officer, self.listed, request, component)).proposal
        return proposal

    def approve(self, officer: Any, proposal: Proposal, component: bytes = b"") -> Any:
        return self.ask(approve(officer, self.listed.store, proposal, component))

    def both(self, request: Any) -> Any:
        return self.approve(BOB, self.propose(ALICE, request))

    def refused(self, request: Any, code: str, words: str = "") -> None:
        before, waiting = self.holder.store.infos(), self.holder.store.control.waiting
        with pytest.raises(HsmRefused) as refused:
            self.ask(request)
        assert (refused.value.code, words in refused.value.detail) == (code, True), refused.value
        assert self.holder.store.infos() == before and self.holder.store.control.waiting == waiting

    def bring_zmk(self) -> None:
        """Import ZMK as zmk-north, Alice and Bob with a component each."""
        self.approve(BOB, self.propose(ALICE, IMPORT, PARTS[0]), PARTS[1])

    def names(self) -> set[str]:
        return {info.name for info in self.holder.store.infos()}


async def _awaited(answer: Any) -> Any:
    return await answer


def block_under_zmk(value: bytes = bytes(range(1, 25)), usage: Any = None) -> str:
    from hsm.algorithms.components import odd_parity

    attributes = usage or PIN
    value = odd_parity(value) if attributes.algorithm == "T" else value
    return wrap_block(clear_key("A", ZMK), value, attributes, "D", lambda count: bytes(count))  # type: ignore[arg-type]
