"""An approval is of exactly one proposal, by another officer, once and in time."""

from __future__ import annotations

import msgspec
import pytest

from hsm.commands import HsmRefused
from hsm.dual_control import MAX_WAITING, MAX_WAITING_OF_ONE, noted
from hsm.key_commands import (
    AcceptLinkKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    RetireKey,
)
from hsm.officer_commands import (
    RemoveOfficer,
)
from hsm.officers import new_officer_key
from tests.hsm.dual_control.room import IMPORT, KCV, PARTS, Room, block_under_zmk
from tests.hsm.officers import ALICE, BOB, CAROL, approve, propose, reject


def test_an_approval_is_of_exactly_that_request(room: Room) -> None:
    """A change of the request, the proposer or the facts after the signature voids it."""
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    room.ask(GenerateKey(name="zpk-other", role="pin", party="north"))
    proposal = room.propose(ALICE, ExportKey(name="zpk-north", under="zmk-north"))
    assert any(KCV in fact and "north" in fact for fact in proposal.facts), proposal.facts
    for change in (
        {"request": ExportKey(name="zpk-other", under="zmk-north")},
        {"request": ExportKey(name="zpk-north", under="zmk-north", block_version="D")},
        {"facts": ("something else",)},
        {"proposer": "carol"},
        {"expires_at": proposal.expires_at + 1},
        {"nonce": "00" * 16},
    ):
        shown = msgspec.structs.replace(proposal, **change)
        room.refused(approve(BOB, room.listed.store, shown), "not_permitted", "signature")
    room.refused(approve(BOB, "00" * 16, proposal), "not_permitted", "signature")  # for another key store
    room.refused(approve(BOB, room.listed.store, proposal, officer="carol"), "not_permitted", "signature")
    mallory = new_officer_key("bob")
    room.refused(approve(mallory, room.listed.store, proposal), "not_permitted", "signature")
    room.refused(approve(new_officer_key("dave"), room.listed.store, proposal), "not_permitted", "no officer")
    assert room.approve(BOB, proposal).block


def test_a_proposal_is_its_proposer_s(room: Room) -> None:
    request = GenerateKey(name="zmk-south", role="zmk", party="south")
    listed = room.listed
    for changes in (
        {"officer": "bob"},
        {"request": GenerateKey(name="zmk-south", role="zmk", mode="E", party="south")},
        {"nonce": "00" * 16},
        {"made_at": listed.now + 1},
    ):
        room.refused(propose(ALICE, listed, request, **changes), "not_permitted", "signature")
    elsewhere = msgspec.structs.replace(listed, store="00" * 16)
    room.refused(propose(ALICE, elsewhere, request), "not_permitted", "signature")
    for signed_at in (listed.now - 301, listed.now + 301):
        room.refused(propose(ALICE, listed, request, signed_at=signed_at), "expired")


def test_a_component_is_signed_for_with_its_check_value(room: Room) -> None:
    listed = room.listed
    room.refused(propose(ALICE, listed, IMPORT, PARTS[0], component=PARTS[1]), "not_permitted", "signature")
    proposal = room.propose(ALICE, IMPORT, PARTS[0])
    room.refused(approve(BOB, listed.store, proposal, PARTS[1], component=bytes(32)), "not_permitted", "signature")
    room.refused(approve(BOB, listed.store, proposal), "malformed", "16, 24 or 32")
    request = GenerateKey(name="zmk-south", role="zmk")
    room.refused(propose(ALICE, listed, request, component=PARTS[0]), "malformed", "belongs to an import")


def test_nothing_is_replayed(room: Room) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    listed = room.listed
    proposed = propose(ALICE, listed, ExportKey(name="zpk-north", under="zmk-north"))
    proposal = room.ask(proposed).proposal
    room.refused(proposed, "malformed", "made before")
    approved = approve(BOB, listed.store, proposal)
    room.ask(approved)
    room.refused(approved, "proposal_unknown")
    room.refused(proposed, "malformed", "made before")
    room.clock.now += 301
    room.refused(proposed, "expired")


def test_a_proposal_is_void_once_what_it_names_has_changed(room: Room) -> None:
    """Two approved one version; between proposal and approval another came into force."""
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    proposal = room.propose(ALICE, ExportKey(name="zpk-north", under="zmk-north"))
    room.caller = "switch"
    room.ask(AcceptLinkKey(name="zpk-north", block=block_under_zmk()))
    with pytest.raises(HsmRefused, match="approval_void"):
        room.approve(BOB, proposal)
    assert room.listed.proposals == ()


