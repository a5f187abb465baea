"""The whole configuration: one TOML file in, one frozen struct out, or every error in the file at once.

Each package owns the structs of its sections; this module reads the file, holds the sections against each other and
hands each process its part. Every command calls `load_config`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from console.errors import ConfigError, UsageError
from console.gateway_link import GatewaySection, gateway_link_problems, with_gateway
from console.link_keys import key_contradictions
from console.postgresql import PostgresqlConfig
from console.private_files import private_directory, write_private
from console.validation import fitting, problems
from gateway.config import GatewayConfig
from hsm.callers import CallerConfig, callers, socket_of
from hsm.config import HsmConfig, KeyConfig
from hsm.keys.attributes import ROLES
from hsm.tokenizer.config import TokenizerConfig
from ledger.config import FeesConfig, MerchantConfig
from messages.address import UNIX, address_of, unix_path
from switch.config import Settings, SwitchConfig, switch_config
from switch.errors import ConfigError as SwitchConfigError
from switch.fraud_settings import FraudRule, Rates
from switch.links.settings import AcquirerLink, IssuerLink
from switch.routing.settings import BreakerSettings, Route, SafSettings, StandIn

PACKAGED = "specs/cardswitch.toml"
_LARGEST_FILE = 4 << 20
HIDDEN = "***"
L = TypeVar("L", bound=AcquirerLink | IssuerLink)
SEALING_KEYS = "gateway-sealing.keys"  # in the state directory
_PATHS = (
    ("hsm", "module"),
    ("hsm", "pin_file"),
    ("tokenizer", "certificate"),
    ("tokenizer", "private_key"),
    ("gateway", "tokenizer_ca"),
    ("gateway", "sealing_keys"),
)


class StateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[state]`: databases, token, keys, sockets, logs; relative to the working directory."""

    directory: str = ".cardswitch"


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: the lowest level that is written (debug, info, warning or error), and how large a file may get."""

    level: str = "info"
    max_mb: int = 256  # of a file, then it is renamed to NAME.1 and another begun; 0: it grows for ever
    keep: int = 4  # older files of each process

    @property
    def max_bytes(self) -> int:
        return self.max_mb * 1024 * 1024


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration, with the names of the TOML file.

    Args:
        source: the file that it came from.
        origin: the file that its user wrote, where `source` is what a supervisor made of it; a reload reads it again.
        overridden: settings of the command line: state, workers, ports.
    """

    source: str = ""
    origin: str = ""
    overridden: tuple[str, ...] = ()
    state: StateConfig = StateConfig()
    log: LogConfig = LogConfig()
    postgresql: PostgresqlConfig = PostgresqlConfig()
    hsm: HsmConfig = HsmConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    gateway: GatewaySection = GatewaySection()
    switch: Settings = Settings()
    acquirer: tuple[AcquirerLink, ...] = ()
    issuer: tuple[IssuerLink, ...] = ()
    key: tuple[KeyConfig, ...] = ()
    caller: tuple[CallerConfig, ...] = ()
    route: tuple[Route, ...] = ()
    breaker: tuple[BreakerSettings, ...] = ()
    stand_in: tuple[StandIn, ...] = ()
    saf: SafSettings = SafSettings()
    fees: FeesConfig = FeesConfig()
    merchant: tuple[MerchantConfig, ...] = ()
    fraud: tuple[FraudRule, ...] = ()
    rates: Rates = Rates()

    @property
    def state_path(self) -> Path:
        return Path(self.state.directory)

    @property
    def hsm_socket(self) -> Path:
        """The HSM's socket for the switch."""
        return self.caller_socket("switch")

    def hsm_sockets(self) -> list[Path]:
        """All sockets that the HSM listens on."""
        return [self.state_path / caller.socket for caller in callers(self.hsm_config().callers, self.hsm.socket)]

    def caller_socket(self, name: str) -> Path:
        """The HSM's socket for a caller: switch, tokenizer, issuer, officer, …, or one of `[[caller]]`."""
        entry = next((entry for entry in self.caller if entry.name == name), CallerConfig(name=name))
        return self.state_path / socket_of(entry, self.hsm.socket)

    @property
    def runs_gateway(self) -> bool:
        """Whether a gateway runs on this machine: its link is a unix socket here, or `[gateway.switch]` has a port."""
        link = self.acquirer_link(self.gateway.link)
        return self.gateway.switch is not None or (link is not None and link.on_unix_socket)

    @property
    def runs_switch(self) -> bool:
        """Whether switch and tokenizer run on this machine; without a vault there is a gateway and nothing else."""
        return self.hsm.vault

    @property
    def exchange_path(self) -> Path:
        """Directory of the keys for other parties, under their transport keys."""
        return self.state_path / "exchange"

    def worker_socket(self, number: int) -> Path:
        """The control socket of a switch worker."""
        return self.state_path / f"switch-{number}.sock"

    def mac_algorithm(self, name: str) -> str:
        """The algorithm of a MAC key, as simulators name it."""
        found = next((key.algorithm for key in self.key if key.name == name), "")
        return found or next(iter(ROLES["mac"].algorithms))

    @property
    def log_path(self) -> Path:
        return self.state_path / "log"

    def hsm_config(self) -> HsmConfig:
        """The settings of the hsm process: its section with `[[key]]` and `[[caller]]`."""
        return msgspec.structs.replace(self.hsm, keys=self.key, callers=with_gateway(self.caller, self.gateway.switch))

    def gateway_config(self) -> GatewayConfig:
        """The settings of the gateway: its section, where its sealing keys are, and where it reaches the tokenizer."""
        sealing_keys = self.gateway.sealing_keys or str(self.state_path / SEALING_KEYS)
        gateway = msgspec.structs.replace(self.gateway, sealing_keys=sealing_keys)
        if gateway.tokenizer_url:
            return gateway
        # By TLS under the name in the certificate; past a proxy, which has no business with internal calls.
        url = self.tokenizer.public_url() if self.tokenizer.certificate else f"http://{_dialled(self.tokenizer.listen)}"
        return msgspec.structs.replace(gateway, tokenizer_url=url)

    def switch_config(self) -> SwitchConfig:
        """The settings of a switch worker."""
        return SwitchConfig(
            settings=self.switch,
            acquirers=tuple(self.placed(link) for link in self.acquirer),
            issuers=tuple(self.placed(link) for link in self.issuer),
            routes=self.route,
            breakers=self.breaker,
            stand_ins=self.stand_in,
            saf=self.saf,
            fraud=self.fraud,
            rates=self.rates,
            fees=self.fees,
            merchants=self.merchant,
        )

    def placed(self, link: L) -> L:
        """A link whose unix socket, if it has one, is where it really is: relative paths start at the state."""
        return msgspec.structs.replace(link, listen=self._placed(link.listen), address=self._placed(link.address))

    def _placed(self, address: str) -> str:
        path = unix_path(address)
        return f"{UNIX}{self.state_path.absolute() / path}" if path else address

    def acquirer_link(self, name: str) -> AcquirerLink | None:
        return next((self.placed(link) for link in self.acquirer if link.name == name), None)

    def issuer_link(self, name: str) -> IssuerLink | None:
        return next((self.placed(link) for link in self.issuer if link.name == name), None)

    def listeners(self) -> dict[str, tuple[str, int]]:
        """Every address that cardswitch's own processes listen on: setting's path → (host, port)."""
        found = {}
        if self.runs_switch:
            found["tokenizer.listen"] = address_of(self.tokenizer.listen)
        if self.runs_gateway:
            found["gateway.listen"] = address_of(self.gateway.listen)
        links = [("acquirer", link) for link in self.acquirer] + [("issuer", link) for link in self.issuer]
        ports = [(side, link) for side, link in links if link.listen and not link.on_unix_socket]
        found.update({f"{side}[{link.name}].listen": address_of(link.listen) for side, link in ports})
        if self.switch.metrics and self.runs_switch:
            host, port = address_of(self.switch.metrics)
            for worker in range(self.switch.workers):
                found[f"switch.metrics (worker {worker})"] = (host, port + worker)
        return found

    def simulated_listeners(self) -> dict[str, tuple[str, int]]:
        """The addresses that issuer simulators listen on, where cardswitch runs them."""
        dialled = [link for link in self.issuer if link.dials and not link.on_unix_socket]
        return {f"issuer[{link.name}].address": address_of(link.address) for link in dialled}


