"""The states of a link, as a table.

A session (one connection of a link) holds one state and moves by `after`; the worker asks only `carries_traffic`.
"""

from __future__ import annotations

from enum import StrEnum


class LinkState(StrEnum):
    CONNECTING = "connecting"
    SIGNED_OFF = "signed_off"
    SIGNED_ON = "signed_on"
    DRAINING = "draining"  # no new request; what is in flight may end
    CLOSED = "closed"


class LinkEvent(StrEnum):
    CONNECTED = "connected"
    SIGNED_ON = "signed_on"  # DE 70 = 001 accepted, by them or by us
    SIGNED_OFF = "signed_off"  # DE 70 = 002
    DRAIN = "drain"
    LOST = "lost"


TRANSITIONS: dict[tuple[LinkState, LinkEvent], LinkState] = {
    (LinkState.CONNECTING, LinkEvent.CONNECTED): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_OFF, LinkEvent.SIGNED_ON): LinkState.SIGNED_ON,
    (LinkState.SIGNED_OFF, LinkEvent.SIGNED_OFF): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_OFF, LinkEvent.DRAIN): LinkState.DRAINING,
    (LinkState.SIGNED_ON, LinkEvent.SIGNED_ON): LinkState.SIGNED_ON,
    (LinkState.SIGNED_ON, LinkEvent.SIGNED_OFF): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_ON, LinkEvent.DRAIN): LinkState.DRAINING,
    # A link that drains keeps draining, whatever the peer says.
    (LinkState.DRAINING, LinkEvent.SIGNED_ON): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.SIGNED_OFF): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.DRAIN): LinkState.DRAINING,
    (LinkState.CONNECTING, LinkEvent.LOST): LinkState.CLOSED,
    (LinkState.SIGNED_OFF, LinkEvent.LOST): LinkState.CLOSED,
    (LinkState.SIGNED_ON, LinkEvent.LOST): LinkState.CLOSED,
    (LinkState.DRAINING, LinkEvent.LOST): LinkState.CLOSED,
    (LinkState.CLOSED, LinkEvent.LOST): LinkState.CLOSED,
}


def after(state: LinkState, event: LinkEvent) -> LinkState:
    """The next state. An event that the table does not have for `state` changes nothing: the peer is out of step,
    which is no reason to fall over."""
    return TRANSITIONS.get((state, event), state)


def carries_traffic(state: LinkState) -> bool:
    """Whether new requests may pass."""
    return state is LinkState.SIGNED_ON