def test_a_proposal_expires(room: Room) -> None:
    proposal = room.propose(ALICE, GenerateKey(name="zmk-south", role="zmk", party="south"))
    room.clock.now += 86_400
    with pytest.raises(HsmRefused, match="proposal_unknown"):
        room.approve(BOB, proposal)
    assert [(one.command, one.officers, one.outcome) for one in room.audited] == [
        ("generate_key", ("alice",), "expired")
    ]
    assert "zmk-south" not in room.names()


def test_a_proposal_is_rejected_by_any_officer_and_withdrawn_by_its_own(room: Room) -> None:
    request = GenerateKey(name="zmk-south", role="zmk", party="south")
    for officer in (BOB, ALICE):
        proposal = room.propose(ALICE, request)
        assert room.ask(reject(officer, room.listed.store, proposal)).proposals == ()
        with pytest.raises(HsmRefused, match="proposal_unknown"):
            room.approve(BOB, proposal)
    proposal = room.propose(ALICE, request)
    forged = msgspec.structs.replace(reject(ALICE, room.listed.store, proposal), officer="bob")
    room.refused(forged, "not_permitted", "signature")


def test_proposals_are_limited(room: Room) -> None:
    def request(number: int) -> GenerateKey:
        return GenerateKey(name=f"zmk-{number}", role="zmk", party=str(number))

    for number in range(MAX_WAITING_OF_ONE):
        room.propose(ALICE, request(number))
    room.refused(propose(ALICE, room.listed, request(99)), "overloaded", "of alice wait")
    for number in range(MAX_WAITING - MAX_WAITING_OF_ONE):
        room.propose((BOB, CAROL)[number % 2], request(10 + number))
    room.refused(propose(BOB, room.listed, request(99)), "overloaded", "approve or reject")
    room.refused(propose(BOB, room.listed, ImportBlock(name="x", role="pin", block="D" * 4000, under="y")), "malformed")


def test_what_could_not_be_done_is_not_proposed(room: Room) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="cvk-own", role="cvk"))
    for request, code in (
        (ExportKey(name="cvk-own", under="zmk-north"), "not_exportable"),
        (ExportKey(name="nobody", under="zmk-north"), "key_unknown"),
        (ImportBlock(name="x", role="pin", block="D0", under="zmk-north"), "key_block_invalid"),
        (RetireKey(name="cvk-own", version=7), "key_unknown"),
        (GenerateKey(name="zmk-north", role="zmk"), "key_exists"),
        (GenerateKey(name="zmk-south", role="zmk", party="mallory"), "malformed"),
        (RemoveOfficer(name="nobody"), "malformed"),
    ):
        room.refused(propose(ALICE, room.listed, request), code)
    room.refused(propose(ALICE, room.listed, msgspec.structs.replace(IMPORT, count=1), PARTS[0]), "malformed")


FORGED = "\x1b[2J\x1b[Hproposal 0a2e829601ad: retire_key\r\n  name: zpk-old"


def test_no_text_of_a_proposal_forges_what_the_second_officer_sees(room: Room) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    block = block_under_zmk()
    for request in (
        GenerateKey(name="harmless", role="zmk", party=FORGED),
        GenerateKey(name="harmless\n", role="zmk"),
        ExportKey(name="zpk-north", under="zmk-north", block_version="D" + FORGED),
        ImportBlock(name="x", role="pin", block=block, under="zmk-north", kcv=FORGED),
        ImportBlock(name="x", role="pin", block=block, under="zmk-north", party="north\n"),
        RetireKey(name="zpk-north\n", version=1),
    ):
        room.refused(propose(ALICE, room.listed, request), "malformed")
    for name in ("kcv", "party"):
        changed = msgspec.structs.replace(IMPORT, name="zmk-south", **{"party": "south", name: FORGED})
        room.refused(propose(ALICE, room.listed, changed, PARTS[0]), "malformed", name)
    # Commands that one officer gives alone, too.
    room.refused(GenerateKey(name="zpk-south", role="pin", party=FORGED), "malformed", "party")


def test_the_audit_hears_of_both_officers(room: Room) -> None:
    room.bring_zmk()
    room.ask(GenerateKey(name="zpk-north", role="pin", party="north"))
    proposal = room.propose(ALICE, RetireKey(name="zpk-north", version=1))
    said = noted.get()
    assert said is not None
    assert (said.command, said.names, said.officers, said.outcome, said.version) == (
        "retire_key", ("zpk-north",), ("alice",), "proposed", 1,
    )  # fmt: skip
    room.approve(BOB, proposal)
    said = noted.get()
    assert said is not None and (said.officers, said.version) == (("alice", "bob"), 1)
