"""Network management: sign-on, sign-off and echo (0800/0810) on a session.

Links call `sign_on`, `sign_off` and `watch` on their sessions, and `answer` for what the peer starts. Keys are
exchanged by `switch.links.key_exchange`; a cut-over is a matter of the books and goes the way of a request.

Source: ISO 8583:1987 4.4.9 and DE 70 (001 sign-on, 002 sign-off, 101 key change, 201 cut-over, 301 echo test).
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import trio

from hsm.commands import HsmRefused, HsmUnavailable
from messages import translation
from messages.exchange import de7
from messages.key_change import KEY_CHANGE
from messages.message import Message
from messages.mti import response_mti
from switch.clock import Clock
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.session import Session
from switch.links.state import LinkEvent

SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"
KEY_CHANGES = frozenset({KEY_CHANGE})

# DE 70 → what it does to the state of the session that it came through.
EFFECTS: dict[str, LinkEvent | None] = {
    SIGN_ON: LinkEvent.SIGNED_ON,
    SIGN_OFF: LinkEvent.SIGNED_OFF,
    ECHO: None,
}
AGREED = "00"
SOON_S = 0.001  # no use in sleeping less
ECHOED = (7, 11, 32, 33, 41, 70, *translation.ECHOED)


def stans() -> Iterator[str]:
    """System trace numbers for network management: their MTI keeps them apart from those of payments."""
    return (f"{number % 999_999 + 1:06d}" for number in itertools.count())


def management_request(code: str, stan: str, clock: Clock) -> Message:
    return Message("0800", {7: de7(clock.now()), 11: stan, 70: code})


async def asked(session: Session, code: str, stan: str, clock: Clock, timeout_s: float) -> str:
    """Send a request of ours; DE 39 of its answer, "" where none comes in time or nothing could be sent."""
    try:
        request = management_request(code, stan, clock)
        answer = await session.exchange(request, trio.current_time() + timeout_s)
    except (ExchangeLost, LinkUnavailable, HsmRefused, HsmUnavailable):
        return ""  # the last two: no MAC for the request
    if code == ECHO:
        session.echoed_at = trio.current_time()
    return answer.elements.get(39, "")


async def sign_on(session: Session, stan: str, clock: Clock, timeout_s: float) -> str:
    """Sign on to the peer; DE 39 of its answer as for `asked`. With 00 the session carries traffic."""
    code = await asked(session, SIGN_ON, stan, clock, timeout_s)
    if code == AGREED:
        session.moved(LinkEvent.SIGNED_ON)
    return code


async def sign_off(session: Session, stan: str, clock: Clock, timeout_s: float) -> str:
    """Sign off; DE 39 of the answer as for `asked`. In any case, the session carries no traffic from now on."""
    session.moved(LinkEvent.SIGNED_OFF)
    return await asked(session, SIGN_OFF, stan, clock, timeout_s)


async def echo(session: Session, stan: str, clock: Clock, timeout_s: float) -> str:
    """Send an echo; DE 39 of the answer as for `asked`."""
    return await asked(session, ECHO, stan, clock, timeout_s)


class Told(NamedTuple):
    """The peer's answer to network management of ours on one connection.

    Args:
        code: DE 39; "" where no answer came.
        elapsed_s: until then.
        state: of the connection, after that.
    """

    peer: str
    code: str
    elapsed_s: float
    state: str


Ask = Callable[[Session, str, Clock, float], Awaitable[str]]
"""`sign_on`, `sign_off` or `echo`."""


async def on_each(
    sessions: Sequence[Session], ask: Ask, numbers: Iterator[str], clock: Clock, timeout_s: float
) -> list[Told]:
    """Ask on several connections at once."""
    told: list[Told] = []

    async def one(session: Session) -> None:
        begun = trio.current_time()
        code = await ask(session, next(numbers), clock, timeout_s)
        told.append(Told(session.peer, code, trio.current_time() - begun, str(session.state)))

    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(one, session)
    return told


async def watch(
    session: Session,
    numbers: Iterator[str],
    clock: Clock,
    idle_s: float,
    timeout_s: float,
    missed_limit: int,
    on_missed: Callable[[], None],
) -> None:
    """Send an echo whenever the peer was silent for `idle_s`; close the session after `missed_limit` in a row that
    nobody answered. Runs until the session is closed."""
    missed = 0
    while session.open:
        left_s = session.heard_at + idle_s - trio.current_time()
        if missed == 0 and left_s > SOON_S:
            await trio.sleep(left_s)
            continue
        try:
            request = management_request(ECHO, next(numbers), clock)
            await session.exchange(request, trio.current_time() + timeout_s)
            missed = 0
            session.echoed_at = trio.current_time()
        except (LinkUnavailable, HsmRefused, HsmUnavailable):
            await trio.sleep(timeout_s)  # the table is full or there is no MAC: the peer is not to blame, look again
        except ExchangeLost:
            missed += 1
            on_missed()
            if missed >= missed_limit:
                session.close(f"{missed} echoes in a row were not answered")


def answer(session: Session, request: Message) -> Message:
    """Obey an 0800 and make its 0810; an unknown DE 70 is answered 12."""
    code = request.elements.get(70, "")
    if code in EFFECTS:
        response_code = "00"
        effect = EFFECTS[code]
        if effect is not None:
            session.moved(effect)
    else:
        response_code = "12"
    return management_answer(request, {39: response_code})


def management_answer(request: Message, told: dict[int, str]) -> Message:
    """The 0810 (or 0830) to a request: echoed elements, and those of the reply, DE 39 included."""
    elements = {number: request.elements[number] for number in ECHOED if number in request.elements}
    elements.update(told)
    return Message("0810" if request.mti[2] == "0" else "0830", elements)


def refusal(request: Message, told: dict[int, str]) -> Message:
    """The answer to a request of any type that is not looked at: the elements that identify it, and those of the reply,
    DE 39 included.

    Raises:
        DecodeError: its type has no answer.
    """
    elements = {number: request.elements[number] for number in ECHOED if number in request.elements}
    elements.update(told)
    return Message(response_mti(request.mti), elements)
