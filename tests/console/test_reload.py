"""The configuration of a running system read again: taken changes, changes for a restart, errors without effect."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.config import Config, load_config, write_effective
from console.errors import ConfigError, ConsoleError, UsageError
from console.ports import on_free_ports
from console.reload import digest_of, reload_workers, reloading, reread, run_reload, wanted_config
from console.reload_table import EVERY, NO_TABLES
from switch.errors import ConfigError as SwitchConfigError
from switch.errors import ControlError
from switch.links.permissions import Permissions
from switch.reload import NeedsRestart
from tests.console.test_config import GOOD, write


def running(tmp_path: Path, **overrides: Any) -> Config:
    """The configuration as a process of the running system has it."""
    config = load_config(write(tmp_path, GOOD), state=tmp_path / "state", **overrides)
    file = tmp_path / "run" / "config.json"
    write_effective(config, file)
    return load_config(file)


def change(tmp_path: Path, text: str) -> None:
    (tmp_path / "cardswitch.toml").write_text(text)


class Workers:
    """Control sockets of workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.digests: set[str] = set()
        monkeypatch.setattr("switch.control.ask", self.ask)

    def ask(self, path: Path, command: str, timeout_s: float = 1.0, **arguments: str) -> list[dict[str, Any]]:
        assert command == "reload"
        self.digests.add(arguments["digest"])
        self.asked.append(path.name)
        answer = self.answers.get(path.name, ControlError("away", f"{path.name} is away"))
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def taken(worker: int, *sections: str, restart: tuple[NeedsRestart, ...] = ()) -> dict[str, Any]:
    return {"worker": worker, "taken": list(sections), "restart": msgspec.to_builtins(restart)}


LEVEL = NeedsRestart("log.level", EVERY)


def test_a_process_of_a_running_system_knows_the_file_of_its_user(tmp_path: Path) -> None:
    config = running(tmp_path)
    assert config.source == str(tmp_path / "run" / "config.json")
    assert config.origin == str(tmp_path / "cardswitch.toml")
    assert config.overridden == ("state",)


def test_nothing_has_changed(tmp_path: Path) -> None:
    config = running(tmp_path)
    found = reread(config)
    assert (found.config, found.restart) == (config.switch_config(), ())


def test_what_has_changed_is_read_and_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    config = running(tmp_path)
    change(tmp_path, GOOD + '[[route]]\nprefix = "5"\nissuer = "alpha"\n[saf]\nlimit = 7\n[log]\nlevel = "debug"\n')
    found = reread(config)
    assert [route.prefix for route in found.config.routes] == ["4", "5"]
    assert found.config.saf.limit == 7
    assert found.restart == (LEVEL,)


def test_what_the_command_line_has_decided_stays(tmp_path: Path) -> None:
    config = on_free_ports(running(tmp_path, workers=5), issuers=True)
    assert config.overridden == ("ports", "state", "workers")
    wanted = wanted_config(config)
    for field in msgspec.structs.fields(Config):
        if field.name not in NO_TABLES:
            assert getattr(wanted, field.name) == getattr(config, field.name), field.name


def test_the_supervisor_and_its_children_mean_the_same_file(tmp_path: Path) -> None:
    """`up` has its configuration in memory, a worker has what `up` wrote; both have one digest."""
    supervisor = on_free_ports(load_config(write(tmp_path, GOOD), state=tmp_path / "state", workers=3), issuers=True)
    write_effective(supervisor, tmp_path / "run" / "config.json")
    child = load_config(tmp_path / "run" / "config.json")
    assert digest_of(wanted_config(supervisor)) == reread(child).digest
    change(tmp_path, GOOD.replace('name = "pos"', 'name = "pos"\npermissions = { messages = [] }'))
    assert digest_of(wanted_config(supervisor)) == reread(child).digest != digest_of(child)


