"""The needs of this machine: checks in, a table out with the command that mends each; called by `cardswitch doctor`.

A check is a function without arguments; it returns a `Finding` and never raises.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from console.ports import busy_ports, listed_ports
from console.state_modes import wrong_modes

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from hsm.tokenizer.config import TokenizerConfig
    from web.config import HttpConfig

SOFTHSM_PATTERNS = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/*/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
OLDEST_PYTHON = (3, 11)
OK, WARNING, MISSING = "ok", "warning", "missing"


class Finding(msgspec.Struct, frozen=True):
    """One line of the table: `state` is ok, warning or missing; only missing makes the command fail.

    `mend` is the command that puts it right, "" where all is well.
    """

    check: str
    state: str
    detail: str
    mend: str = ""


def findings(
    ports: dict[str, tuple[str, int]], state: Path, module: str | None = None, *, embedded: bool = True
) -> list[Finding]:
    """Every check of the machine in order.

    Args:
        ports: setting's path → (host, port) to listen on.
        state: where the state directory is or will be.
        module: PKCS#11 library that the configuration names, if any.
        embedded: whether the embedded PostgreSQL is used; else `console.doctor_database` looks at the server.
    """
    checks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        lambda: _pkcs11_module(module),
        *([lambda: _postgresql(state)] if embedded else []),
        lambda: _ports(ports),
        lambda: _state_directory(state),
        lambda: _state_modes(state),
        lambda: _disk(state),
        lambda: _fsync(state),
        _open_files,
        _shared_memory,
        _clock,
        _cores,
    ]
    return [_guarded(check) for check in checks]


def tokenizer_finding(config: TokenizerConfig) -> Finding:
    """Whether card data is accepted as it should be from the internet."""
    if "*" in config.origins and not config.on_loopback():
        mend = 'set [tokenizer] origins = ["https://shop.example"]'
        return Finding("tokenizer", WARNING, f"any web page may use {config.public_url()}", mend)
    how = "TLS" if config.certificate else "a proxy does TLS" if config.behind_proxy else "this machine only, no TLS"
    return Finding("tokenizer", OK, f"{config.listen}, {how}; origins {', '.join(config.origins)}")


def http_finding(section: str, http: HttpConfig) -> Finding:
    """Whether a process can open as many files as its HTTP connections need; it raises its soft limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = http.files_needed()
    if hard != resource.RLIM_INFINITY and hard < needed:
        mend = f"raise nofile to {needed}, or lower [{section}] max_connections"
        return Finding(section, WARNING, f"{hard} open files, {needed} may be needed", mend)
    return Finding(section, OK, f"{http.max_connections} connections")


def webhook_finding(config: GatewayConfig) -> Finding:
    """Whether merchants' webhooks can reach this machine or its network."""
    if not config.webhook_networks:
        return Finding("webhooks", OK, "public internet only")
    mend = "take them out of [gateway] webhook_networks where merchants are not yours"
    return Finding("webhooks", WARNING, f"merchants may send to {', '.join(config.webhook_networks)}, too", mend)


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a check that fails is a finding, not a crash
        name = getattr(check, "__name__", "check").strip("_<>")
        return Finding(name, WARNING, f"could not be checked: {type(error).__name__}: {error}")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", MISSING, f"{version}, 3.11 is the oldest", "sudo apt-get install python3")
    where = "virtual environment" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    return Finding("python", OK, f"{version}, {where} {sys.prefix}")


def _packages() -> Finding:
    try:
        required = importlib.metadata.requires("cardswitch") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", WARNING, "cardswitch itself is not installed here", "make setup")
    names = [_requirement_name(line) for line in required if "extra ==" not in line]
    absent = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding("packages", MISSING, f"not installed: {', '.join(absent)}", "make setup")
    return Finding("packages", OK, f"{len(names)} of {len(names)} required packages")


def _requirement_name(line: str) -> str:
    name = ""
    for letter in line:
        if not (letter.isalnum() or letter in "-_."):
            break
        name += letter
    return name


def find_softhsm() -> str | None:
    """The path of SoftHSM's PKCS#11 library, None where it is not installed."""
    for pattern in SOFTHSM_PATTERNS:
        for path in glob.glob(pattern):
            if os.path.exists(path):
                return path
    return None


def _pkcs11_module(configured: str | None) -> Finding:
    if configured is not None:
        if os.path.exists(configured):
            return Finding("pkcs11 module", OK, configured)
        return Finding("pkcs11 module", MISSING, f"{configured} does not exist", "correct [hsm] module")
    path = find_softhsm()
    if path is None:
        return Finding("pkcs11 module", MISSING, "SoftHSM 2 is not installed", "sudo apt-get install softhsm2")
    return Finding("pkcs11 module", OK, path)


