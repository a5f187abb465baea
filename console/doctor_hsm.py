"""The HSM's checks of this machine: module, token, PIN, permissions of its files, copies of them.

`[hsm]` and the state directory go in; findings as in `console.doctor` come out. Called by `cardswitch doctor`; nothing
is written, and no PIN is tried: some tokens lock after a few wrong ones.
"""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from console.doctor import MISSING, OK, WARNING, Finding
from console.doctor_keys import key_findings
from hsm.config import HsmConfig
from hsm.errors import ConfigurationError


def hsm_findings(config: HsmConfig, state: Path, now: float | None = None) -> list[Finding]:
    """Every check of the HSM in order; none raises.

    Args:
        config: `[hsm]` with `[[key]]`.
        state: where the state directory is or will be.
        now: seconds since 1970; None: the clock's.
    """
    now = time.time() if now is None else now
    directory = state / "hsm"
    checks: dict[str, Callable[[], Finding | list[Finding]]] = {
        "hsm module": lambda: _module(config),
        "hsm token": lambda: _token(config, directory),
        "hsm pin": lambda: _pin(config, directory),
        "hsm files": lambda: _permissions(state),
        "hsm backup": lambda: _backup(directory),
        "hsm dual control": lambda: _dual_control(config, state),
        "hsm keys": lambda: key_findings(config, state, now),
        "hsm key lifetimes": lambda: _lifetimes(config, directory, now),
    }
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            made = check()
            found += made if isinstance(made, list) else [made]
        except Exception as error:  # a check that fails is a finding, not a crash
            found.append(Finding(name, WARNING, f"could not be checked: {type(error).__name__}: {error}"))
    return found


def _module(config: HsmConfig) -> Finding:
    try:
        path = config.module_path()
    except ConfigurationError:
        return Finding("hsm module", MISSING, "there is no PKCS#11 library", "see pkcs11 module above")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        return Finding("hsm module", MISSING, f"{path} cannot be loaded: {error}", f"ldd {path}")
    if not hasattr(library, "C_GetFunctionList"):
        return Finding("hsm module", MISSING, f"{path} is no PKCS#11 library", "correct [hsm] module")
    return Finding("hsm module", OK, f"{path} loads")


def _token(config: HsmConfig, directory: Path) -> Finding:
    if config.module:
        where = f"slot {config.slot}" if config.slot >= 0 else f"label {config.token}"
        serial = f", serial {config.serial}" if config.serial else ""
        return Finding("hsm token", OK, f"by {where}{serial}; cardswitch hsm init opens it")
    if (directory / "initialised").exists():
        count = sum(1 for _ in (directory / "tokens").glob("*/token.object"))
        if count:
            return Finding("hsm token", OK, f"private SoftHSM token in {directory}")
        return Finding("hsm token", MISSING, f"{directory}: the token's files are gone", "cardswitch hsm restore")
    if (directory / "keys.json").exists():
        return Finding("hsm token", MISSING, f"{directory}: keys, but no token", "cardswitch hsm restore")
    return Finding("hsm token", OK, "none yet; it is made on first start, or by cardswitch hsm init")


def _pin(config: HsmConfig, directory: Path) -> Finding:
    from hsm.keys.token import PIN_VARIABLE

    if not config.module:
        if (directory / "initialised").exists() and not (directory / "pins.json").exists():
            return Finding("hsm pin", MISSING, f"{directory}/pins.json is gone", "cardswitch hsm restore")
        return Finding("hsm pin", OK, "of the private token, made with it")
    if os.environ.get(PIN_VARIABLE):
        return Finding("hsm pin", OK, f"from {PIN_VARIABLE}")
    path = Path(config.pin_file) if config.pin_file else directory / "pin"
    if not path.is_file():
        return Finding("hsm pin", MISSING, f"neither {path} nor {PIN_VARIABLE}", f"install -m 600 /dev/stdin {path}")
    if not os.access(path, os.R_OK):
        return Finding("hsm pin", MISSING, f"{path} cannot be read", f"chown $USER {path}")
    if _open_to_others(path):
        return Finding("hsm pin", WARNING, f"{path} can be read by others", f"chmod 600 {path}")
    return Finding("hsm pin", OK, f"from {path}")


