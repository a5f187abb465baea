"""`cardswitch hsm status`: the process, its token, its vault and its audit trail, as a table or JSON."""

from __future__ import annotations

from typing import Any

from console.config import Config
from console.hsm.officer import expect, hsm_runs, running_officer
from console.hsm.tables import moment, print_json, print_rows


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
    ok = status.token and status.vault and not status.audit.failure
    if as_json:
        print_json(_json(status, ok))
    else:
        _print(config, status)
    return 0 if ok else 1


def _json(status: Any, ok: bool) -> dict[str, Any]:
    return {
        "running": True,
        "ok": ok,
        "token": status.token,
        "vault": status.vault,
        "since": status.since,
        "queued": status.queued,
        "keys": status.keys,
        "audit": status.audit,
    }


def _print(config: Config, status: Any) -> None:
    works = {True: "works", False: "AWAY"}
    audit = status.audit
    rows = [
        ("process", f"runs, {status.queued} commands wait"),
        ("token", f"{works[status.token]}, {_module(config)}, since {moment(status.since)}"),
        ("vault", works[status.vault]),
        ("keys", f"{len(status.keys)} in force"),
        ("audit trail", audit.failure or f"{audit.records} records, segment {audit.segment}"),
    ]
    print_rows(("part", "state"), rows)


def _module(config: Config) -> str:
    return f"{config.hsm.module} ({config.hsm.token})" if config.hsm.module else f"SoftHSM ({config.hsm.token})"
