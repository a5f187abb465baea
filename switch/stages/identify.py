"""Stage 2: the HSM verifies the MAC and turns the card number into a reference.

A screened `Request` goes in; its `card` (token, fingerprint, masked PAN, BIN) is filled in, or a `Decline` comes out.
"""

from __future__ import annotations

from hsm.commands import Hsm, HsmRefused, HsmUnavailable, Screen
from messages.card import pan_of
from messages.card_numbers import SHORTEST
from messages.message import Message
from messages.mti import is_management
from switch.links.mac import AWAY, MISSING, WRONG
from switch.message_set import COMPARING, WITH_CARD
from switch.stages.network_token import network_token_use
from switch.stages.request import Decline, Request

# Refusals of the HSM, as DE 39. Source: ISO 8583:1987 DE 39; 54 expired, 57 not permitted to cardholder, 62 restricted
# card, 63 security violation.
REFUSALS: dict[str, str] = {
    "mac_invalid": "63",
    "pin_block_invalid": "55",
    "card_unknown": "14",
    "pan_invalid": "14",
    "network_token_unknown": "14",
    "network_token_deleted": "14",
    "network_token_suspended": "62",
    "network_token_expired": "54",
    "domain_restricted": "57",
    "cryptogram_invalid": "63",
    "cryptogram_replayed": "63",
    "key_unknown": "96",
    "key_usage": "96",
    "not_permitted": "96",
    "overloaded": "96",
    "expired": "96",
    "malformed": "30",
}


# The vault has erased the card that is only compared, or never had it. Its payment must still come to an end.
ERASED = frozenset({"card_unknown", "network_token_unknown", "network_token_deleted"})
# Refusals of a card: the hsm looks at it once the MAC is right.
AFTER_MAC = ERASED | {
    "pan_invalid", "network_token_suspended", "network_token_expired", "domain_restricted", "cryptogram_invalid",
    "cryptogram_replayed",
}  # fmt: skip


async def identify(request: Request, hsm: Hsm, leading: int = 0) -> Decline | None:
    """Verify the MAC and, where the kind needs one, identify the card; where it only compares one, its fingerprint.

    Args:
        leading: number of its first digits that routing needs, where these are more than everybody may see.
    """
    if request.kind in COMPARING:
        return await _asked(request, hsm, compared_pan(request.message), compare=True)
    return await _asked(request, hsm, pan_of(request.message) if request.kind in WITH_CARD else "", leading)


def compared_pan(message: Message) -> str:
    """The card number of a follow-up; "" where it has none, or one that is blank, masked or cut."""
    pan = pan_of(message)
    return pan if pan.isascii() and pan.isdigit() and len(pan) >= SHORTEST and pan.strip("0") else ""


async def authenticate(request: Request, hsm: Hsm) -> Decline | None:
    """Verify the MAC alone: unauthenticated senders learn nothing about the fault of their message."""
    return await _asked(request, hsm, "")


async def _asked(request: Request, hsm: Hsm, pan: str, leading: int = 0, *, compare: bool = False) -> Decline | None:
    link, message = request.link, request.message
    mac = None
    if is_management(message.mti):  # cut-overs are verified by `Reception`
        request.proved = True
    elif link.mac_key:
        mac = request.session.mac.check(message, request.frame)
        if mac is None:
            request.session.mac.failed(message.mti, request.session.peer, MISSING)
            request.session.distrust(MISSING)
            return Decline("63", MISSING, "DE 64 or DE 128 at the end of the message is needed on this link")
    if mac is None and not pan:
        return None
    command = Screen(
        pan=pan,
        expiry=_expiry(request),
        surrogate=link.surrogate,
        leading=leading,
        mac=mac,
        network_token=network_token_use(request) if pan and not compare else None,
        trace_id=request.trace_id,
        compare=compare,
    )
    try:
        request.card = await hsm.screen(command)
    except HsmRefused as refused:
        request.proved = request.proved or refused.code in AFTER_MAC
        if compare and refused.code in ERASED:
            if mac is not None:
                request.session.believe()
            return None
        if refused.code == WRONG:
            request.session.mac.failed(message.mti, request.session.peer, WRONG)
            request.session.distrust(WRONG)
        return Decline("96", AWAY, refused.detail) if refused.code == "overloaded" else refusal(refused)
    except HsmUnavailable:
        return Decline("96", AWAY)
    if mac is not None:
        request.session.believe()
        request.proved = True
    return None


def refusal(refused: HsmRefused) -> Decline:
    """A refusal of the HSM as a decline."""
    return Decline(REFUSALS.get(refused.code, "96"), f"hsm_{refused.code}", refused.detail)


def _expiry(request: Request) -> str:
    """YYMM from DE 14, else from track 2. Source: ISO/IEC 7813 6.2."""
    elements = request.message.elements
    if 14 in elements:
        return elements[14]
    _, separator, rest = elements.get(35, "").replace("D", "=").partition("=")
    expiry = rest[:4]
    return expiry if separator and len(expiry) == 4 and expiry.isdecimal() else ""
