"""A point of sale for the end-to-end tests: the pure acquirer core on a blocking socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from messages.address import unix_path
from messages.framing import framing
from messages.message import Message
from messages.mti import is_response, repeat_mti
from simulators.acquirer import Acquirer, Card
from simulators.acquirer.book import Request
from simulators.errors import MacError

FRAMING = framing()


def utcnow() -> datetime:
    return datetime.now(UTC)


def _connected(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """To a port or a unix socket."""
    path = unix_path(address[0])
    if not path:
        return socket.create_connection(address, timeout_s)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    connection.connect(path)
    return connection


class Terminal:
    """One connection of an acquirer; `raw` methods go round the core to send what no acquirer should."""

    def __init__(self, acquirer: Acquirer, address: tuple[str, int], timeout_s: float = 10.0) -> None:
        self.acquirer = acquirer
        self.address = address
        self.timeout_s = timeout_s
        self.unasked: list[Message] = []  # messages that the switch started
        self.unsealed: list[Message] = []  # messages without a MAC, though the link has a key
        self._connect()

    def _connect(self) -> None:
        self._socket = _connected(self.address, self.timeout_s)
        self._decoder = FRAMING.decoder()
        self._frames: list[bytes] = []

    def reconnect(self) -> None:
        self.close()
        self._connect()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message) -> None:
        self.send_raw(self.acquirer.encode(message))

    def send_raw(self, payload: bytes) -> None:
        self._socket.sendall(FRAMING.encode(payload))

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive_raw(self, timeout_s: float | None = None) -> bytes:
        """The next frame's payload; b"" where the switch closed the connection."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while not self._frames:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(65536)
            if not data:
                return b""
            self._frames.extend(self._decoder.receive(data))
        return self._frames.pop(0)

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message, told to the core; messages that the switch started are answered on the way."""
        data = self.receive_raw(timeout_s)
        if not data:
            raise ConnectionError("the switch closed the connection")
        try:
            message = self.acquirer.decode(data)
        except MacError:
            message = self.acquirer.codec.decode(data)
            if 64 in message.elements or 128 in message.elements:
                raise
            self.unsealed.append(message)
        received = self.acquirer.receive(message, utcnow())
        for answer in received.answers:
            self.send(answer)
        if not is_response(message.mti):
            self.unasked.append(message)
        return message

    def exchange(self, request: Request) -> Message:
        """Send a request and wait for its own answer."""
        self.send(request.message)
        return self.answer_of(request)

    def answer_of(self, request: Request) -> Message:
        while True:
            message = self.receive()
            if is_response(message.mti) and message.elements.get(11) == request.message.elements[11]:
                return message

    def repeat(self, request: Request) -> Message:
        """Send it again with the MTI of a repeat."""
        self.send(Message(repeat_mti(request.message.mti), request.message.elements))
        return self.answer_of(request)

    def wait_unasked(self, mti: str, timeout_s: float = 10.0) -> Message:
        """The first message of this MTI that the switch started."""
        deadline = time.monotonic() + timeout_s
        while True:
            for message in self.unasked:
                if message.mti == mti:
                    return message
            self.receive(max(0.001, deadline - time.monotonic()))

    # Actions of a cashier

    def authorize(self, card: Card, amount_minor: int, currency: str = "EUR", **fields: str) -> tuple[Request, Message]:
        request = self.acquirer.authorization(card, amount_minor, currency, utcnow(), **fields)
        return request, self.exchange(request)

    def buy(self, card: Card, amount_minor: int, currency: str = "EUR", **fields: str) -> tuple[Request, Message]:
        request = self.acquirer.purchase(card, amount_minor, currency, utcnow(), **fields)
        return request, self.exchange(request)

    def capture(self, original: Request, amount_minor: int, *, final: bool = True) -> tuple[Request, Message]:
        request = self.acquirer.capture(original, amount_minor, utcnow(), final=final)
        return request, self.exchange(request)

    def refund(self, card: Card, amount_minor: int, original: Request) -> tuple[Request, Message]:
        request = self.acquirer.refund(card, amount_minor, utcnow(), original)
        return request, self.exchange(request)

    def reverse(self, original: Request, *, advice: bool = False) -> tuple[Request, Message]:
        request = self.acquirer.reversal(original, utcnow(), advice=advice)
        return request, self.exchange(request)


@contextmanager
def terminal(acquirer: Acquirer, address: tuple[str, int]) -> Iterator[Terminal]:
    shell = Terminal(acquirer, address)
    try:
        yield shell
    finally:
        shell.close()
