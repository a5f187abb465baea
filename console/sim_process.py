"""`cardswitch sim issuer` and `sim network`: a scenario in, an issuer or network as a process of its own until Ctrl-C.

With the name of an [[issuer]] the address, dialect, framing and keys are those of the configuration, the book outlives
the process and `cardswitch prove` finds it; without one everything is the scenario's, and no configuration is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from console.errors import ConfigError, ConsoleError, StartError, UsageError

if TYPE_CHECKING:
    from console.config import Config
    from simulators.issuer.scenario import IssuerScenario
    from simulators.network.scenario import NetworkScenario

    Scenario = IssuerScenario | NetworkScenario


class Standalone(msgspec.Struct, frozen=True, kw_only=True):
    """A simulator without a link of the configuration; None for what is left to the scenario.

    Args:
        kind: issuer or network.
        control: where its control socket is made. book: a file that keeps its book over a restart.
    """

    kind: str
    scenario: Path
    listen: str | None = None
    dial: str | None = None
    control: Path | None = None
    book: Path | None = None


def serve_on_link(config: Config, name: str, file: Path | None, ready: Callable[[], None]) -> Callable[[], Any]:
    """The server of the [[issuer]] `name`: an issuer, or a network by its scenario.

    Args:
        ready: called once it listens.
    Raises: StartError for a name that is not in the configuration; ConfigError for a scenario that is wrong.
    """
    from console.supervisor import control_socket

    scenario = link_scenario(config, name, file)
    return _serving(
        scenario,
        lambda: config,
        control=control_socket(config, name),
        book=book_path(config, name),
        ready=lambda address: ready(),
    )


def run_standalone(config: Callable[[], Config], wanted: Standalone) -> None:
    """Serve until SIGTERM or Ctrl-C; says where it listens on standard error.

    Args:
        config: reads the configuration; called where keys of the exchange directory are needed only.
    """
    from console.logging import configure
    from console.processes import run_trio
    from simulators.errors import BookError, ScenarioError, WireLost
    from simulators.scenario_file import read_scenario

    try:
        _, scenario = read_scenario(str(wanted.scenario), wanted.kind)
    except ScenarioError as error:
        raise ConfigError(error.source, error.problems) from None
    changes = {name: value for name in ("listen", "dial") if (value := getattr(wanted, name)) is not None}
    made: Any = msgspec.structs.replace(scenario, **changes)
    if problems := _address_problems(made):
        raise UsageError(problems, "give host:port")
    configure(f"{wanted.kind}-{made.name}", level="info" if made.log_messages else "warning")

    def say(address: tuple[str, int]) -> None:
        verb = "dials" if made.dial else "listens on"
        print(f"{wanted.kind} {made.name} {verb} {address[0]}:{address[1]}", file=sys.stderr)

    try:
        run_trio(_serving(made, config, control=wanted.control, book=wanted.book, ready=say))
    except (WireLost, BookError) as error:
        raise ConsoleError(str(error), "choose another address or book") from None


def link_scenario(config: Config, name: str, file: Path | None = None) -> Scenario:
    """The scenario of the simulated issuer or network `name`: the file, else specs/scenario-NAME.toml, else an issuer
    made from the configuration; address, dialect, framing and keys are always those of [[issuer]].

    Raises: StartError for a name that is not in the configuration; ConfigError for a scenario that is wrong.
    """
    from simulators.errors import ScenarioError
    from simulators.issuer.accounts import AccountRule
    from simulators.issuer.scenario import IssuerScenario
    from simulators.scenario_file import read_scenario

    link = config.issuer_link(name)
    if link is None:
        known = ", ".join(entry.name for entry in config.issuer)
        raise StartError(f"there is no issuer {name!r}", f"use one of [[issuer]]: {known}")
    prefixes = tuple(prefix for route in config.route if name in route.targets for prefix in route.prefixes)
    scenario: Any = IssuerScenario(name=name, prefixes=prefixes, default=AccountRule(balance_minor=1_000_000))
    try:
        kind, scenario = read_scenario(f"scenario-{name}" if file is None else str(file))
        if kind == "acquirer":
            raise ConfigError(str(file), ("this is an acquirer's scenario: cardswitch sim acquirer",))
    except ScenarioError as error:
        if file is not None or "No such file" not in str(error):
            raise ConfigError(error.source, error.problems) from None
    if link.tls is not None and scenario.tls is None:
        raise StartError(f"[[issuer]] {name} has tls, its simulator has no certificate", "give its scenario a [tls]")
    party = next((key.party for key in config.key if key.name in (link.pin_key, link.mac_key)), name)
    made: Scenario = msgspec.structs.replace(
        scenario,
        name=name,
        listen=link.address,
        dial="" if link.dials else link.listen,
        dialect=link.dialect,
        framing=link.framing,
        max_frame=link.max_frame,
        header=link.header,
        party=party,
        pin_key=link.pin_key,
        pin_format=link.pin_format,
        mac_key=link.mac_key,
        mac_algorithm=config.mac_algorithm(link.mac_key),
        mac_management=link.mac_management,
        trace_element=link.trace_element or 0,
        log_messages=scenario.log_messages and config.switch.payment_log,
    )
    return made


def book_path(config: Config, name: str) -> Path:
    """File in which a simulated issuer or network of the configuration keeps its book over restarts."""
    return config.state_path / "issuers" / f"{name}.book"


def _serving(
    scenario: Scenario,
    config: Callable[[], Config],
    *,
    control: Path | None,
    book: Path | None,
    ready: Callable[[tuple[str, int]], None],
) -> Callable[[], Any]:
    from simulators.errors import ScenarioError
    from simulators.issuer.serve import serve_issuer
    from simulators.network.scenario import NetworkScenario
    from simulators.network.serve import serve_network

    keys, zmk = _keys(scenario, config)

    async def serve() -> None:
        places: dict[str, Any] = {"control_path": control, "book_path": book, "ready": ready}
        try:
            if isinstance(scenario, NetworkScenario):
                await serve_network(scenario, keys=keys, zmk=zmk, **places)
            else:
                await serve_issuer(scenario, keys=keys, zmk=zmk, **places)
        except ScenarioError as error:
            raise ConfigError(error.source, error.problems) from None

    return serve


def _keys(scenario: Scenario, config: Callable[[], Config]) -> tuple[dict[str, bytes], bytes]:
    """Keys and zone master key of the scenario's party, where it needs more than its test keys."""
    from hsm.errors import KeyStoreError
    from hsm.keys.exchange import load_party_keys, load_party_zmk

    if all(name in scenario.test_keys for name in scenario.key_names):
        return {}, b""
    exchange = config().exchange_path
    try:
        return load_party_keys(exchange, scenario.party), load_party_zmk(exchange, scenario.party)
    except KeyStoreError as error:
        raise ConsoleError(
            f"keys of {scenario.party}: {error}",
            "start cardswitch up first, or give test_keys in the scenario; under dual control: up --no-issuers",
        ) from None


def _address_problems(scenario: Scenario) -> str:
    from messages.address import address_of

    for name in ("listen", "dial"):
        try:
            if getattr(scenario, name):
                address_of(getattr(scenario, name))
        except ValueError as error:
            return f"--{name}: {error}"
    return ""