def _permissions(state: Path) -> Finding:
    directory, exchange = state / "hsm", state / "exchange"
    if not directory.exists():
        return Finding("hsm files", OK, f"{directory} is not there yet")
    if os.getuid() not in (0, directory.stat().st_uid):
        return Finding("hsm files", WARNING, f"{directory} belongs to another user", "run the HSM and this as one user")
    open_paths = [path for path in (directory, exchange) if path.exists() and _open_to_others(path)]
    # Below a directory that nobody else enters, modes are the second wall.
    for folder in (directory, exchange):
        open_paths += [path for path in folder.rglob("*") if path.is_file() and _secret(path) and _open_to_others(path)]
    if open_paths:
        more = len(open_paths) - 3
        listed = ", ".join(map(str, open_paths[:3])) + (f" and {more} more" if more > 0 else "")
        return Finding("hsm files", WARNING, f"others may read {listed}", f"chmod -R go= {directory} {exchange}")
    return Finding("hsm files", OK, f"{directory} is its owner's only")


def _backup(directory: Path) -> Finding:
    from hsm.keys.backup import list_backups

    if not (directory / "keys.json").exists():
        return Finding("hsm backup", OK, "no keys yet")
    copies = list_backups(directory)
    intact = [copy for copy in copies if copy.intact]
    if not intact:
        return Finding(
            "hsm backup", WARNING, "no intact copy of the keys", "start the HSM once, then copy hsm/backup away"
        )
    damaged = f", {len(copies) - len(intact)} damaged" if len(copies) > len(intact) else ""
    return Finding("hsm backup", OK, f"{len(intact)} copies{damaged}, the newest {intact[-1].path}")


def _dual_control(config: HsmConfig, state: Path) -> Finding:
    from hsm.keys.restore_control import standing_control

    name = "hsm dual control"
    if not (state / "hsm" / "keys.json").exists():
        return Finding(name, OK, "no keys yet" if config.dual_control else "no keys yet; off, for a test system")
    control = standing_control(state / "hsm")
    clear = sorted(path.name for path in (state / "exchange").glob("*.zmk"))
    if not control.enforced:
        if not config.dual_control:
            return Finding(
                name,
                WARNING,
                "off: one person alone changes keys, for test systems only",
                "see docs/hsm.md, Two officers",
            )
        mend = "cardswitch hsm init --officer A.card --officer B.card"
        if clear:  # the HSM takes no officers then
            mend = "on a test system: [hsm] dual_control = false; else begin with a fresh state directory"
        return Finding(name, WARNING, "no officers: nobody can change keys", mend)
    if clear:
        return Finding(
            name,
            WARNING,
            f"zone master keys lie in the clear in {state / 'exchange'}: {', '.join(clear)}",
            "delete them",
        )
    return Finding(name, OK, f"enforced, officers {', '.join(card.name for card in control.officers)}")


def _lifetimes(config: HsmConfig, directory: Path, now: float) -> Finding:
    import msgspec

    from hsm.key_watch import ending
    from hsm.keys.lifetimes import expiry, left_days, lifetimes
    from hsm.keys.records import unsealed_key_file

    name = "hsm key lifetimes"
    file = directory / "keys.json"
    if not file.exists():
        return Finding(name, OK, "no keys yet")
    days = lifetimes(config.key_lifetime_days)
    infos = [
        msgspec.structs.replace(
            record.info, expires_at=expiry(days, record.role, record.active_from, record.created_at)
        )
        for record in unsealed_key_file(file).keys
    ]
    found = ending(infos, now, config.key_warning_days)
    if not found:
        return Finding(name, OK, f"no key in force expires within {config.key_warning_days} days")
    listed = ", ".join(f"{info.name}/{info.version} in {left_days(info.expires_at, now)} days" for info in found)
    return Finding(name, WARNING, f"cryptoperiods end: {listed}", "cardswitch hsm key rotate NAME")


def _secret(path: Path) -> bool:
    # SoftHSM's configuration and the lock say nothing.
    return path.name not in ("softhsm2.conf", "lock") and path.suffix != ".lock"


def _open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
