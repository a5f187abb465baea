"""Further obstacles to `cardswitch up`, process by process: each check makes the same refusal as the start, beforehand.

The configuration goes in; findings as in `console.doctor` come out. Called by `cardswitch doctor`; nothing is written.
`missing` is what no option of `up` goes round; with the right option (`--free-ports`, `--no-issuers`) a `warning` is
none. docs/operations.md, "What doctor checks", has the table of them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.doctor import MISSING, OK, WARNING, Finding
from console.errors import ConsoleError

if TYPE_CHECKING:
    from console.config import Config

DIRECTORIES = ("", "exchange", "hsm", "hsm/audit", "issuers", "log", "postgresql", "run")
_READ = ("hsm/keys.json", "hsm/pins.json", "postgresql/roles.json", "postgresql/place.json", "tokenizer.secret")


def start_findings(config: Config, *, running: bool) -> list[Finding]:
    """A finding for each check; none raises.

    Args:
        config: the whole configuration.
        running: whether the system of this state directory runs: its own sockets and locks are no obstacle then.
    """
    state = config.state_path
    checks: dict[str, Callable[[], Finding]] = {
        "state owner": lambda: _owner(state),
        "socket paths": lambda: _socket_paths(config),
    }
    if config.runs_switch:
        checks |= {"tokenizer certificate": lambda: _certificate(config), "issuers": lambda: _issuers(config)}
    if config.runs_gateway:
        checks |= {
            "gateway tokenizer_ca": lambda: _authorities(config),
            "gateway sealing keys": lambda: _sealing_keys(config),
            "tokenizer secret": lambda: _secret(config),
        }
    if not running:
        checks |= {"link sockets": lambda: _link_sockets(config), "hsm lock": lambda: _hsm_lock(state)}
    found = []
    for name, check in checks.items():
        try:
            found.append(check())
        except Exception as error:  # a check that fails is a finding, not a crash
            found.append(Finding(name, WARNING, f"could not be checked: {type(error).__name__}: {error}", "try it"))
    return found


def _owner(state: Path) -> Finding:
    """Whether this user can use what is in the state directory: it may have been started as another one before."""
    closed = [
        path for name in DIRECTORIES if (path := state / name).is_dir() and not os.access(path, os.W_OK | os.X_OK)
    ]
    closed += [path for name in _READ if (path := state / name).is_file() and not os.access(path, os.R_OK)]
    if closed:
        listed = ", ".join(f"{path} (of uid {path.stat().st_uid})" for path in closed)
        return Finding("state owner", MISSING, f"uid {os.geteuid()} cannot use {listed}", "start it as that user")
    return Finding("state owner", OK, f"usable by uid {os.geteuid()}")


def _socket_paths(config: Config) -> Finding:
    from console.supervisor import long_socket

    if problem := long_socket(config):
        return Finding("socket paths", MISSING, problem, "choose a shorter --state")
    return Finding("socket paths", OK, "short enough")


def _link_sockets(config: Config) -> Finding:
    from messages.address import unix_path
    from switch.links.unix_socket import obstacle

    places = {f"acquirer[{link.name}]": config.placed(link).listen for link in config.acquirer}
    places |= {f"issuer[{link.name}]": config.placed(link).listen for link in config.issuer}
    sockets = {link: Path(path) for link, listen in places.items() if (path := unix_path(listen))}
    problems = []
    for link, place in sockets.items():
        try:
            problem = obstacle(place)
        except OSError as error:
            problem = f"{place}: {error.strerror or error}"
        if problem:
            problems.append(f"{link}: {problem}")
    if problems:
        return Finding("link sockets", MISSING, "; ".join(problems), "see each link, or change its listen")
    return Finding("link sockets", OK, f"{len(sockets)} can be made")


def _hsm_lock(state: Path) -> Finding:
    """Whether an HSM that was started by hand, or a command, owns the token."""
    try:
        with (state / "hsm" / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        detail = f"{state / 'hsm'}: another HSM process owns this token"
        return Finding("hsm lock", MISSING, detail, "stop that one (cardswitch hsm, or a command that is under way)")
    except FileNotFoundError:
        pass
    return Finding("hsm lock", OK, "no process owns the token")


def _certificate(config: Config) -> Finding:
    from datetime import UTC, datetime

    from hsm.errors import ConfigurationError
    from hsm.tokenizer.certificates import WARN_BEFORE, load_certificate

    name, files = "tokenizer certificate", config.tokenizer
    if not files.certificate:
        return Finding(name, OK, "none configured")
    try:
        loaded = load_certificate(Path(files.certificate), Path(files.private_key))
    except ConfigurationError as error:
        return Finding(name, MISSING, str(error), "correct [tokenizer] certificate and private_key")
    if loaded.open_to_all:
        return Finding(name, WARNING, f"every user can read {files.private_key}", f"chmod o-r {files.private_key}")
    if loaded.ends_at < datetime.now(UTC) + WARN_BEFORE:
        verb = "ended" if loaded.ends_at < datetime.now(UTC) else "ends"
        return Finding(name, WARNING, f"{files.certificate} {verb} {loaded.ends_at:%Y-%m-%d}", "renew it")
    return Finding(name, OK, f"{files.certificate} until {loaded.ends_at:%Y-%m-%d}")


def _authorities(config: Config) -> Finding:
    from gateway.errors import ConfigurationError
    from gateway.tokenizer import trust_of

    file = config.gateway.tokenizer_ca
    try:
        trust_of(file)
    except ConfigurationError as error:
        return Finding("gateway tokenizer_ca", MISSING, str(error), "correct [gateway] tokenizer_ca")
    return Finding("gateway tokenizer_ca", OK, file or "the system's authorities")


def _sealing_keys(config: Config) -> Finding:
    from gateway.errors import ConfigurationError
    from gateway.sealing import keys_for

    name, path = "gateway sealing keys", Path(config.gateway_config().sealing_keys)
    if not path.exists():
        where = "made at the first start; a machine that joins others needs a copy of theirs"
        return Finding(name, OK, f"{path} is not there yet: {where}")
    try:
        keys = keys_for(path, {}, make=False)
    except ConfigurationError as error:
        return Finding(name, MISSING, str(error), "see docs/operations.md, the gateway's sealing keys")
    return Finding(name, OK, f"{path}, version {max(keys)}")


def _secret(config: Config) -> Finding:
    """Whether a gateway without a tokenizer beside it has that one's secret: a new one would open nothing."""
    from hsm.tokenizer.server import SECRET_FILE

    path = config.state_path / SECRET_FILE
    if path.exists():
        return Finding("tokenizer secret", OK, str(path))
    if config.runs_switch:
        return Finding("tokenizer secret", OK, f"{path} is not there yet: it is made at the first start")
    detail = f"{path} is missing: the tokenizer takes no other secret than its own"
    return Finding("tokenizer secret", MISSING, detail, "copy it from the switch's machine, mode 0600")


