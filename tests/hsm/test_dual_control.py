"""Dual control over a token: one officer alone gets no key and no way to one, whatever he sends and in what order."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.components import split_key
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.callers import CALLERS, Caller, Peer
from hsm.commands import HsmRefused
from hsm.dual_control import MAX_OFFICERS, MAX_WAITING, MAX_WAITING_OF_ONE, DualControl, Noted, noted
from hsm.errors import KeyStoreError
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
from hsm.key_desk import KeyDesk, key_handlers
from hsm.keys.backup import list_backups
from hsm.keys.holder import Keyholder
from hsm.keys.roles import attributes_for
from hsm.ledger_commands import AcceptLedgerHead
from hsm.ledger_seals import LedgerHead, LedgerWitness
from hsm.officer_commands import (
    AddOfficer,
    EndDualControl,
    ListProposals,
    Proposal,
    Proposals,
    RegisterOfficers,
    RemoveOfficer,
)
from hsm.officers import new_officer_key
from tests.hsm.keys.opened import Clock, edit, opened
from tests.hsm.officers import ALICE, BOB, CAROL, approve, propose, reject

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def empty(tmp_path: Path, clock: Clock) -> Iterator[Room]:
    room = Room(tmp_path, clock)
    yield room
    room.close()


@pytest.fixture
def room(empty: Room) -> Room:
    empty.ask(RegisterOfficers(cards=(ALICE.card, BOB.card, CAROL.card)))
    return empty


def block_under_zmk(value: bytes = bytes(range(1, 25)), usage: Any = None) -> str:
    from hsm.algorithms.components import odd_parity

    attributes = usage or PIN
    value = odd_parity(value) if attributes.algorithm == "T" else value
    return wrap_block(clear_key("A", ZMK), value, attributes, "D", lambda count: bytes(count))  # type: ignore[arg-type]


# The attack of the report: one officer, two components of his own, another party's key opened.


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


# What an approval is worth.


def test_an_approval_is_of_exactly_that_request(room: Room) -> None:
    """Whoever changes the request, the proposer or the facts after the signature has none."""
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


# Officers.


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


# The setting, and the file.


def test_officers_count_whatever_the_setting_says(tmp_path: Path, clock: Clock) -> None:
    room = Room(tmp_path, clock)
    room.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
    room.close()
    room = Room(tmp_path, clock, wanted=False)
    try:
        assert room.control.state == "enforced" and not room.holder.provisions
        room.refused(GenerateKey(name="zmk-x", role="zmk"), "approval_needed")
        assert room.both(GenerateKey(name="zmk-x", role="zmk")).keys[0].status == "active"
    finally:
        room.close()


def test_a_test_system_is_one_person_s(tmp_path: Path, clock: Clock) -> None:
    room = Room(tmp_path, clock, wanted=False)
    try:
        assert room.control.state == "off"
        assert room.ask(GenerateKey(name="zmk-x", role="zmk")).keys[0].status == "active"
    finally:
        room.close()


def test_zone_master_keys_in_clear_files_keep_officers_out(tmp_path: Path, clock: Clock) -> None:
    """What a test system has made for itself is known to whoever reads its directory."""
    from hsm.config import KeyConfig

    with opened(tmp_path, KeyConfig("zpk", "pin", "alpha"), clock=clock, dual_control=False):
        pass
    room = Room(tmp_path, clock)
    try:
        room.refused(RegisterOfficers(cards=(ALICE.card, BOB.card)), "key_in_use", "zmk-alpha lie in clear files")
    finally:
        room.close()


def test_proposals_and_officers_outlive_the_process(tmp_path: Path, clock: Clock) -> None:
    room = Room(tmp_path, clock)
    room.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
    proposal = room.propose(ALICE, IMPORT, PARTS[0])
    room.close()
    room = Room(tmp_path, clock)
    try:
        assert room.listed.proposals == (proposal,)
        assert room.approve(BOB, proposal, PARTS[1]).keys[0].kcv == KCV
    finally:
        room.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("control"),
        lambda content: content.update(control={}),
        lambda content: content["control"]["officers"].pop(),
        lambda content: content["control"]["officers"][1].update(public_key=CAROL.card.public_key),
        lambda content: content["control"]["waiting"][0]["proposal"].update(proposer="carol"),
        lambda content: content.update(format=2, control={}),
        lambda content: (content.pop("control"), content.update(format=2))[0] and None,
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, clock: Clock, change: Any) -> None:
    room = Room(tmp_path, clock)
    room.ask(RegisterOfficers(cards=(ALICE.card, BOB.card)))
    room.propose(ALICE, GenerateKey(name="zmk-x", role="zmk"))
    room.close()

    def changed(content: Any) -> Any:
        change(content)
        return content

    edit(tmp_path / "hsm" / "keys.json", changed)
    with pytest.raises(KeyStoreError, match="seal of the list is wrong"):
        Room(tmp_path, clock)


def test_proposals_do_not_drive_out_copies_of_keys(room: Room, tmp_path: Path) -> None:
    before = [copy.number for copy in list_backups(tmp_path / "hsm")]
    for _ in range(5):
        proposal = room.propose(ALICE, GenerateKey(name="zmk-x", role="zmk"))
        room.ask(reject(BOB, room.listed.store, proposal))
    assert [copy.number for copy in list_backups(tmp_path / "hsm")] == before


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


# The ledger's head: the next seal that the token signs follows it.

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
