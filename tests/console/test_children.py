"""Supervision: ready in order, restarted when dead, stopped without a trace, and dead with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.children import Children, ChildSpec, Event, State
from console.errors import StartError

ROOT = Path(__file__).parents[2]
READY = "from console.readiness import announce, follow_parent; follow_parent(); announce()"
SLEEP = f"{READY}; import time; time.sleep(60)"

Make = Callable[..., Children]


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Children] = []

    def children(*specs: ChildSpec, on_event: Callable[[Event], None] = lambda event: None) -> Children:
        made.append(Children(list(specs), tmp_path, {"PYTHONPATH": str(ROOT)}, on_event, longest_pause_s=0.2))
        made[-1].start()
        return made[-1]

    yield children
    for each in made:
        each.stop(2.0)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_dead(pid: int) -> None:
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, f"{pid} lives"
        time.sleep(0.01)


def test_a_child_starts_after_those_it_needs(make: Make) -> None:
    events: list[str] = []
    children = make(
        ChildSpec("b", "g", program(SLEEP), needs=("a",)),
        ChildSpec("a", "g", program(f"import time; time.sleep(0.2); {SLEEP}")),
        on_event=lambda event: events.append(f"{event.child} {event.kind}"),
    )
    children.wait_ready(10)
    assert events == ["a ready", "b ready"]
    assert set(children.pids()) == {"a", "b"}


def test_a_killed_child_comes_back_and_it_is_said(make: Make) -> None:
    events: list[Event] = []
    children = make(ChildSpec("a", "g", program(SLEEP)), on_event=events.append)
    children.wait_ready(10)
    pid = children.pids()["a"]
    os.kill(pid, signal.SIGKILL)
    fresh = children.wait_child("a", 10, other_than=pid)
    assert fresh != pid
    assert children.statuses()[0].restarts == 1
    died = next(event for event in events if event.kind == "died")
    assert "SIGKILL" in died.text
    assert "starting it again in" in died.text


def test_the_pause_before_a_restart_grows_to_its_cap(make: Make) -> None:
    events: list[Event] = []
    children = make(ChildSpec("a", "g", program(READY)), on_event=events.append)
    children.wait_ready(10)
    deadline = time.monotonic() + 20
    while sum(event.kind == "died" for event in events) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pauses = [event.text.rpartition(" in ")[2] for event in events if event.kind == "died"]
    assert pauses[:3] == ["0.2 s", "0.2 s", "0.2 s"]  # the cap of this test


def test_a_child_that_cannot_start_fails_the_start_with_its_last_words(make: Make) -> None:
    children = make(ChildSpec("a", "g", program("import sys; sys.exit('no token here')")))
    with pytest.raises(StartError, match=r"a did not start \(exit status 1\)(.|\n)*no token here"):
        children.wait_ready(10)


def test_last_words_are_of_this_start_only(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.err").write_text("no token, said an earlier start\n")
    (tmp_path / "a.jsonl").write_text('{"event":"failed","error":"an earlier start"}\n')
    log = f"open({str(tmp_path / 'a.jsonl')!r}, 'a').write('now the disk is full\\n')"
    children = make(ChildSpec("a", "g", program(f"import sys; {log}; sys.exit(1)")))
    with pytest.raises(StartError, match=r"a did not start \(exit status 1\)(.|\n)*now the disk is full") as raised:
        children.wait_ready(10)
    assert "earlier start" not in str(raised.value)


def test_a_child_that_wrote_nothing_is_not_quoted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.err").write_text("no token, said an earlier start\n")
    children = make(ChildSpec("a", "g", program("import os; os._exit(3)")))
    with pytest.raises(StartError, match=r"exit status 3\); it wrote nothing; its logs are in ") as raised:
        children.wait_ready(10)
    assert "earlier start" not in str(raised.value)


def test_a_command_that_does_not_exist_fails_the_start(make: Make) -> None:
    children = make(ChildSpec("a", "g", ("/no/such/program",)))
    with pytest.raises(StartError, match="cannot be started"):
        children.wait_ready(10)


def test_a_child_that_never_gets_ready_is_named(make: Make) -> None:
    children = make(ChildSpec("slow", "g", program("import time; time.sleep(60)")))
    with pytest.raises(StartError, match=r"not ready after 0\.3 s: slow"):
        children.wait_ready(0.3)


def test_stop_ends_all_also_those_that_ignore_sigterm(make: Make) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    children = make(ChildSpec("a", "g", program(stubborn)), ChildSpec("b", "h", program(SLEEP)))
    children.wait_ready(10)
    pids = list(children.pids().values())
    children.stop(grace_s=0.5)
    assert not any(is_alive(pid) for pid in pids)
    assert {status.state for status in children.statuses()} == {State.STOPPED}


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from console.children import Children, ChildSpec
children = Children([ChildSpec("a", "g", (sys.executable, "-c", {SLEEP!r}))], Path({str(tmp_path)!r}))
children.start()
children.wait_ready(10)
print(children.pids()["a"], flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program(code), stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    wait_dead(pid)