def test_other_ports_and_workers_in_the_file_need_a_restart(tmp_path: Path) -> None:
    config = running(tmp_path)
    change(tmp_path, GOOD.replace("127.0.0.1:6001", "127.0.0.1:6009") + "[switch]\nworkers = 4\n")
    wanted = wanted_config(config)
    assert wanted.issuer != config.issuer and wanted.switch.workers == 4
    assert [(entry.setting, entry.processes) for entry in reread(config).restart] == [
        ("switch.workers", ("up",)), ("issuer[alpha].address", ("switch", "issuers")),
    ]  # fmt: skip


def test_a_file_with_errors_is_refused_with_all_of_them(tmp_path: Path) -> None:
    config = running(tmp_path)
    change(tmp_path, GOOD + '[[route]]\nprefix = "x"\nissuer = "beta"\n[saf]\nlimit = 0\n')
    with pytest.raises(SwitchConfigError) as caught:
        reread(config)
    assert len(caught.value.problems) == 3
    (tmp_path / "cardswitch.toml").unlink()
    with pytest.raises(SwitchConfigError, match="cannot be read"):
        reread(config)
    with pytest.raises(UsageError, match="cannot be read"):
        reload_workers(config)


def test_all_workers_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = running(tmp_path, workers=2)
    workers = Workers(
        monkeypatch,
        {
            "switch-0.sock": taken(0, "route", "acquirer[pos].permissions", restart=(LEVEL,)),
            "switch-1.sock": taken(1, restart=(LEVEL, NeedsRestart("key[zak]", ("hsm",), "new"))),
        },
    )
    assert run_reload(config, as_json=False) == 0
    assert workers.asked == ["switch-0.sock", "switch-1.sock"]
    assert capsys.readouterr().out.splitlines() == [
        "worker 0: route, acquirer[pos].permissions",
        "worker 1: nothing new",
        f"changed in {config.origin}, in force after a restart (of cardswitch up, if it runs them):",
        "  log.level       postgresql, hsm, switch, tokenizer, gateway, issuers",
        "  key[zak] (new)  hsm",
    ]  # fmt: skip
    assert run_reload(config, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["workers"][0]["taken"] == ["route", "acquirer[pos].permissions"] and said["away"] == []
    assert [(row["setting"], row["processes"], row["change"]) for row in said["restart"]] == [
        ("log.level", list(EVERY), "changed"), ("key[zak]", ["hsm"], "new"),
    ]  # fmt: skip
    assert workers.digests == {reread(config).digest}, "each is to take the file that this command has read"


def test_a_worker_that_is_away_is_told_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = running(tmp_path, workers=2)
    Workers(monkeypatch, {"switch-1.sock": taken(1, "route")})
    assert run_reload(config, as_json=False) == 1
    out, err = capsys.readouterr()
    assert out == "worker 1: route\n" and err == "cardswitch: switch-0.sock is away\n"


def test_no_worker_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workers(monkeypatch, {})
    with pytest.raises(ConsoleError, match="no worker of the switch answers"):
        run_reload(running(tmp_path), as_json=False)


def test_a_machine_without_a_switch_is_told_what_needs_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = running(tmp_path)
    workers = Workers(monkeypatch, {})
    gateway_only = msgspec.structs.replace(config, hsm=msgspec.structs.replace(config.hsm, vault=False))
    assert run_reload(gateway_only, as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  hsm.vault  up, hsm"] and workers.asked == []


def test_an_error_in_the_file_reaches_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = running(tmp_path)
    workers = Workers(monkeypatch, {"switch-0.sock": taken(0)})
    change(tmp_path, GOOD + "[saf]\nlimit = 0\nrepeats = 0\n")
    with pytest.raises(ConfigError) as caught:
        run_reload(config, as_json=False)
    assert len(caught.value.problems) == 2 and workers.asked == []


def test_what_a_worker_refuses_is_listed_and_kept_out_of_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = running(tmp_path)
    monkeypatch.setattr("console.supervisor.is_running", lambda state: True)
    Workers(monkeypatch, {"switch-0.sock": ControlError("invalid", "route 5: no issuer\nroute 6: no issuer")})
    with pytest.raises(ConfigError) as caught:
        run_reload(config, as_json=False)
    assert caught.value.problems == ("route 5: no issuer", "route 6: no issuer")
    assert not (config.state_path / "run" / "config.json").exists()


def test_what_only_some_workers_take_is_said_and_kept_for_their_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was edited while they were asked: a right that is taken away is away in as many as possible."""
    config = running(tmp_path, workers=3)
    monkeypatch.setattr("console.supervisor.is_running", lambda state: True)
    other = ControlError("invalid", "the file is not the one that the command has read")
    workers = Workers(
        monkeypatch,
        {"switch-0.sock": taken(0, "acquirer[pos].max_age_s"), "switch-1.sock": other, "switch-2.sock": taken(2)},
    )
    change(tmp_path, GOOD.replace('name = "pos"', 'name = "pos"\nmax_age_s = 60.0'))
    assert run_reload(config, as_json=False) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["worker 0: acquirer[pos].max_age_s", "worker 2: nothing new"]
    assert err.startswith("cardswitch: worker 1 refuses, and goes on as before: the file is not the one")
    assert len(workers.asked) == 3
    assert load_config(config.state_path / "run" / "config.json").acquirer[0].max_age_s == 60.0


def test_certificates_that_cannot_be_used_are_an_error_of_their_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = running(tmp_path, workers=1)
    Workers(monkeypatch, {"switch-0.sock": {**taken(0), "certificates": ["pos"]}})
    assert run_reload(config, as_json=False) == 1
    assert "worker 0: the TLS files of pos cannot be used, those before stay in force" in capsys.readouterr().err


def test_a_worker_that_is_started_again_starts_with_what_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = on_free_ports(running(tmp_path), issuers=True)
    monkeypatch.setattr("console.supervisor.is_running", lambda state: True)
    Workers(monkeypatch, {"switch-0.sock": taken(0, "route")})
    rules = 'name = "pos"\nmax_in_flight = 3\nmax_age_s = 60.0\npermissions = { messages = ["0100"] }'
    text = GOOD.replace('name = "pos"', rules) + '[[route]]\nprefix = "5"\nissuer = "alpha"\n[log]\nlevel = "debug"\n'
    change(tmp_path, text)
    reload_workers(config)
    again = load_config(config.state_path / "run" / "config.json")
    assert [route.prefix for route in again.route] == ["4", "5"]
    assert again.log.level == "info", "changes that need a restart of all wait for it"
    assert again.issuer == config.issuer
    [pos, gateway] = again.acquirer
    assert (pos.permissions, pos.max_age_s) == (Permissions(messages=("0100",)), 60.0), "rules of links"
    assert pos.max_in_flight == 2000 and pos.listen == config.acquirer[0].listen, "nothing else of them"
    assert gateway == config.acquirer[1]
    assert again.origin == config.origin and again.overridden == config.overridden


def test_a_hangup_reloads_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = running(tmp_path)
    workers = Workers(monkeypatch, {"switch-0.sock": taken(0, "route")})
    done: list[str] = []
    monkeypatch.setattr("threading.Thread", _inline(done))
    former = signal.getsignal(signal.SIGHUP)
    with reloading(config):
        signal.raise_signal(signal.SIGHUP)
        assert (workers.asked[0], done) == ("switch-0.sock", ["reload"])
        change(tmp_path, "nonsense")
        signal.raise_signal(signal.SIGHUP)  # a file with errors ends nothing
    assert signal.getsignal(signal.SIGHUP) == former

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with reloading(config):
        assert signal.getsignal(signal.SIGHUP) == former


def _inline(done: list[str]) -> Any:
    class Thread:
        """Runs at once."""

        def __init__(self, target: Any, name: str, daemon: bool) -> None:
            self._target, self._name = target, name

        def start(self) -> None:
            self._target()
            done.append(self._name)

    return Thread
