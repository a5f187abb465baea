"""Dual control in the setting and in the key file: it outlives the process, and an edited file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hsm.errors import KeyStoreError
from hsm.key_commands import (
    GenerateKey,
)
from hsm.keys.backup import list_backups
from hsm.officer_commands import (
    RegisterOfficers,
)
from tests.hsm.dual_control.room import IMPORT, KCV, PARTS, Room
from tests.hsm.keys.opened import Clock, edit, opened
from tests.hsm.officers import ALICE, BOB, CAROL, reject


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
    """Keys that a test system has made for itself are known to every reader of its directory."""
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