def _postgresql(state: Path) -> Finding:
    from console import postgresql
    from console.embedded import server_data

    try:
        program = postgresql._binary("postgres")
        account = postgresql._account()
        run = subprocess.run(
            [program, "--version"],
            capture_output=True, text=True, timeout=10, check=False, **postgresql._as(account),
        )  # fmt: skip
    except postgresql.PostgresqlError as error:
        return Finding("postgresql", MISSING, str(error), "make setup")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("postgresql", MISSING, f"the embedded server cannot be run: {error}", "make clean setup")
    if run.returncode != 0:
        return Finding("postgresql", MISSING, f"{program}: {run.stderr.strip()[:200]}", "make clean setup")
    if problem := _foreign_data(server_data(state), run.stdout):
        return Finding("postgresql", MISSING, problem, "dump it with that version's pg_dump, and restore it here")
    who = f"by the unprivileged user {account.pw_name}" if account is not None else f"by uid {os.geteuid()}"
    return Finding("postgresql", OK, f"{run.stdout.strip()}, runnable {who}")


def _foreign_data(data: Path | None, version: str) -> str:
    """Why a server of this version, as it says it, does not take the data that are there; "" where it does."""
    try:
        made_by = (data / "PG_VERSION").read_text().strip() if data is not None else ""
    except OSError:
        return ""
    major = version.rpartition(" ")[2].partition(".")[0].strip()
    if not made_by or not major.isdigit() or made_by == major:
        return ""
    return f"{data} was made by PostgreSQL {made_by}, the embedded server is {major}"


def _ports(ports: dict[str, tuple[str, int]]) -> Finding:
    if not ports:
        return Finding("ports", OK, "not checked: the system runs, or its configuration has errors")
    busy = busy_ports(ports)
    if busy:
        mend = "stop what listens there, or: cardswitch up --free-ports"
        return Finding("ports", WARNING, listed_ports(busy), mend)
    return Finding("ports", OK, f"{len(ports)} free: {_ranges(port for _, port in ports.values())}")


def _ranges(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _state_directory(state: Path) -> Finding:
    place = _existing(state)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("state directory", MISSING, f"{place} is not writable", f"sudo chown $USER {place}")
    return Finding("state directory", OK, str(state))


def _state_modes(state: Path) -> Finding:
    wrong = wrong_modes(state)
    if wrong:
        more = len(wrong) - 5
        listed = ", ".join(f"{path} {mode:04o}" for path, mode in wrong[:5]) + (f" and {more} more" if more > 0 else "")
        mend = f"chmod -R go= {state}" if os.geteuid() else f"chmod -R go= {state}/*; chmod 711 {state}/postgresql"
        return Finding("state modes", WARNING, f"others may do too much: {listed}", mend)
    return Finding("state modes", OK, "private")


def _disk(state: Path) -> Finding:
    free = shutil.disk_usage(_existing(state)).free
    if free < 1 << 30:
        return Finding("disk", MISSING, f"{free >> 20} MB free, 1 GB is needed", f"make room under {_existing(state)}")
    return Finding("disk", OK, f"{free >> 30} GB free")


def _fsync(state: Path) -> Finding:
    rounds = 20
    with tempfile.NamedTemporaryFile(dir=_existing(state), prefix=".cardswitch-doctor-") as file:
        started = time.perf_counter()
        for _ in range(rounds):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        each_ms = (time.perf_counter() - started) / rounds * 1000
    if each_ms > 20:
        return Finding(
            "fsync", WARNING, f"{each_ms:.1f} ms: every commit waits for it", "use a faster disk for --state"
        )
    return Finding("fsync", OK, f"{each_ms:.2f} ms for 4 kB")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 1024:
        return Finding("open files", WARNING, f"limit {soft} (hard {hard})", "ulimit -n 4096")
    return Finding("open files", OK, f"limit {soft if soft != resource.RLIM_INFINITY else 'none'}")


def _shared_memory() -> Finding:
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return Finding("/dev/shm", MISSING, "not there; PostgreSQL needs it", "mount -t tmpfs tmpfs /dev/shm")
    if free < 32 << 20:
        mend = "mount -o remount,size=256m /dev/shm   (docker run --shm-size=256m)"
        return Finding("/dev/shm", WARNING, f"{free >> 20} MB free", mend)
    return Finding("/dev/shm", OK, f"{free >> 20} MB free")


def _clock() -> Finding:
    year = time.gmtime().tm_year
    if year < 2024:
        return Finding("clock", MISSING, f"the clock says {year}", "sudo timedatectl set-ntp true")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        run = subprocess.run(
            ["timedatectl", "show", "-p", "NTPSynchronized", "--value"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
        if run.returncode == 0 and run.stdout.strip() == "no":
            return Finding("clock", WARNING, "not synchronised", "sudo timedatectl set-ntp true")
    return Finding("clock", OK, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return Finding("cores", WARNING, f"{cores}: all processes share it", "give this machine two cores or more")
    return Finding("cores", OK, str(cores))
