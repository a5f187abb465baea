"""Stage 6a: the HSM makes a request ready for its issuer: card number, PIN block, MAC.

The acquirer's request and the intent go in; the issuer's message comes out, encoded where it has its MAC already. One
command does it all where the message can be written with holes; otherwise the MAC is a command of its own.
"""

from __future__ import annotations

import contextlib

import msgspec

from hsm.commands import Dispatch, Dispatched, Hsm, MacTemplate
from ledger.journal import StoredIntent, network_stan
from messages.card import pan_of
from messages.charsets import TO_LATIN
from messages.dialect import Element
from messages.exchange import de7
from messages.message import Message
from messages.one_card import without_card
from switch.links.issuer_line import IssuerLine
from switch.links.session import Session
from switch.pin_rules import pin_block_bytes
from switch.stages.request import Decline, Request

# Elements that go on to the issuer as they came; those above 1000 are what 1993 has there and 1987 has not. DE 2, 7,
# 11, 14, 35, 52 and 90 have rules of their own.
FORWARDED = (3, 4, 12, 13, 18, 22, 23, 25, 32, 33, 37, 41, 42, 43, 48, 49, 54, 55, 1012, 1022)
# Encodings of DE 2 that the HSM can fill in, with the pad of an odd number of digits. See `MacTemplate`.
PAN_ENCODINGS = {
    ("ascii", ""): "ascii",
    ("bcd", "left 0"): "bcd",
    **{(page, ""): "ebcdic" for page in TO_LATIN},  # digits are the same in all of them
}
PIN_ENCODINGS = {"binary": False, "hex": True}  # of DE 52, and whether that is hexadecimal for the HSM
KSN_BYTES = (10, 12)  # TDES DUKPT, AES DUKPT. Source: ANSI X9.24-1:2009 and X9.24-3:2017


class Outward(msgspec.Struct, frozen=True):
    """A message for the issuer; `payload` is it encoded and under its MAC, None where that is still to be done."""

    message: Message
    payload: bytes | None


async def dispatch(
    request: Request, stored: StoredIntent, line: IssuerLine, session: Session, hsm: Hsm
) -> Outward | Decline:
    """Make the issuer's message.

    Raises:
        HsmRefused, HsmUnavailable: no card number, PIN block or MAC to be had.
        EncodeError: the issuer's dialect cannot carry it.
    """
    if not needs_dispatch(request):
        return Outward(issuer_message(request, stored, None, line.trace_element), None)
    command = _command(request, line)
    if isinstance(command, Decline):
        return command
    template = _template(request, stored, line, session) if session.mac.key else None
    if template is not None:
        command = msgspec.structs.replace(command, mac=template)
    dispatched = await hsm.dispatch(command)
    message = issuer_message(request, stored, dispatched, line.trace_element)
    if template is None or not dispatched.mac:
        return Outward(message, None)
    encoded, covered = session.mac.unsealed(message)
    if len(covered) != len(template.data) or len(dispatched.pan) != len(request.card.masked_pan):
        return Outward(message, None)  # the HSM's value has another length than expected
    return Outward(message, session.codec.replace_mac(encoded, dispatched.mac))


def needs_dispatch(request: Request) -> bool:
    """A clear PAN without a PIN needs no help from the HSM on the way out."""
    return request.link.surrogate or 52 in request.message.elements or by_network_token(request)


def by_network_token(request: Request) -> bool:
    """Whether DE 2 is a network token: the card that the HSM found behind it begins otherwise."""
    return not (request.link.surrogate or pan_of(request.message).startswith(request.card.masked_pan[:6]))


