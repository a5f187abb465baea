"""Officers: the first ones, changes of them, and the end of dual control."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hsm.commands import HsmRefused
from hsm.dual_control import MAX_OFFICERS
from hsm.key_commands import (
    GenerateKey,
)
from hsm.officer_commands import (
    AddOfficer,
    EndDualControl,
    RegisterOfficers,
    RemoveOfficer,
)
from hsm.officers import new_officer_key
from tests.hsm.dual_control.room import Room
from tests.hsm.officers import ALICE, BOB, CAROL, approve, propose


def test_the_first_officers_are_registered_once(empty: Room) -> None:
    other = new_officer_key("mallory")
    assert empty.control.state == "no officers"
    empty.refused(RegisterOfficers(cards=(ALICE.card,)), "malformed", "2 officers")
    empty.refused(RegisterOfficers(cards=(ALICE.card, ALICE.card)), "malformed", "named 'alice'")
    twice = msgspec.structs.replace(BOB.card, public_key=ALICE.card.public_key)
    empty.refused(RegisterOfficers(cards=(ALICE.card, twice)), "malformed", "signed by its own key")
    listed = empty.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
    assert listed.enforced and empty.control.state == "enforced" and len(listed.store) == 32
    empty.refused(RegisterOfficers(cards=(other.card, CAROL.card)), "approval_needed")


def test_one_key_under_two_names_is_one_officer(empty: Room) -> None:
    from hsm.officers import OfficerKey

    alias = OfficerKey("alias", ALICE._key)
    empty.refused(RegisterOfficers(cards=(ALICE.card, alias.card)), "malformed", "another officer's")
    empty.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
    empty.refused(propose(ALICE, empty.listed, AddOfficer(card=alias.card)), "malformed", "another officer's")


def test_officers_change_under_dual_control_only(room: Room) -> None:
    dave = new_officer_key("dave")
    proposal = room.propose(ALICE, AddOfficer(card=dave.card))
    room.refused(approve(dave, room.listed.store, proposal), "not_permitted", "no officer")
    assert {card.name for card in room.approve(BOB, proposal).officers} == {"alice", "bob", "carol", "dave"}
    assert "carol" not in {card.name for card in room.both(RemoveOfficer(name="carol")).officers}
    with pytest.raises(HsmRefused, match="no officer named 'carol'"):
        room.propose(CAROL, GenerateKey(name="zmk-x", role="zmk"))
    room.both(RemoveOfficer(name="dave"))
    room.refused(propose(ALICE, room.listed, RemoveOfficer(name="bob")), "not_permitted", "2 officers stay")


def test_the_proposals_of_a_removed_officer_are_void(room: Room) -> None:
    proposal = room.propose(CAROL, GenerateKey(name="zmk-south", role="zmk", party="south"))
    room.both(RemoveOfficer(name="carol"))
    with pytest.raises(HsmRefused, match="proposal_unknown"):
        room.approve(BOB, proposal)


def test_no_more_officers_than_a_limit(empty: Room) -> None:
    keys = [new_officer_key(f"officer-{number}") for number in range(MAX_OFFICERS + 1)]
    with pytest.raises(HsmRefused, match="16 officers at most"):
        empty.ask(RegisterOfficers(cards=tuple(key.card for key in keys)))


def test_dual_control_is_ended_by_two_officers_and_that_stays_known(room: Room, tmp_path: Path) -> None:
    proposal = room.propose(ALICE, EndDualControl())
    assert room.control.state == "enforced"
    room.approve(BOB, proposal)
    assert room.control.state == "no officers", "the setting still wants two"
    assert room.holder.store.control.ended_at == int(room.clock.now)
    room.refused(GenerateKey(name="zmk-x", role="zmk"), "approval_needed")