def load_config(file: Path | None = None, state: Path | None = None, workers: int | None = None) -> Config:
    """Read and validate a configuration.

    Args:
        file: TOML, or JSON where the name ends in .json; None: ./cardswitch.toml if there is one, else the packaged.
        state, workers: replace what the file says.

    Raises: ConfigError with every error and its path; UsageError where the file cannot be read.
    """
    path = file or _default_file()
    table = _read(path)
    found = _typed_problems(table)
    if not found:
        found = _contradictions(_resolved(table, path), str(path))
    else:
        found += _contradictions_of_the_rest(table, path, found)
    if found:
        raise ConfigError(str(path), tuple(found))
    config = msgspec.convert(table, Config)
    overridden = set(config.overridden)
    if state is not None:
        config = msgspec.structs.replace(config, state=StateConfig(str(state)))
        overridden.add("state")
    if workers is not None:
        config = msgspec.structs.replace(config, switch=msgspec.structs.replace(config.switch, workers=workers))
        overridden.add("workers")
    return msgspec.structs.replace(
        config,
        source=str(path),
        origin=config.origin or str(path.absolute()),
        overridden=tuple(sorted(overridden)),
        state=StateConfig(str(Path(config.state.directory).absolute())),
    )


def require_switch(config: Config) -> None:
    """Raises: UsageError on a machine with nothing but a gateway, without workers and the ledger's password."""
    if not config.runs_switch:
        raise UsageError("this machine runs no switch ([hsm] vault = false)", "run this on the switch's machine")


