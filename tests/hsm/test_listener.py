"""Between socket and service: the bounded queue, deadlines, and no answer without its audit record."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hsm import callers, listener
from hsm.audit import read_records
from hsm.callers import Caller, Peer
from hsm.commands import GeneratedMac, GenerateMac
from hsm.listener import CommandQueue, Connection
from hsm.service import Service
from hsm.wire import REQUESTS, Answer, FrameReader, Refused, Unavailable, decode_answer, encode_body, frame
from tests.hsm.test_service import memory_service

EVERYTHING = Caller("test", "", frozenset({os.getuid()}), frozenset(REQUESTS))
MAC = encode_body(GenerateMac(key="zak-pos", data=b"x"))


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.paused = self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def answers(self) -> dict[int, Answer]:
        frames = FrameReader().receive(b"".join(self.writes))
        return {number: decode_answer(body) for number, _, body in frames}


@pytest.fixture(autouse=True)
def peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "transport_peer", lambda _, caller: Peer(caller, os.getuid(), 1, 2))


def connect(queue: CommandQueue) -> tuple[Connection, Transport]:
    transport: Any = Transport()
    connection = Connection(queue, set(), 10, EVERYTHING)
    connection.connection_made(transport)
    return connection, transport


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def written(service: Service, directory: Path) -> int:
    return len(list(read_records(directory / "audit")))


def test_a_record_is_written_before_its_answer(tmp_path: Path) -> None:
    async def test() -> None:
        service = memory_service(tmp_path)
        connection, transport = connect(CommandQueue(service, 100, 2.0))
        seen: list[int] = []
        write = transport.write
        transport.write = lambda data: (seen.append(written(service, tmp_path)), write(data))[1]  # type: ignore[method-assign, func-returns-value]
        connection.data_received(b"".join(frame(number, MAC) for number in range(40)))
        await turns()
        answers = transport.answers()
        assert len(answers) == 40 and all(isinstance(answer, GeneratedMac) for answer in answers.values())
        assert len(seen) == 2 and seen == [32, 40]  # a slice each, one write each

    asyncio.run(test())


def test_on_a_full_disk_the_fruit_of_a_command_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        service = memory_service(tmp_path)
        service.audit.flush()
        connection, transport = connect(CommandQueue(service, 100, 2.0))

        def full(_: int, __: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(service.audit, "_write", full)
            connection.data_received(frame(1, MAC))
            await turns()
            connection.data_received(frame(2, MAC))
            await turns()
        said = Unavailable("the audit cannot be written: No space left on device")
        assert transport.answers() == {1: said, 2: said}
        service.audit.retry()
        assert written(service, tmp_path) == 1  # the one that was done
        connection.data_received(frame(3, MAC))
        await turns()
        assert isinstance(transport.answers()[3], GeneratedMac)

    asyncio.run(test())


def test_waiting_is_bounded_in_number(tmp_path: Path) -> None:
    async def test() -> None:
        service = memory_service(tmp_path)
        queue = CommandQueue(service, 10, 2.0)
        connection, transport = connect(queue)
        connection.data_received(b"".join(frame(number, MAC) for number in range(25)))
        assert queue.unanswered == 10
        await turns()
        answers = transport.answers()
        refused = {number for number, answer in answers.items() if isinstance(answer, Refused)}
        assert refused == set(range(10, 25)) and queue.unanswered == 0
        assert "overloaded" in str(answers[24])

    asyncio.run(test())


def test_waiting_is_bounded_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the caller says, else by the configuration."""
    now = 100.0
    for module in ("hsm.listener", "hsm.service"):
        monkeypatch.setattr(f"{module}.perf_counter", lambda: now)

    async def test() -> None:
        nonlocal now
        connection, transport = connect(CommandQueue(memory_service(tmp_path), 10, 2.0))
        connection.data_received(frame(1, MAC, 500) + frame(2, MAC, 5000) + frame(3, MAC))
        now = 101.0
        await turns()
        connection.data_received(frame(4, MAC, 5000) + frame(5, MAC))
        now = 103.5
        await turns()
        outcomes = {
            number: answer.code if isinstance(answer, Refused) else "ok"
            for number, answer in transport.answers().items()
        }
        assert outcomes == {1: "expired", 2: "ok", 3: "ok", 4: "ok", 5: "expired"}

    asyncio.run(test())


def test_who_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    async def test() -> None:
        connection, transport = connect(CommandQueue(memory_service(tmp_path), 10, 2.0))
        connection.pause_writing()
        assert transport.paused
        connection.resume_writing()
        assert not transport.paused

    asyncio.run(test())


def test_commands_of_a_connection_that_is_gone_are_not_done(tmp_path: Path) -> None:
    async def test() -> None:
        service = memory_service(tmp_path)
        queue = CommandQueue(service, 10, 2.0)
        connection, transport = connect(queue)
        connection.data_received(frame(1, MAC))
        connection.connection_lost(None)
        await turns()
        assert queue.unanswered == 0 and not transport.writes and written(service, tmp_path) == 0

    asyncio.run(test())


def test_too_many_connections_are_cut_off(tmp_path: Path) -> None:
    async def test() -> None:
        queue, connections = CommandQueue(memory_service(tmp_path), 10, 2.0), set[Connection]()
        cut = []
        for _ in range(3):
            transport: Any = Transport()
            Connection(queue, connections, 2, EVERYTHING).connection_made(transport)
            cut.append(transport.aborted)
        assert cut == [False, False, True]

    asyncio.run(test())


def test_the_table_of_callers_is_the_one_that_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    section = text.partition("## [[caller]]")[2].partition("\n## ")[0]
    for name, commands in callers.CALLERS.items():
        row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
        # The officer's row says "network tokens but for their cryptograms".
        for command in commands - {"status"} - (_SHARED if name == "officer" else set()):
            assert f"`{command}`" in row, (name, command)


_SHARED = callers.CALLERS["requestor"]
