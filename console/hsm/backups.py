"""`cardswitch hsm backup list` and `cardswitch hsm restore`: copies of keys and token, shown and put back.

The state directory goes in; tables or JSON come out. The copies are made by `hsm.keys.backup`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console.config import Config
from console.errors import ConsoleError, UsageError
from console.hsm.officer import hsm_runs
from console.hsm.tables import moment, print_json, print_rows


def run_list(config: Config, as_json: bool) -> None:
    """Print the copies, the oldest first."""
    from hsm.keys.backup import list_backups

    found = [_shown(backup) for backup in list_backups(config.state_path / "hsm")]
    if as_json:
        print_json({"backups": found})
        return
    if not found:
        print("no copies yet: the HSM makes one with the first change of a key")
        return
    rows = [
        (str(one["number"]), one["made"], str(one["files"]), "yes" if one["intact"] else "NO", one["path"])
        for one in found
    ]
    print_rows(("number", "made", "files", "intact", "where"), rows)


def run_restore(config: Config, number: int, as_json: bool, signer: Path | None) -> None:
    """Put a copy back, by number, or the last good one for 0; under dual control, once two officers have signed.

    Raises:
        ConsoleError: the HSM runs, there is no such copy that is intact, or an officer has to sign.
    """
    from console.hsm.token import record_restore
    from hsm.errors import ConfigurationError, HsmError
    from hsm.keys.backup import restore
    from hsm.keys.holder import hold_lock

    directory = config.state_path / "hsm"
    if hsm_runs(config):
        raise ConsoleError("the HSM runs and holds its token", "stop it first")
    try:
        lock = hold_lock(directory)
    except ConfigurationError as error:
        raise ConsoleError(str(error), "stop it first") from None
    try:
        officers = _signed(directory, number, signer)
        if officers is not None and len(officers) < 2:
            print(f"{officers[0]} has signed; it is done once another officer signs for the same copy within a day")
            return
        restored = _shown(restore(directory, number))
        record_restore(config, officers or ())
    except HsmError as error:
        raise ConsoleError(str(error), "cardswitch hsm backup list shows the copies") from None
    finally:
        lock.close()
    if as_json:
        print_json(restored)
    else:
        print(
            f"copy {restored['number']} of {restored['made']} is back; the former files are in {directory} as damaged-…"
        )
        print("cardswitch hsm key list shows its keys; compare their check values")


def _signed(directory: Path, number: int, signer: Path | None) -> tuple[str, ...] | None:
    """Return the officers who have signed for a copy; None where there is no dual control."""
    import time

    from console.hsm.signing import read_key
    from hsm.keys.restore_control import sign_restore, standing_control

    if not standing_control(directory).enforced:
        return None
    if signer is None:
        raise UsageError("restoring a copy takes two officers", "--as YOUR.key, one after the other")
    return sign_restore(directory, number, read_key(signer), int(time.time()))[1]


def _shown(backup: Any) -> dict[str, Any]:
    return {
        "number": backup.number,
        "made": moment(backup.made_at),
        "files": len(backup.files),
        "intact": backup.intact,
        "path": str(backup.path),
    }
