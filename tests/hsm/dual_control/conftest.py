"""An HSM with dual control, before and after its officers are registered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.officer_commands import (
    RegisterOfficers,
)
from tests.hsm.dual_control.room import Room
from tests.hsm.keys.opened import Clock
from tests.hsm.officers import ALICE, BOB, CAROL


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
