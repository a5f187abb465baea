"""`cardswitch hsm backup list` and `cardswitch hsm restore`: copies of keys and token, shown and put back.

The state directory goes in; tables or JSON come out. The copies are made by `hsm.keys.backup`.
"""

from __future__ import annotations

from typing import Any

from console.config import Config
from console.errors import ConsoleError
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


def run_restore(config: Config, number: int, as_json: bool) -> None:
    """Put a copy back, by number, or the last good one for 0.

    Raises:
        ConsoleError: the HSM runs, or there is no such copy that is intact.
    """
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
        restored = _shown(restore(directory, number))
    except HsmError as error:
        raise ConsoleError(str(error), "cardswitch hsm backup list shows the copies") from None
    finally:
        lock.close()
    if as_json:
        print_json(restored)
    else:
        print(
            f"copy {restored['number']} of {restored['made']} is back; what was there lies in {directory} as damaged-…"
        )
        print("cardswitch hsm key list shows its keys; compare their check values")


def _shown(backup: Any) -> dict[str, Any]:
    return {
        "number": backup.number,
        "made": moment(backup.made_at),
        "files": len(backup.files),
        "intact": backup.intact,
        "path": str(backup.path),
    }
