"""`cardswitch hsm status`: the process, its token, its vault and its audit trail, as a table or JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from console.config import Config
from console.hsm.officer import expect, hsm_runs, running_officer
from console.hsm.tables import moment, print_json, print_rows

_DUAL_CONTROL = {
    "enforced": "enforced: changes of keys take two officers",
    "no officers": "NO OFFICERS: nobody can change keys; cardswitch hsm init --officer A.card --officer B.card",
    "off": "OFF: one person alone changes keys, this is a test system",
}


def run_status(config: Config, as_json: bool) -> int:
    """Print how the HSM is. Returns the exit status: 0 if it runs and token, vault and audit trail work, else 1."""
    from hsm.vault_commands import HsmStatus, ReadStatus

    if not hsm_runs(config):
        if as_json:
            print_json({"running": False, "ok": False})
        else:
            print("the HSM does not run; cardswitch up starts it with the system")
        return 1
    with running_officer(config) as officer:
        status = expect(HsmStatus, officer.ask(ReadStatus()))
    ok = status.token and (status.vault or not config.hsm.vault) and not status.audit.failure
    if as_json:
        print_json(_json(config, status, ok))
    else:
        _print(config, status)
    return 0 if ok else 1


def _json(config: Config, status: Any, ok: bool) -> dict[str, Any]:
    return {
        "running": True,
        "ok": ok,
        "token": status.token,
        "vault": status.vault,
        "since": status.since,
        "queued": status.queued,
        "keys": status.keys,
        "audit": status.audit,
        "dual_control": status.dual_control,
        "expiring": [
            {"key": info.name, "version": info.version, "expires_at": info.expires_at}
            for info in _ending(config, status)
        ],
    }


def _print(config: Config, status: Any) -> None:
    works = {True: "works", False: "AWAY"}
    audit = status.audit
    rows = [
        ("process", f"runs, commands that wait: {status.queued}"),
        ("token", f"{works[status.token]}, {_module(config)}, since {moment(status.since)}"),
        ("vault", works[status.vault] if config.hsm.vault else "none: [hsm] vault = false"),
        ("keys", f"{len(status.keys)} in force"),
        ("dual control", _DUAL_CONTROL.get(status.dual_control, status.dual_control)),
        ("audit trail", audit.failure or f"{audit.records} records, segment {audit.segment}"),
    ]
    rows += [
        (f"key {info.name}/{info.version}", f"cryptoperiod {_verb(info, time.time())} {moment(info.expires_at)}")
        for info in _ending(config, status)
    ]
    print_rows(("part", "state"), rows)


def _ending(config: Config, status: Any) -> Sequence[Any]:
    from hsm.key_watch import ending

    return ending(status.key_list, time.time(), config.hsm.key_warning_days)


def _verb(info: Any, now: float) -> str:
    return "ENDED" if info.expires_at <= now else "ends"


def _module(config: Config) -> str:
    return f"{config.hsm.module} ({config.hsm.token})" if config.hsm.module else f"SoftHSM ({config.hsm.token})"
