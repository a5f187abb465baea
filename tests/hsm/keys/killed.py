"""Processes for the kill test: each changes keys without end and says what is done once it is done.

Called as `python -m tests.hsm.keys.killed STATE`. Each line on standard input is the seed of a process, which is a fork
of this one, so that 20 of them start in no time. On standard output come `pid N`, then `name version kcv status` for
each change, and `ended` once it was killed.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from hsm.key_commands import ActivateKey, GenerateKey, KeyInfo, RenewLinkKey, RetireKey, RotateKey
from hsm.key_desk import KeyDesk
from hsm.keys.holder import Keyholder, hold_lock
from tests.hsm.keys.opened import CONFIG


def main(state: Path, seed: int) -> None:
    """Change keys until killed."""
    choose = random.Random(seed)
    with hold_lock(state / "hsm"):
        holder = Keyholder(CONFIG, state)
        while True:
            holder.open()
            desk = KeyDesk(holder.store)
            for _ in range(4):
                _say(_change(desk, choose))
            holder.close()  # each opening is a login, which SoftHSM writes down


def _change(desk: KeyDesk, choose: random.Random) -> KeyInfo:
    match choose.randrange(4):
        case 0:
            return desk.rotate(RotateKey(name="pan")).keys[0]
        case 1:
            renewed = desk.renew_link_key(RenewLinkKey(name="zpk-pos"))
            return desk.activate(ActivateKey(name="zpk-pos", version=renewed.version)).keys[0]
        case 2:
            return desk.generate(GenerateKey(name=f"cvk-{choose.getrandbits(64):x}", role="cvk")).keys[0]
        case _:
            versions = [one for one in desk.store.infos() if one.name.startswith("cvk-") and one.status == "active"]
            if not versions:
                return desk.rotate(RotateKey(name="zak-pos")).keys[0]
            gone = versions[0]
            retired = desk.retire(RetireKey(name=gone.name, version=gone.version))
            return retired.keys[0]  # type: ignore[union-attr]


def _say(made: KeyInfo) -> None:
    sys.stdout.write(f"{made.name} {made.version} {made.kcv} {made.status}\n")
    sys.stdout.flush()


def _fork(state: Path, seed: int) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            main(state, seed)
        finally:
            os._exit(1)  # it is to be killed; after any other end, it does not come back as another of this process
    sys.stdout.write(f"pid {pid}\n")
    sys.stdout.flush()
    os.waitpid(pid, 0)
    sys.stdout.write("\nended\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        _fork(Path(sys.argv[1]), int(line))
