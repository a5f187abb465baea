"""`cardswitch send`: one message in, sent to a link of the switch, its answer out; for trying a connection by hand.

DE 7, 11, 12, 13 and 37 are filled in where the message has none; on a link of the configuration the MAC is added and
checked with the key that the HSM exported for the other party.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from console.codec_commands import as_plain, inputs, is_json, message_from_json, message_table
from console.config import Config
from console.errors import ConsoleError, UsageError
from messages.address import address_of, shown_address, unix_path
from messages.errors import MessagesError

if TYPE_CHECKING:
    from messages.message import Message
    from simulators.acquirer import Acquirer

_OF_1987 = "iso87-ascii"
_LONGEST_PIN = 64  # characters of a line; a longer one is no PIN and is refused later
_NUMBERED = ("0100", "0200", "0220", "0400", "0420", "0101", "0201", "0221", "0401", "0421")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The message that the user wants to send, and its destination: `to` is an [[acquirer]]'s name or host:port."""

    to: str
    message: str | None = None
    mti: str | None = None
    elements: tuple[str, ...] = ()
    spec: str | None = None
    ask_pin: bool = False


class Target(msgspec.Struct, frozen=True):
    """The destination of a message, and the settings of its link."""

    name: str
    address: tuple[str, int]
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    pin_key: bytes = b""
    mac_key: bytes = b""
    must_sign_on: bool = False
    pin_format: int = 0
    mac_algorithm: str = ""
    mac_management: bool = False
    ksn_element: int = 0
    header: str | int = ""


def run_send(config: Config, request: Request, timeout_s: float, as_json: bool, unmasked: bool) -> None:
    """Send, wait, print.

    Raises: UsageError for a message that cannot be built; ConsoleError where nothing answers.
    """
    from messages.dialect import load_dialect

    target = target_of(config, request.to, request.spec)
    message = padded(build(request, datetime.now(UTC)), target.dialect)
    if message.mti[:1] in ("1", "2"):
        raise UsageError(f"type {message.mti}", f"give the type of 1987, 0{message.mti[1:]}: it is translated")
    if request.ask_pin:
        _put_pin(message, target)
    version = load_dialect(target.dialect).version
    if not as_json:
        _show(message, unmasked, f"→ {target.name}", version)
    started = time.monotonic()
    answer = exchange(target, message, timeout_s)
    took_ms = (time.monotonic() - started) * 1000
    if as_json:
        print(msgspec.json.encode(as_plain(answer, unmasked)).decode())
    else:
        _show(answer, unmasked, f"← {took_ms:.1f} ms", version)


def target_of(config: Config, to: str, spec: str | None = None) -> Target:
    """The link named `to` with its keys, or an address with a dialect. Raises UsageError for neither."""
    link = config.acquirer_link(to)
    if link is None:
        if ":" not in to:
            known = ", ".join(entry.name for entry in config.acquirer)
            raise UsageError(f"there is no acquirer link {to!r}", f"use one of {known}, or host:port")
        try:
            return Target(to, address_of(to), spec or "iso87-ascii")
        except ValueError as error:
            raise UsageError(f"--to: {error}", "give a link's name or host:port") from None
    if link.dials or link.tls:
        raise UsageError(
            f"link {to} is dialled by the switch, or under TLS", "name one that listens without, or host:port"
        )
    return Target(
        link.name,
        address_of(link.listen),
        spec or link.dialect,
        link.framing,
        link.max_frame,
        party_key(config, link.pin_key),
        party_key(config, link.mac_key),
        link.must_sign_on,
        link.pin_format,
        config.mac_algorithm(link.mac_key),
        link.mac_management,
        link.ksn_element or 0,
        link.header,
    )


def party_key(config: Config, name: str) -> bytes:
    """A link key as the other party has it, b"" for no name. Raises ConsoleError where it was not exported yet."""
    entry = next((key for key in config.key if key.name == name), None)
    if entry is None:
        return b""
    from hsm.errors import KeyStoreError
    from hsm.keys.exchange import load_party_keys

    try:
        return load_party_keys(config.exchange_path, entry.party)[name]
    except (KeyStoreError, KeyError) as error:
        raise ConsoleError(
            f"key {name} of {entry.party} cannot be read: {error}",
            "start cardswitch up first; under dual control no file has link keys, and send cannot use them",
        ) from None