def issuer_message(
    request: Request, stored: StoredIntent, dispatched: Dispatched | None, trace_element: int | None
) -> Message:
    """The request as the issuer sees it: our DE 7 and DE 11, the true card number, the PIN under the issuer's key.

    Args:
        dispatched: from the HSM; None where the acquirer's own DE 2 and 14 go on.
    """
    given = request.message.elements
    intent = stored.intent
    elements = {number: given[number] for number in FORWARDED if number in given}
    elements[7] = de7(intent.created_at)
    elements[11] = network_stan(stored.intent_id)
    if request.reference:
        elements[90] = request.reference
    if dispatched is None:
        elements[2] = pan_of(request.message)
        for number in (14, 35):
            if number in given:
                elements[number] = given[number]
    else:
        elements[2] = dispatched.pan
        # The date, the track and the number in the chip data that came with a network token are the token's.
        token = by_network_token(request)
        if token and 55 in elements:
            chip = without_card(elements.pop(55))
            if chip:
                elements[55] = chip
        if expiry := dispatched.expiry if token else given.get(14) or dispatched.expiry:
            elements[14] = expiry
        if 35 in given and not request.link.surrogate and not token:
            elements[35] = given[35]
        if dispatched.pin_block:
            elements[52] = dispatched.pin_block.hex().upper()
    if trace_element is not None:
        elements[trace_element] = request.trace_id
    return Message(intent.mti, elements)


def _command(request: Request, line: IssuerLine) -> Dispatch | Decline:
    """The HSM's command without the MAC."""
    link, elements = request.link, request.message.elements
    pin_block = elements.get(52, "")
    if not pin_block:
        return Dispatch(token=request.card.token, trace_id=request.trace_id)
    if not (link.pin_key and line.pin_key):
        return Decline("57", "pin_not_served", "one of the two links has no PIN key")
    ksn = b""
    if link.ksn_element is not None:
        with contextlib.suppress(ValueError):
            ksn = bytes.fromhex(elements.get(link.ksn_element, ""))
        if len(ksn) not in KSN_BYTES:
            return Decline("30", "ksn_missing", f"DE {link.ksn_element} must be the KSN, 20 or 24 hexadecimal digits")
    return Dispatch(
        token=request.card.token,
        pin_block=bytes.fromhex(pin_block),
        pin_key_in=link.pin_key,
        pin_key_out=line.pin_key,
        pin_format_in=link.pin_format,
        pin_format_out=line.link.pin_format,
        ksn=ksn,
        trace_id=request.trace_id,
    )


def _template(request: Request, stored: StoredIntent, line: IssuerLine, session: Session) -> MacTemplate | None:
    """The message with holes for what only the HSM knows yet; None where it cannot be written so.

    Raises:
        EncodeError: the issuer's dialect cannot carry it.
    """
    codec = session.codec
    known = codec.dialect.elements
    hidden = request.link.surrogate
    encoding = _pan_encoding(known.get(2))
    if 14 not in request.message.elements or (hidden and encoding is None) or by_network_token(request):
        return None  # the vault may know an expiry date, and there is no hole for one
    if 52 in request.message.elements and known[52].encoding not in PIN_ENCODINGS:
        return None
    pan = "0" * len(request.card.masked_pan) if hidden else pan_of(request.message)
    pin = bytes(pin_block_bytes(line.link.pin_format)) if 52 in request.message.elements else b""
    message = issuer_message(request, stored, Dispatched(pan=pan, pin_block=pin), line.trace_element)
    return MacTemplate(
        key=session.mac.key,
        data=session.mac.unsealed(message)[1],
        pan_at=_offset(session, message, 2) if hidden else -1,
        pan_encoding=encoding or "ascii",
        pin_at=_offset(session, message, 52) if pin else -1,
        pin_hex=bool(pin) and PIN_ENCODINGS[known[52].encoding],
    )


def _pan_encoding(element: Element | None) -> str | None:
    return PAN_ENCODINGS.get((element.encoding, element.pad)) if element is not None else None


def _offset(session: Session, message: Message, number: int) -> int:
    """In the message with its MAC, whose element may be the one that calls for a second bitmap."""
    return session.codec.offset(session.mac.with_mac(message), number)
