"""Messages received on the connections of a link: MAC verified, paired, answered or handed on.

Acquirer ports and issuer lines own one each. Where the link has a MAC key, the MAC is verified before any other use of
a message: a message with a wrong MAC answers nothing, and a request is answered with DE 39 = 63.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from hsm.commands import HsmRefused, HsmUnavailable
from messages.errors import DecodeError, EncodeError
from messages.exchange import pairing_key
from messages.message import Message
from messages.mti import is_management, is_response
from messages.rules import echo_problem
from switch.links.mac import CUT_OVER, MISSING, WRONG, LinkMac
from switch.links.management import KEY_CHANGES, answer, refusal
from switch.meters import Meters
from switch.salvage import reason_element
from switch.stages.answer import APPROVING

if TYPE_CHECKING:
    from switch.links.key_exchange import KeyExchange
    from switch.links.session import Session

log = structlog.get_logger("switch.links.reception")

PAYING = "12"  # second digits of the MTIs whose answers approve or decline
MAX_DECLINED = 10_000  # keys kept of requests that the peer has declined, for approvals that follow
ABSENT = object()


class Reception:
    """Sorts the messages of one link in one worker.

    Args:
        serve: takes requests that are no network management, and cut-overs; must not wait.
        late: called for answers that nobody waits for.
        undecodable: called for frames whose type cannot be read.
        managed: called after each network management request.
        verify_requests: whether `serve` gets verified requests only; the pipeline verifies by itself, together with
            what else it asks of the HSM.
        echoes: whether the dialect says what answers carry back.
        stale: why a message is too old or too new; "" where it is fresh. Asked about what changes keys, and about all
            network management under a MAC: without one a replay needs no recording.
    """

    def __init__(
        self,
        mac: LinkMac,
        meters: Meters,
        *,
        serve: Callable[[Session, Message, bytes], None],
        late: Callable[[Message], None],
        undecodable: Callable[[Session, bytes, DecodeError], None],
        managed: Callable[[], None],
        verify_requests: bool,
        echoes: bool = False,
        stale: Callable[[Message], str] = lambda message: "",
    ) -> None:
        self.keys: KeyExchange | None = None  # takes the keys that the peer sends; None where there are none
        self._mac = mac
        self._meters = meters
        self._serve = serve
        self._late = late
        self._undecodable = undecodable
        self._managed = managed
        self._verify_requests = verify_requests
        self._echoes = echoes
        self._stale = stale
        self._declined: dict[tuple[str, ...], None] = {}  # requests of ours, by pairing key; oldest first

    def arrived(self, session: Session, message: Message, frame: bytes) -> None:
        """Take one message; must not wait."""
        mti = message.mti
        self._meters.count("received", self._mac.link, mti)
        try:
            covered = self._mac.covers(mti, message.elements.get(70, ""))
            verified_here = covered and (self._verify_requests or is_management(mti) or is_response(mti))
        except DecodeError as error:
            self._undecodable(session, frame, error)
            return
        if verified_here:
            self._start(session, self._verify, session, message, frame)
        else:
            self._take(session, message, frame)

    def _start(self, session: Session, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if not session.start(task, *arguments):
            self._meters.count("unanswered", "overloaded")

    async def _verify(self, session: Session, message: Message, frame: bytes) -> None:
        reason = await self._mac.problem(message, frame, session.peer)
        if not reason:
            session.believe()
            self._take(session, message, frame)
            return
        if reason in (MISSING, WRONG):
            session.distrust(reason)
        try:
            if reason not in (MISSING, WRONG) or is_response(message.mti):
                return  # the waiting task still waits; a request will be repeated
            told = refusal(message, {39: "63"})
        except DecodeError as error:
            self._undecodable(session, frame, error)
        else:
            self._send_bare(session, told, frame)

    def _send_bare(self, session: Session, message: Message, frame: bytes) -> None:
        """Nobody gets elements of his choice under our MAC: the answer to a message without a right one has none."""
        try:
            session.send(session.codec.encode(message), frame)
        except EncodeError:
            self._meters.count("unanswered", "not_expressible")

    def refuse(self, session: Session, message: Message, frame: bytes, told: dict[int, str]) -> None:
        """Answer a request that is not looked at, with DE 39 and the like; its type has an answer."""
        self._start(session, self._send, session, refusal(message, told), frame)

    def _take(self, session: Session, message: Message, frame: bytes) -> None:
        try:
            if is_response(message.mti):
                self._answered(session, message)
            elif is_management(message.mti) and message.elements.get(70) != CUT_OVER:
                self._manage(session, message, frame)
            else:
                self._serve(session, message, frame)
            if not self._mac.key:
                session.believe()
        except DecodeError as error:
            self._undecodable(session, frame, error)

    def _answered(self, session: Session, message: Message) -> None:
        key = pairing_key(message)
        if self._echoes:
            request = session.pending.request(key)
            problem = echo_problem(session.codec.dialect, request, message) if request is not None else None
            if problem is not None:  # an answer to something else: the waiting task still waits
                self._meters.count("answers_refused", self._mac.link)
                log.error(
                    "answer_refused", link=self._mac.link, peer=session.peer, mti=message.mti, element=problem.path,
                    reason=problem.reason,
                )  # fmt: skip
                return
        if not session.pending.answer(key, message):
            self._late(message)
        elif message.mti[1] in PAYING and message.elements.get(39) not in APPROVING:
            if len(self._declined) >= MAX_DECLINED:
                del self._declined[next(iter(self._declined))]
            self._declined[key] = None

    def was_declined(self, message: Message) -> bool:
        """Whether an answer that nobody waits for follows a decline of the same request; True once."""
        return self._declined.pop(pairing_key(message), ABSENT) is not ABSENT

    def _manage(self, session: Session, message: Message, frame: bytes) -> None:
        changes_keys = self.keys is not None and message.elements.get(70) in KEY_CHANGES
        if (changes_keys or self._mac.covers(message.mti)) and (why := self._stale(message)):
            log.error("management_refused", link=self._mac.link, peer=session.peer, mti=message.mti, reason=why)
            self.refuse(session, message, frame, {39: "30", **reason_element(session.codec.dialect, why)})
            return
        if changes_keys:
            self._start(session, self._exchange_key, session, message, frame)
            return
        told = answer(session, message)
        if self._mac.covers(told.mti):
            self._start(session, self._send, session, told, frame)
        else:
            session.send(session.codec.encode(told), frame)
        self._managed()

    async def _exchange_key(self, session: Session, message: Message, frame: bytes) -> None:
        assert self.keys is not None
        told = await self.keys.answer(message)
        if told is not None:
            await self._send(session, told, frame)

    async def _send(self, session: Session, message: Message, frame: bytes) -> None:
        try:
            session.send(await self._mac.sealed(message), frame)
        except (HsmRefused, HsmUnavailable):
            self._meters.count("unanswered", "mac")
        except EncodeError as error:
            self._meters.count("failures", "answer_encoding")
            log.error("answer_not_expressible", link=self._mac.link, mti=message.mti, error=str(error))