def build(request: Request, now: datetime) -> Message:
    """The message to send: JSON and --set laid over each other, numbers filled in. Raises UsageError."""
    from messages.exchange import de7
    from messages.message import Message

    if request.message is not None:
        message = message_from_json(next(inputs(request.message, looks_like_value=is_json)))
    elif request.mti is not None:
        message = Message(request.mti, {})
    else:
        raise UsageError("no message given", "give JSON, or --mti 0800 --set 70=301")
    if request.mti is not None:
        message = Message(request.mti, dict(message.elements))
    for assignment in request.elements:
        number, equals, value = assignment.partition("=")
        if not equals or not number.isascii() or not number.isdigit() or not 2 <= int(number) <= 128:
            raise UsageError(f"--set {number!r}", "use NUMBER=VALUE with a number from 2 to 128")
        message.elements[int(number)] = value
    moment = de7(now)
    stan = f"{random.randrange(1, 1_000_000):06d}"
    message.elements.setdefault(7, moment)
    message.elements.setdefault(11, stan)
    if message.mti in _NUMBERED:
        message.elements.setdefault(12, moment[4:])
        message.elements.setdefault(13, moment[:4])
        message.elements.setdefault(37, f"{now:%y%j%H}"[1:] + message.elements[11])
    return message


def padded(message: Message, dialect: str) -> Message:
    """Fixed elements brought to their length, as people leave it out: numbers with zeros, text with spaces."""
    from messages.dialect import load_dialect
    from messages.message import Message

    spoken = load_dialect(dialect)
    # Given elements have the numbers of 1987; in later versions other elements have them (DE 12: n 12).
    known = (spoken if spoken.version == "1987" else load_dialect(_OF_1987)).elements
    elements = dict(message.elements)
    for number, value in elements.items():
        element = known.get(number)
        if element is not None and element.length_kind == 0 and element.kind != "b":
            length = element.max_length
            elements[number] = value.zfill(length) if element.kind == "n" else value.ljust(length)
    return Message(message.mti, elements)


def exchange(target: Target, message: Message, timeout_s: float) -> Message:
    """Send `message` on a connection of its own and return its answer.

    Raises: UsageError where the dialect cannot hold it; ConsoleError where no answer comes, or one with a wrong MAC.
    """
    from messages.errors import EncodeError
    from simulators.acquirer import Acquirer, AcquirerProfile

    profile = AcquirerProfile(link=target.name, dialect=target.dialect, mac_management=target.mac_management)
    if target.mac_algorithm:
        profile = msgspec.structs.replace(profile, mac_algorithm=target.mac_algorithm)
    acquirer = Acquirer(profile, mac_key=target.mac_key)
    deadline = time.monotonic() + timeout_s
    try:
        with _connected(target.address, timeout_s) as connection:
            if target.must_sign_on:
                _talk(connection, target, acquirer, acquirer.sign_on(datetime.now(UTC)), deadline)
            return _talk(connection, target, acquirer, message, deadline)
    except EncodeError as error:
        raise UsageError(str(error), "correct the element") from None
    except TimeoutError:
        raise ConsoleError(
            f"{target.name} did not answer within {timeout_s:g} s", "raise --timeout, look at its log"
        ) from None
    except OSError as error:
        place = shown_address(target.address)
        raise ConsoleError(f"{target.name} at {place}: {error.strerror or error}", "is cardswitch up?") from None


def _connected(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A connection to a port or to a unix socket. Raises OSError."""
    path = unix_path(address[0])
    if not path:
        return socket.create_connection(address, timeout=timeout_s)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _talk(connection: socket.socket, target: Target, acquirer: Acquirer, message: Message, deadline: float) -> Message:
    from messages.exchange import pairing_key
    from messages.framing import framing
    from messages.mti import is_response
    from simulators.errors import MacError

    frames = framing(target.framing, target.max_frame, header=target.header)
    decoder = frames.decoder()
    wanted = pairing_key(message)
    connection.sendall(frames.encode(acquirer.encode(message)))
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        data = connection.recv(65536)
        if not data:
            raise ConsoleError(f"{target.name} closed the connection", "look at the switch's log")
        for frame in decoder.receive(data):
            try:
                answer = acquirer.decode(frame)
            except MacError as error:
                raise ConsoleError(str(error), "the keys of both sides differ") from None
            except MessagesError as error:
                raise ConsoleError(f"{target.name} answered {len(frame)} bytes that are no message: {error}") from None
            if is_response(answer.mti) and pairing_key(answer) == wanted:
                return answer


def _put_pin(message: Message, target: Target) -> None:
    import getpass

    from hsm.errors import PinBlockError
    from messages.card import pan_of
    from simulators.link_keys import LinkKeys

    if not target.pin_key:
        raise UsageError(f"{target.name} has no PIN key", "leave --pin out")
    if target.ksn_element:
        raise UsageError(f"{target.name} takes PINs under DUKPT, from terminals", "set DE 52 and the KSN with --set")
    # Without a terminal, as in a script, there is nothing to hide it from.
    pin = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline(_LONGEST_PIN).strip()
    try:
        block, _ = LinkKeys(target.pin_key, pin_format=target.pin_format).pin_block(pin, pan_of(message))
        message.elements[52] = block.hex().upper()
    except PinBlockError as error:
        raise UsageError(str(error), "give 4 to 12 digits and DE 2") from None


def _show(message: Message, unmasked: bool, title: str, version: str) -> None:
    from rich.console import Console

    Console(highlight=False).print(message_table(message, unmasked, title, carried=version))
