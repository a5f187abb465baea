"""kill -9 while keys are made, exchanged and retired, at seeded random moments: the token opens, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from hsm.keys.keyring import Sealed
from tests.hsm.keys.opened import CONFIG, opened

KILLS = 22
SEED = 20261122
LONGEST_S = 0.2


class Acknowledged:
    """Changes that killed processes had confirmed: the check value of each made version, and the retired ones."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, int], str] = {}
        self.retired: set[tuple[str, int]] = set()

    def hear(self, line: str) -> None:
        """Take in a whole line."""
        name, version, kcv, status = line.split()
        if status == "retired":
            self.retired.add((name, int(version)))
        else:
            self.made[name, int(version)] = kcv


class Victims:
    """Processes at work, one after the other."""

    def __init__(self, state: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hsm.keys.killed", str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._said = self._process.stdin, self._process.stdout

    def run_and_kill(self, seed: int, after_s: float) -> list[str]:
        """Start one, kill it some time after its first word; return what it said."""
        self._orders.write(f"{seed}\n")
        self._orders.flush()
        said = [self._line(), self._line()]
        pid = next(int(line.split()[1]) for line in said if line.startswith("pid "))
        assert "ended" not in said, "it could not start"
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        while (line := self._line()) != "ended":
            said.append(line)
        return [line for line in said if not line.startswith("pid ")]

    def close(self) -> None:
        self._orders.close()
        self._said.close()
        assert self._process.wait(10) == 0

    def _line(self) -> str:
        while True:
            line = self._said.readline()
            assert line, "the process is gone"
            if line.strip():
                return line.strip()


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    with opened(tmp_path, *CONFIG.keys) as holder:
        sealed = holder.store.keyring().seal(b"first", bytes(12), b"card")
        fingerprint = holder.store.keyring().fingerprint("4242424242424242")
    acknowledged, said = Acknowledged(), 0
    victims = Victims(tmp_path)
    for kill in range(KILLS):
        for line in victims.run_and_kill(kill, moments.uniform(0.0, LONGEST_S)):
            acknowledged.hear(line)
            said += 1
        with opened(tmp_path, *CONFIG.keys) as holder:
            check(holder.store, holder.token.data_keys, acknowledged)
            keyring = holder.store.keyring()
            assert keyring.unseal(sealed, b"card") == b"first"
            assert keyring.fingerprint("4242424242424242") == fingerprint
            fresh: Sealed = keyring.seal(b"x", bytes(12), b"")
            assert keyring.unseal(fresh, b"") == b"x"
    victims.close()
    assert said > KILLS  # they were killed at work


def check(store: object, data_keys: object, acknowledged: Acknowledged) -> None:
    from hsm.keys.store import KeyStore

    assert isinstance(store, KeyStore) and isinstance(data_keys, dict)
    there = {(one.name, one.version): one for one in store.infos()}
    for place, kcv in acknowledged.made.items():
        if place not in there:  # retired versions of exchanged keys are forgotten after a while
            assert place[0] in ("zpk-pos", "zak-pos")
            continue
        assert there[place].kcv == kcv
        if place[0] == "pan":
            assert f"pan-{place[1]}" in data_keys
    for place in acknowledged.retired:
        assert place not in there or there[place].status == "retired"
    for record in store.infos():
        if record.status in ("active", "pending") and record.origin != "token":
            versions = {version.version: version for version in store.versions(record.name)}
            assert store.held(versions[record.version]).kcv == record.kcv  # opening held it to its check value
