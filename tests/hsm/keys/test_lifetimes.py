"""Cryptoperiods: the end of a version's, its warnings, and the refusals once it is over, where they are set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import structlog

from hsm.commands import HsmRefused
from hsm.config import HsmConfig, KeyConfig
from hsm.key_commands import KeyInfo
from hsm.key_watch import KeyWatch
from hsm.keys.attributes import ROLES
from hsm.keys.lifetimes import DAY_S, LIFETIME_DAYS, expiry, left_days, lifetimes
from hsm.keys.own_keys import RESERVED_NAMES
from hsm.keys.permissions import Operation
from hsm.keys.records import DATA_ROLE
from hsm.metrics import Metrics
from tests.hsm.keys.opened import Clock, info, opened

ZPK = KeyConfig("zpk", "pin", "alpha")
ZAK = KeyConfig("zak", "mac", "alpha")
START = 1_800_000_000


def test_every_role_has_a_period() -> None:
    assert set(LIFETIME_DAYS) == set(ROLES) | {DATA_ROLE}
    assert all(0 < days <= 1826 for days in LIFETIME_DAYS.values())


@pytest.mark.parametrize(
    ("role", "active_from", "created_at", "expected"),
    [
        ("pin", START, START - 5, START + 365 * DAY_S),
        ("pin", 0, START, START + 365 * DAY_S),  # of a release that did not take down when it came into force
        ("pin", 0, 0, 0),
        ("storage", START, START, 0),
        ("mac", START, 0, 0),
    ],
)
def test_expiry(role: str, active_from: int, created_at: int, expected: int) -> None:
    assert expiry(lifetimes({"mac": 0}), role, active_from, created_at) == expected


def test_left_days() -> None:
    assert [left_days(START, START + seconds) for seconds in (-DAY_S, -1, 0, 1)] == [1, 0, 0, -1]


def test_a_version_has_the_times_of_its_life(tmp_path: Path) -> None:
    clock = Clock(START)
    with opened(tmp_path, ZPK, clock=clock, key_lifetime_days={"pin": 10}) as holder:
        first = info(holder.store, "zpk")
        assert (first.created_at, first.active_from, first.expires_at) == (START, START, START + 10 * DAY_S)
        clock.now += DAY_S
        made = holder.store.generate("zpk", "pin", first.attributes, "alpha", pending=True)
        second = info(holder.store, "zpk")
        assert (second.created_at, second.active_from, second.expires_at) == (START + DAY_S, 0, 0)
        clock.now += DAY_S
        holder.store.activate(made)
        second = info(holder.store, "zpk")
        assert (second.active_from, second.expires_at) == (START + 2 * DAY_S, START + 12 * DAY_S)
        names = {one.name for one in holder.store.infos() if not one.expires_at and one.status == "active"}
        assert names == RESERVED_NAMES - {"pan"}


def test_an_expired_key_goes_on_working(tmp_path: Path) -> None:
    clock = Clock(START)
    with opened(tmp_path, ZPK, clock=clock) as holder:
        clock.now += 366 * DAY_S
        keyring = holder.store.keyring()
        assert keyring.key("zpk", Operation.PIN_ENCRYPT) and keyring.candidates("zpk", Operation.PIN_DECRYPT)


def test_where_it_is_wanted_nothing_new_is_made_with_an_expired_key(tmp_path: Path) -> None:
    clock = Clock(START)
    days = {"pin": 10, "mac": 5, "data": 1}
    with opened(tmp_path, ZPK, ZAK, clock=clock, expired_keys="refuse", key_lifetime_days=days) as holder:
        keyring = holder.store.keyring()
        assert keyring.key("zpk", Operation.PIN_ENCRYPT) and keyring.key("zak", Operation.MAC_GENERATE)
        clock.now += 7 * DAY_S
        assert keyring.candidates("zak", Operation.MAC_VERIFY)
        with pytest.raises(HsmRefused, match="key_expired: the cryptoperiod of key 'zak' is over"):
            keyring.key("zak", Operation.MAC_GENERATE)
        assert keyring.key("zpk", Operation.PIN_ENCRYPT)
        assert keyring.seal(b"", bytes(12), b"").key_version == "pan-1", "the vault goes on"
        clock.now += 7 * DAY_S
        keyring = holder.store.keyring()
        with pytest.raises(HsmRefused, match="key_expired"):
            keyring.key("zpk", Operation.PIN_ENCRYPT)
        assert keyring.candidates("zpk", Operation.PIN_DECRYPT)
        holder.store.generate("zpk", "pin", info(holder.store, "zpk").attributes, "alpha")
        assert holder.store.keyring().key("zpk", Operation.PIN_ENCRYPT).version == 2


class Watched:
    """A watch over keys that a test makes up."""

    def __init__(self, *infos: KeyInfo) -> None:
        self.infos = infos
        self.clock = Clock(START)
        self.metrics = Metrics()
        self.expired = 0
        self.watch = KeyWatch(lambda: self.infos, self.metrics, 30, self.clock, self._on_expired)

    def _on_expired(self) -> None:
        self.expired += 1

    def look(self) -> list[tuple[Any, ...]]:
        with structlog.testing.capture_logs() as logs:
            self.watch.look()
        return [(entry["event"], entry["key"], entry["days_left"]) for entry in logs]


def key(name: str, expires_at: int, status: str = "active") -> KeyInfo:
    attributes = ROLES["pin"].algorithms["TDES"]
    return KeyInfo(
        name=name, version=2, role="pin", attributes=attributes, kcv="", status=status, expires_at=expires_at
    )


def test_a_key_is_warned_of_once_a_day_and_its_end_is_said() -> None:
    watched = Watched(
        key("soon", START + 20 * DAY_S), key("later", START + 40 * DAY_S), key("none", 0), key("old", START, "previous")
    )
    assert watched.look() == [("key_expires_soon", "soon/2", 20)]
    assert watched.look() == []
    watched.clock.now += DAY_S
    assert watched.look() == [("key_expires_soon", "soon/2", 19)] and watched.expired == 0
    watched.clock.now = START + 20 * DAY_S
    assert watched.look() == [("key_expired", "soon/2", 0), ("key_expires_soon", "later/2", 20)]
    assert watched.expired == 1
    watched.look()
    assert watched.expired == 1, "once for each key"
    text = watched.metrics.text()
    (ends,) = re.findall(r'^cardswitch_hsm_key_expiry_timestamp_seconds\{key="soon"\} (\S+)$', text, re.MULTILINE)
    assert float(ends) == START + 20 * DAY_S
    assert 'key="none"' not in text and 'key="old"' not in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"key_lifetime_days": {"nothing": 1}}, "no role 'nothing'"),
        ({"key_lifetime_days": {"pin": -1}}, "key_lifetime_days.pin"),
        ({"key_lifetime_days": {"pin": 9999}}, "key_lifetime_days.pin"),
        ({"key_warning_days": 366}, "key_warning_days"),
        ({"approval_hours": 0.5}, "approval_hours"),
        ({"approval_hours": 169.0}, "approval_hours"),
        ({"provision": True}, "hsm.provision"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    (problem,) = HsmConfig(**settings).problems()
    assert words in problem
