"""kill -9 while keys are made, exchanged and retired, at seeded random moments: the token opens, nothing is lost."""

from __future__ import annotations

import random
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
    """What killed processes said was done: the check value of each version that was made, those that were retired."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, int], str] = {}
        self.retired: set[tuple[str, int]] = set()

    def hear(self, output: bytes) -> int:
        """Take in whole lines; what came after the last newline was not said."""
        lines = output.decode().split("\n")[:-1]
        for line in lines:
            name, version, kcv, status = line.split()
            if status == "retired":
                self.retired.add((name, int(version)))
            else:
                self.made[name, int(version)] = kcv
        return len(lines)


def run_and_kill(state: Path, seed: int, after_s: float) -> bytes:
    """Start a process, let it say its first word, kill it some time later; return what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hsm.keys.killed", str(state), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    assert first, process.stderr.read().decode()
    time.sleep(after_s)
    process.kill()
    rest, _ = process.communicate(timeout=10)
    return first + rest


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    with opened(tmp_path, *CONFIG.keys) as holder:
        sealed = holder.store.keyring().seal(b"first", bytes(12), b"card")
        fingerprint = holder.store.keyring().fingerprint("4242424242424242")
    acknowledged, said = Acknowledged(), 0
    for kill in range(KILLS):
        said += acknowledged.hear(run_and_kill(tmp_path, kill, moments.uniform(0.0, LONGEST_S)))
        with opened(tmp_path, *CONFIG.keys) as holder:
            check(holder.store, holder.token.data_keys, acknowledged)
            keyring = holder.store.keyring()
            assert keyring.unseal(sealed, b"card") == b"first"
            assert keyring.fingerprint("4242424242424242") == fingerprint
            fresh: Sealed = keyring.seal(b"x", bytes(12), b"")
            assert keyring.unseal(fresh, b"") == b"x"
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
