"""A worker's answers on its control socket about circuits and reloads, over a real unix socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from switch.control import ControlServer, ask
from switch.errors import ControlError
from switch.reload import NeedsRestart, Reloaded, ReloadRefused
from switch.routing.choice import Taken
from switch.routing.settings import Route
from tests.switch.routing.test_choice import Desk


class FakeReloader:
    def __init__(self) -> None:
        self.refused: tuple[str, ...] = ()

    async def reload(self, digest: str = "") -> Reloaded:
        self.digest = digest
        if self.refused:
            raise ReloadRefused(self.refused)
        return Reloaded(3, ("route",), (NeedsRestart("log.level", ("hsm", "switch")),))


def on_socket(tmp_path: Path, work: Callable[[Path], Any], desk: Desk | None, reloader: FakeReloader | None) -> Any:
    """Run blocking `work` in a thread beside a control server."""
    path = tmp_path / "switch-3.sock"

    async def main() -> Any:
        choice, lines = (desk.choice, desk.lines) if desk is not None else (None, {})
        server = ControlServer(3, lines, {}, {}, {}, choice, reloader)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, path)
            found = await trio.to_thread.run_sync(work, path)
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


def test_circuits_of_all_issuer_links(tmp_path: Path) -> None:
    desk = Desk(Route(prefix="4", issuer="a"))

    def work(path: Path) -> Any:
        before = ask(path, "circuits")
        for _ in range(2):
            desk.end(Taken("a"), None, now=0.0)
        desk.end(Taken("b"), None, now=1e9)
        desk.down("c")
        return before, ask(path, "circuits")

    before, after = on_socket(tmp_path, work, desk, None)
    whole = {"worker": 3, "fit": True, "circuit": "closed", "since_s": None, "failed": 0, "ended": 0}
    assert before == [{"link": name, **whole} for name in "abc"]
    assert [row["circuit"] for row in after] == ["open", "closed", "closed"]
    assert after[0]["since_s"] > 0
    assert (after[1]["failed"], after[1]["ended"]) == (1, 1)
    assert [row["fit"] for row in after] == [True, True, False]


def test_a_reload_and_its_refusal(tmp_path: Path) -> None:
    reloader = FakeReloader()

    def work(path: Path) -> Any:
        done = ask(path, "reload", digest="5f1c")
        reloader.refused = ("route 4: no issuer", "saf: no limit")
        with pytest.raises(ControlError) as caught:
            ask(path, "reload")
        return done, caught.value

    done, error = on_socket(tmp_path, work, None, reloader)
    restart = [{"setting": "log.level", "processes": ["hsm", "switch"], "change": "changed"}]
    assert done == [{"worker": 3, "taken": ["route"], "restart": restart, "certificates": []}]
    assert reloader.digest == ""  # of the second, which named none
    assert (error.code, str(error).splitlines()) == ("invalid", ["route 4: no issuer", "saf: no limit"])


def test_a_worker_without_a_file_knows_no_reload(tmp_path: Path) -> None:
    def work(path: Path) -> str:
        with pytest.raises(ControlError) as caught:
            ask(path, "reload")
        return caught.value.code

    assert on_socket(tmp_path, work, None, None) == "unknown"
