"""`cardswitch send` against a peer on a real socket."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from console import cli
from console.errors import ConsoleError, UsageError
from console.send import Request, Target, _put_pin, _show, build, exchange, padded
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import framing
from messages.message import Message
from messages.mti import response_mti

Answer = Callable[[Message], list[bytes]]
CODEC = Codec(load_dialect("iso87-ascii"))
FRAMES = framing()
NOW = datetime(2026, 11, 22, 15, 49, 8, tzinfo=UTC)


def response(message: Message, **changes: str) -> bytes:
    elements = {number: message.elements[number] for number in (7, 11)}
    elements.update({39: "00"} | {int(name[1:]): value for name, value in changes.items()})
    return FRAMES.encode(CODEC.encode(Message(response_mti(message.mti), elements)))


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], tuple[str, int]]]:
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> tuple[str, int]:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                decoder = FRAMES.decoder()
                while data := connection.recv(65536):
                    for frame in decoder.receive(data):
                        replies = answer(CODEC.decode(frame))
                        for reply in replies:
                            connection.sendall(reply)
                        if not replies:
                            return

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        host, port = listener.getsockname()
        return str(host), int(port)

    yield start
    for listener in listeners:
        listener.close()
    for thread in threads:
        thread.join(5)


def test_the_answer_to_the_message_is_found_among_others(serve: Callable[[Answer], tuple[str, int]]) -> None:
    address = serve(lambda message: [response(message, e11="999999"), response(message, e39="91")])
    message = build(Request(to="x", mti="0800", elements=("70=301",)), NOW)
    answer = exchange(Target("x", address, "iso87-ascii"), message, 5)
    assert answer.mti == "0810"
    assert answer.elements[39] == "91"


def test_send_prints_json(serve: Callable[[Answer], tuple[str, int]], capsys: pytest.CaptureFixture[str]) -> None:
    host, port = serve(lambda message: [response(message)])
    status = cli.run(["send", "--to", f"{host}:{port}", "--mti", "0800", "--set", "70=301", "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert json.loads(out)["elements"]["39"] == "00"


def test_a_peer_that_hangs_up_is_an_error(serve: Callable[[Answer], tuple[str, int]]) -> None:
    address = serve(lambda message: [])
    with pytest.raises(ConsoleError, match="closed the connection"):
        exchange(Target("x", address, "iso87-ascii"), build(Request(to="x", mti="0800"), NOW), 5)


def test_silence_is_an_error(serve: Callable[[Answer], tuple[str, int]]) -> None:
    address = serve(lambda message: [response(message, e11="999999")])
    with pytest.raises(ConsoleError, match=r"did not answer within 0\.2 s"):
        exchange(Target("x", address, "iso87-ascii"), build(Request(to="x", mti="0800"), NOW), 0.2)


def test_nobody_there_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with pytest.raises(ConsoleError, match="is cardswitch up"):
            exchange(Target("x", address, "iso87-ascii"), build(Request(to="x", mti="0800"), NOW), 1)


def test_numbers_are_filled_in_and_settings_win() -> None:
    text = '{"mti": "0200", "elements": {"4": "000000000100", "11": "000007"}}'
    message = build(Request(to="x", message=text, elements=("4=000000000200",)), NOW)
    assert message.elements[4] == "000000000200"
    assert message.elements[11] == "000007"
    assert message.elements[7] == "1122154908"
    assert message.elements[37].endswith("000007")


@pytest.mark.parametrize("elements", [("x=1",), ("1=0",), ("129=0",), ("70",)])
def test_wrong_settings_are_refused(elements: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        build(Request(to="x", mti="0800", elements=elements), NOW)


def test_an_unknown_link_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["send", "--to", "moon", "--mti", "0800"]) == 2
    assert "use one of pos, gateway" in capsys.readouterr().err


def test_fixed_elements_are_brought_to_their_length() -> None:
    message = padded(Message("0200", {4: "1234", 41: "T1", 42: "SHOP", 32: "10001"}), "iso87-ascii")
    assert message.elements == {4: "000000001234", 41: "T1      ", 42: "SHOP           ", 32: "10001"}


def test_types_of_later_versions_are_refused_with_the_one_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["send", "--to", "127.0.0.1:1", "--spec", "iso93-binary", "--mti", "1100"]) == 2
    assert capsys.readouterr().err == "cardswitch: type 1100; give the type of 1987, 0100: it is translated\n"


def test_what_is_sent_to_a_later_version_keeps_the_lengths_of_1987() -> None:
    message = padded(Message("0100", {4: "2500", 12: "140942", 41: "T1"}), "iso93-binary")
    assert message.elements == {4: "000000002500", 12: "140942", 41: "T1".ljust(8)}


def test_elements_of_a_later_version_are_named_in_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    _show(Message("0110", {39: "00", 1012: "261126140942"}), False, "←", "1993")
    assert "1012 DE 12 of 1993: Date and time, local" in " ".join(capsys.readouterr().out.split())


def test_a_pin_comes_from_standard_input_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1234\n"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asks a terminal"))
    message = Message("0200", {2: "4242424242424242"})
    _put_pin(message, Target("pos", ("127.0.0.1", 1), "iso87-ascii", pin_key=bytes(range(16))))
    assert len(message.elements[52]) == 16
    assert capsys.readouterr().err == ""
