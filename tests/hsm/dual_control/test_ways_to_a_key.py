"""One officer alone gets no key and no way to one, by any commands in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.components import split_key
from hsm.algorithms.keyblock import unwrap_block
from hsm.callers import CALLERS
from hsm.commands import HsmRefused
from hsm.key_commands import (
    AcceptLinkKey,
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    KeyRequest,
    ListKeys,
    RenewLinkKey,
    RetireKey,
    Rewrap,
    RotateKey,
)
from hsm.keys.roles import attributes_for
from tests.hsm.dual_control.room import IMPORT, KCV, PARTS, ZMK, Room, block_under_zmk
from tests.hsm.officers import ALICE, BOB, CAROL, approve, propose


def test_one_officer_alone_gets_no_clear_key(room: Room) -> None:
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    direct = ImportComponents(name="zmk-north", role="zmk", party="north", components=tuple(PARTS))
    room.refused(direct, "approval_needed")
    room.refused(propose(ALICE, room.listed, direct, PARTS[0]), "malformed", "each officer enters one")
    proposal = room.propose(ALICE, IMPORT, PARTS[0])
    room.refused(approve(ALICE, room.listed.store, proposal, PARTS[1]), "not_permitted", "another officer")
    assert "zmk-north" not in room.names()
    room.refused(ExportKey(name="zpk-north", under="zmk-north"), "approval_needed")


def test_two_officers_bring_a_zone_master_key_in_components(room: Room) -> None:
    proposal = room.propose(ALICE, IMPORT, PARTS[0])
    assert "zmk-north" not in room.names(), "a new zone master key is not active before its approval"
    assert [(one.officer, one.check_value) for one in proposal.entered] == [("alice", clear_check_value("A", PARTS[0]))]
    (made,) = room.approve(BOB, proposal, PARTS[1]).keys
    assert (made.name, made.kcv, made.status, made.party, made.origin) == (
        "zmk-north", KCV, "active", "north", "components",
    )  # fmt: skip
    assert room.listed.proposals == ()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    block = room.both(ExportKey(name="zpk-north", under="zmk-north"))
    found = unwrap_block(clear_key("A", ZMK), block.block)  # type: ignore[arg-type]
    assert clear_check_value("T", found.key) == block.kcv


def test_three_components_take_three_officers(room: Room) -> None:
    starts = iter((7, 50))
    parts = split_key(ZMK, 3, lambda count: bytes(range(start := next(starts), start + count)))
    proposal = room.propose(ALICE, msgspec.structs.replace(IMPORT, count=3, kcv=KCV.lower()), parts[0])
    more = room.approve(BOB, proposal, parts[1]).proposal
    assert [one.officer for one in more.entered] == ["alice", "bob"] and "zmk-north" not in room.names()
    for officer in (ALICE, BOB):
        room.refused(approve(officer, room.listed.store, more, parts[2]), "not_permitted", "another officer")
    (made,) = room.approve(CAROL, more, parts[2]).keys
    assert made.kcv == KCV


def test_components_with_another_check_value_than_agreed_make_no_key(room: Room) -> None:
    proposal = room.propose(ALICE, msgspec.structs.replace(IMPORT, kcv="000000"), PARTS[0])
    with pytest.raises(HsmRefused, match=f"check value {KCV}, not 000000"):
        room.approve(BOB, proposal, PARTS[1])
    assert "zmk-north" not in room.names() and room.listed.proposals == ()


def test_the_components_of_others_are_shown_to_nobody(room: Room, tmp_path: Path) -> None:
    proposal = room.propose(ALICE, IMPORT, PARTS[0])
    seen = msgspec.json.encode(room.listed) + msgspec.json.encode(proposal) + repr(proposal).encode()
    seen += (tmp_path / "hsm" / "keys.json").read_bytes()
    assert PARTS[0] not in seen and PARTS[0].hex() not in seen.decode().lower()


# Every way to a key, and every way round.

DIRECT = {
    "import of components": ImportComponents(name="zmk-south", role="zmk", components=tuple(PARTS), party="south"),
    "import of any key in components": ImportComponents(name="cvk-x", role="cvk", components=(b"\1" * 16, b"\2" * 16)),
    "export": ExportKey(name="zpk-north", under="zmk-north"),
    "retire": RetireKey(name="zpk-north", version=1),
    "new zone master key": GenerateKey(name="zmk-south", role="zmk", party="south"),
    "import of a block": ImportBlock(name="zpk-in", role="pin", block=block_under_zmk(), under="zmk-north"),
    "zone master key in a block": ImportBlock(
        name="zmk2", role="zmk", block=block_under_zmk(bytes(range(32)), attributes_for("zmk")), under="zmk-north"
    ),
    "activation": ActivateKey(name="zpk-north", version=2),
    "renewal by an officer": RenewLinkKey(name="zpk-north"),
    "renewal given again by an officer": RenewLinkKey(name="zpk-north", version=2),
    "link key taken by an officer": AcceptLinkKey(name="zpk-north", block=block_under_zmk()),
}


@pytest.mark.parametrize("name", DIRECT)
def test_one_officer_alone_is_refused(room: Room, name: str) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    room.ask(RotateKey(name="zpk-north"))
    for caller in ("officer", "issuer", "made-up"):
        room.caller = caller
        room.refused(DIRECT[name], "approval_needed")


@pytest.mark.parametrize("name", DIRECT)
def test_without_officers_nobody_does_it(empty: Room, name: str) -> None:
    empty.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    empty.refused(DIRECT[name], "approval_needed")


@pytest.mark.parametrize("name", [name for name in DIRECT if "by an officer" not in name])
def test_two_officers_do_it(room: Room, name: str) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    room.ask(RotateKey(name="zpk-north"))
    request: Any = DIRECT[name]
    proposal: Any
    if isinstance(request, ImportComponents):
        from hsm.algorithms.components import odd_parity

        components = request.components if request.role == "zmk" else split_key(
            odd_parity(bytes(range(1, 17))), 2, lambda count: bytes(range(40, 40 + count))
        )  # fmt: skip
        request = msgspec.structs.replace(request, components=(), count=2)
        proposal = room.propose(ALICE, request, components[0])
        assert room.approve(BOB, proposal, components[1]).keys[0].status == "active"
        return
    before = room.holder.store.infos()
    proposal = room.propose(ALICE, request)
    assert room.holder.store.infos() == before, "nothing is done before the approval"
    room.approve(BOB, proposal)
    assert isinstance(request, ExportKey) or room.holder.store.infos() != before


def test_keys_that_nobody_learns_are_made_by_one_officer(room: Room) -> None:
    (made,) = room.ask(GenerateKey(name="zpk-north", role="pin", party="north")).keys
    assert made.status == "active"
    assert room.ask(RotateKey(name="pan")).keys[0].version == 2
    with pytest.raises(HsmRefused):
        room.ask(RotateKey(name="zmk-north"))


def test_the_switch_exchanges_link_keys_but_no_zone_master_key(room: Room) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    room.caller = "switch"
    offered = room.ask(RenewLinkKey(name="zpk-north"))
    assert room.ask(ActivateKey(name="zpk-north", version=offered.version)).keys[0].status == "active"
    assert room.ask(AcceptLinkKey(name="zpk-north", block=block_under_zmk())).keys[0].status == "active"
    block = block_under_zmk(bytes(range(32)), attributes_for("zmk"))
    for request in (
        RenewLinkKey(name="zmk-north"),
        AcceptLinkKey(name="zmk-north", block=block),
        ActivateKey(name="zmk-north", version=1),
        ExportKey(name="zpk-north", under="zmk-north"),
    ):
        room.refused(request, "approval_needed")


def test_a_pending_zone_master_key_is_not_activated_alone(room: Room) -> None:
    room.bring_zmk()
    block = block_under_zmk(bytes(range(32)), attributes_for("zmk"))
    pending = ImportBlock(name="zmk2", role="zmk", block=block, under="zmk-north", pending=True)
    assert room.both(pending).keys[0].status == "pending"
    for caller in ("officer", "switch"):
        room.caller = caller
        room.refused(ActivateKey(name="zmk2", version=1), "approval_needed")
    assert room.both(ActivateKey(name="zmk2", version=1)).keys[0].status == "active"


def test_every_command_on_keys_is_decided_about() -> None:
    alone = {ListKeys, RotateKey, Rewrap}
    controlled = {type(request) for request in DIRECT.values()}
    assert alone | controlled == set(get_args(KeyRequest)), "a new command belongs to one side or the other"
    assert not {"renew_link_key", "accept_link_key"} & CALLERS["officer"]
