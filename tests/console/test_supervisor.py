"""Checks of a system before it starts: ports, the state directory's owner, socket paths, processes to start."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

import specs
from console.config import Config, StateConfig, load_config
from console.errors import StartError
from console.ports import busy_ports, on_free_ports, require_free
from console.supervisor import System, child_specs, is_running, running_config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), state=tmp_path)


def test_busy_ports_are_named_with_their_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = {"gateway.listen": ("127.0.0.1", port), "tokenizer.listen": ("127.0.0.1", 0)}
        assert busy_ports(addresses) == [("gateway.listen", "127.0.0.1", port, "in use")]
        with pytest.raises(StartError, match=rf"port in use: 127\.0\.0\.1:{port} \(gateway\.listen\)"):
            require_free(addresses)


def test_a_port_that_can_never_be_had_is_not_said_to_be_in_use() -> None:
    # TEST-NET-1 is no machine's. Source: RFC 5737.
    addresses = {"tokenizer.listen": ("192.0.2.1", 8443)}
    (busy,) = busy_ports(addresses)
    assert busy.why == "Cannot assign requested address"
    with pytest.raises(
        StartError, match=r"port cannot be listened on: 192\.0\.2\.1:8443 \(tokenizer\.listen\): Cannot"
    ):
        require_free(addresses)


def test_free_ports_replace_every_listener_and_differ(config: Config) -> None:
    moved = on_free_ports(config, issuers=True)
    before = {**config.listeners(), **config.simulated_listeners()}
    after = {**moved.listeners(), **moved.simulated_listeners()}
    assert before.keys() == after.keys()
    assert len(set(after.values())) == len(after)
    assert not set(before.values()) & set(after.values())
    assert not busy_ports(after)


def test_issuers_elsewhere_keep_their_address(config: Config) -> None:
    assert on_free_ports(config, issuers=False).issuer == config.issuer


def test_a_state_directory_in_use_is_refused_and_its_owner_named(config: Config, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_running(tmp_path)
        with pytest.raises(StartError, match="in use by the cardswitch with pid 4711"):
            System.start(config, ports="free")
    assert not is_running(tmp_path)


def test_a_path_too_long_for_a_unix_socket_is_refused(config: Config, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    with pytest.raises(StartError, match="too long for a unix socket"):
        System.start(config, deep, ports="free")
    assert not is_running(deep)


def test_a_state_that_cannot_be_made_is_one_clear_error(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used"):
        System.start(config, tmp_path / "file" / "state", ports="free")


def test_processes_follow_the_configuration(config: Config) -> None:
    three = msgspec.structs.replace(config, switch=msgspec.structs.replace(config.switch, workers=3))
    names = [spec.name for spec in child_specs(three, issuers=True, sockets={})]
    assert names[:2] == ["postgresql", "hsm"]
    assert [name for name in names if name.startswith("switch")] == ["switch-0", "switch-1", "switch-2"]
    assert not [spec for spec in child_specs(three, issuers=False, sockets={}) if spec.group == "issuers"]


def test_commands_find_the_running_systems_configuration_only_while_it_runs(config: Config, tmp_path: Path) -> None:
    import fcntl

    from console.config import write_effective
    from console.supervisor import config_file

    moved = on_free_ports(config, issuers=True)
    write_effective(moved, config_file(tmp_path))
    assert running_config(config) == config, "a left-over file of a system that is gone"
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert running_config(config).gateway.listen == moved.gateway.listen
    assert config.state == StateConfig(str(tmp_path))