def _issuers(config: Config) -> Finding:
    """Whether the issuers of the configuration can be simulated, as `up` does without --no-issuers."""
    from console.sim_process import link_scenario

    problems = []
    for link in config.issuer:
        try:
            problem = _party_keys(config, link_scenario(config, link.name))
        except ConsoleError as error:
            problem = str(error)
        if problem:
            problems.append(f"{link.name}: {problem}")
    if problems:
        return Finding("issuers", WARNING, f"cannot be simulated: {'; '.join(problems)}", "cardswitch up --no-issuers")
    return Finding("issuers", OK, f"{len(config.issuer)} can be simulated")


def _party_keys(config: Config, scenario: Any) -> str:
    """Why a simulator would not get the keys of its party; "" where it would. No key is read."""
    from hsm.keys.restore_control import standing_control

    needed = [name for name in scenario.key_names if name not in scenario.test_keys]
    if not needed:
        return ""
    configured = {key.name for key in config.key if key.party == scenario.party}
    if absent := [name for name in needed if name not in configured]:
        return f"there is no [[key]] {', '.join(absent)} of party {scenario.party}"
    if config.hsm.provisions and not standing_control(config.state_path / "hsm").enforced:
        return ""  # the HSM writes the files at its start
    files = [config.exchange_path / f"{scenario.party}{suffix}" for suffix in (".json", ".zmk")]
    if all(file.exists() for file in files):
        return ""
    return f"its keys are in no file ({files[1]}): under dual control they never are"
