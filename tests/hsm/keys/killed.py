"""A process for the kill test: it changes keys without end and says what is done once it is done.

Called as `python -m tests.hsm.keys.killed STATE SEED`; each line on standard output is `name version kcv`.
"""

from __future__ import annotations

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


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