def write_effective(config: Config, file: Path) -> None:
    """Write what the processes of one system run with, mode 0600: it can hold a DSN with a password."""
    private_directory(file.parent)
    write_private(file, msgspec.json.format(msgspec.json.encode(config), indent=1))


def masked_config(config: Config) -> dict[str, Any]:
    """The configuration as plain data for the log, without passwords."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    if config.postgresql.dsn:
        from urllib.parse import urlsplit

        place = urlsplit(config.postgresql.dsn)
        plain["postgresql"]["dsn"] = f"{place.scheme}://{HIDDEN}@{place.hostname or ''}{place.path}"
    return plain


def _default_file() -> Path:
    local = Path("cardswitch.toml")
    if local.is_file():
        return local
    import importlib.resources

    return Path(str(importlib.resources.files("specs") / "cardswitch.toml"))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"{path} is larger than {_LARGEST_FILE >> 20} MB", "name a configuration with --config")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"configuration {path} cannot be read: {error.strerror}", "name another with --config"
        ) from None
    try:
        if path.suffix == ".json":
            return msgspec.json.decode(data, type=dict[str, Any])
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), (str(error),)) from None


def _typed_problems(table: dict[str, Any]) -> list[str]:
    hsm = table.get("hsm")
    misplaced = [
        f"hsm.{name}: {name} have sections of their own, [[{name[:-1]}]]"
        for name in ("keys", "callers")
        if isinstance(hsm, dict) and hsm.get(name)
    ]
    return misplaced + problems(Config, table)


def _contradictions_of_the_rest(table: dict[str, Any], path: Path, known: list[str]) -> list[str]:
    """Further faults of a file where some settings are invalid, so that nobody mends it twice."""
    rest = fitting(Config, table)
    try:
        found = _contradictions(_resolved(rest, path), str(path))
    except msgspec.ValidationError:
        return []  # the missing setting is listed already
    places = {problem.partition(":")[0] for problem in known}
    return [problem for problem in found if problem.partition(":")[0] not in places]


def _contradictions(table: dict[str, Any], source: str) -> list[str]:
    """Settings that each section allows by itself but not together with the others."""
    config = msgspec.convert(table, Config)
    found: list[str] = []
    try:
        switch_config(table, source)
    except SwitchConfigError as error:
        found += error.problems
    found += config.hsm_config().problems()
    found += config.gateway.problems()
    found += config.tokenizer.problems()
    if config.log.level not in ("debug", "info", "warning", "error"):
        found.append(f"log.level: {config.log.level!r} is not debug, info, warning or error")
    if config.log.max_mb < 0 or not 0 <= config.log.keep <= 100:
        found.append("log: max_mb must be ≥ 0, and keep 0–100")
    if not 1 <= config.switch.workers <= 64:
        found.append("switch.workers: must be 1–64")
    found += _link_contradictions(config)
    if not found:
        found += _port_contradictions(config)
    return found


def _link_contradictions(config: Config) -> list[str]:
    found: list[str] = []
    found += key_contradictions(config)
    found += gateway_link_problems(config)
    found += _socket_contradictions(config)
    for name, values in (
        ("merchant", [merchant.id for merchant in config.merchant]),
        ("fraud", [rule.name for rule in config.fraud]),
    ):
        found += [f"{name}[{value}]: there are two of them" for value in sorted(set(values)) if values.count(value) > 1]
    for merchant in config.merchant:
        if not 1 <= len(merchant.id) <= 15:
            found.append(f"merchant[{merchant.id}].id: DE 42 has 1–15 characters")
    for issuer in config.issuer:
        if not (issuer.name.isascii() and issuer.name.replace("-", "").replace("_", "").isalnum()):
            found.append(f"issuer[{issuer.name}].name: it is used as a file name: letters, digits, - and _")
    return found


def _socket_contradictions(config: Config) -> list[str]:
    """Unix sockets whose path is too long where the state is, and two links on one."""
    found: list[str] = []
    seen: dict[str, str] = {}
    places: list[tuple[str, AcquirerLink | IssuerLink]] = [("acquirer", link) for link in config.acquirer]
    places += [("issuer", link) for link in config.issuer]
    for section, link in ((section, config.placed(link)) for section, link in places):
        if not link.on_unix_socket:
            continue
        try:
            address_of(link.listen or link.address)
        except ValueError:
            found.append(f"{section}[{link.name}]: {link.listen or link.address} is longer than 107 bytes: shorten it")
        if link.listen and seen.setdefault(link.listen, link.name) != link.name:
            found.append(f"{section}[{link.name}].listen: {link.listen} is the socket of {seen[link.listen]}")
    return found


def _port_contradictions(config: Config) -> list[str]:
    """Two listeners on one address; port 0 is any free one and never collides."""
    seen: dict[tuple[str, int], str] = {}
    found = []
    for name, address in config.listeners().items():
        if address[1] == 0:
            continue
        if address in seen:
            found.append(f"{name}: {address[0]}:{address[1]} is taken by {seen[address]}")
        seen.setdefault(address, name)
    return found


def _dialled(listen: str) -> str:
    """The address by which this machine reaches what listens there."""
    host, port = address_of(listen)
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{here}]:{port}" if ":" in here else f"{here}:{port}"


def _resolved(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Relative paths start at the file: those of the PKCS#11 module, of certificates and of dialect files."""
    base = path.absolute().parent
    for section, name in _PATHS:
        value = table.get(section, {}).get(name, "")
        if value and not os.path.isabs(value):
            table[section][name] = str(base / value)
    links = [link for section in ("acquirer", "issuer") for link in table.get(section, [])]
    if remote := table.get("gateway", {}).get("switch"):
        links.append(remote)
    for link in links:
        tls = link.get("tls") or {}
        for place, name in ((link, "dialect"), (tls, "certificate"), (tls, "private_key"), (tls, "ca")):
            value = place.get(name, "")
            named = name == "dialect" and not value.endswith((".toml", ".xml", ".json"))  # one that comes with us
            if value and not named and not os.path.isabs(value):
                place[name] = str(base / value)
    return table
