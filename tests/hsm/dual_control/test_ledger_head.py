"""The ledger's head is accepted by two officers; the next seal that the token signs follows it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hsm.commands import HsmRefused
from hsm.dual_control import noted
from hsm.ledger_commands import AcceptLedgerHead
from hsm.ledger_seals import LedgerHead, LedgerWitness
from tests.hsm.dual_control.room import Room
from tests.hsm.keys.opened import Clock
from tests.hsm.officers import ALICE, BOB, approve, propose

HEAD = AcceptLedgerHead(number=7, digest=b"\7" * 32)


def sign_up_to(room: Room, number: int) -> None:
    """Have the witness sign seals from 1 on."""
    for one in range(1, number + 1):
        _, head = room.witness.sign(one, bytes([one]) * 32, bytes([one - 1]) * 32, b"")
        room.witness.storing(head)()
        room.witness.head = head


def test_one_officer_alone_accepts_no_ledger_head(room: Room) -> None:
    sign_up_to(room, 9)
    for caller in ("officer", "issuer", "switch", "made-up"):
        room.caller = caller
        room.refused(HEAD, "approval_needed", "accept_ledger_head takes two officers")
    proposal = room.propose(ALICE, HEAD)
    room.refused(approve(ALICE, room.listed.store, proposal), "not_permitted", "another officer")
    assert room.witness.head == LedgerHead(1, 9, b"\11" * 32)


def test_without_officers_nobody_accepts_a_ledger_head(empty: Room) -> None:
    empty.refused(HEAD, "approval_needed", "no officers are registered")
    assert empty.witness.head is None


def test_two_officers_accept_a_ledger_head(room: Room, tmp_path: Path) -> None:
    sign_up_to(room, 9)
    proposal = room.propose(ALICE, HEAD)
    assert proposal.facts == (
        f"goes on from seal 7:{'07' * 32}",
        f"the token signed seal 9:{'09' * 32} last",
    )
    assert room.witness.head == LedgerHead(1, 9, b"\11" * 32), "nothing is accepted before the approval"
    assert room.approve(BOB, proposal).head == LedgerHead(1, 7, b"\7" * 32)
    room.witness.sign(8, b"\10" * 32, b"\7" * 32, b"")
    again = LedgerWitness(tmp_path / "hsm", room.holder.token.seal_audit)
    assert again.head == LedgerHead(1, 7, b"\7" * 32)
    said = noted.get()
    assert said is not None and (said.command, said.officers) == ("accept_ledger_head", ("alice", "bob"))


def test_an_approval_is_of_exactly_that_ledger_head(room: Room) -> None:
    sign_up_to(room, 9)
    proposal = room.propose(ALICE, HEAD)
    for other in (
        msgspec.structs.replace(proposal, request=AcceptLedgerHead(number=6, digest=HEAD.digest)),
        msgspec.structs.replace(proposal, request=AcceptLedgerHead(number=7, digest=b"\6" * 32)),
        msgspec.structs.replace(proposal, facts=proposal.facts[:1]),
    ):
        room.refused(approve(BOB, room.listed.store, other), "not_permitted", "not that of bob for this change")
    _, room.witness.head = room.witness.sign(10, b"\12" * 32, b"\11" * 32, b"")
    with pytest.raises(HsmRefused, match="approval_void"):
        room.approve(BOB, proposal)
    assert room.witness.head == LedgerHead(1, 10, b"\12" * 32) and room.listed.proposals == ()


@pytest.mark.parametrize("head", [(7, b"\7" * 31), (-1, b"\7" * 32), (2**63, b"\7" * 32)])
def test_what_is_no_ledger_head_is_not_proposed(room: Room, head: tuple[int, bytes]) -> None:
    request = AcceptLedgerHead(number=head[0], digest=head[1])
    room.refused(propose(ALICE, room.listed, request), "malformed", "digest of 32 bytes")


def test_a_test_system_accepts_a_ledger_head_alone(tmp_path: Path, clock: Clock) -> None:
    room = Room(tmp_path, clock, wanted=False)
    try:
        sign_up_to(room, 9)
        assert room.ask(HEAD).head == LedgerHead(1, 7, b"\7" * 32)
    finally:
        room.close()
