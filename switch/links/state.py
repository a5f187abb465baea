"""The states of a link, as a table.

A session (one connection of a link) holds one state and moves by `after`; the worker asks only `carries_traffic`.
`docs/links.md` shows `states_table`.
"""

from __future__ import annotations

from enum import StrEnum


class LinkState(StrEnum):
    CONNECTING = "connecting"
    SIGNED_OFF = "signed_off"
    SIGNED_ON = "signed_on"
    SUSPENDED = "suspended"  # by an operator: signed on, echoes go on, no request passes
    SUSPENDED_OFF = "suspended_signed_off"  # the same, and signed off
    DRAINING = "draining"  # no new request; requests in flight may end
    CLOSED = "closed"


class LinkEvent(StrEnum):
    CONNECTED = "connected"
    SIGNED_ON = "signed_on"  # DE 70 = 001 accepted, by them or by us
    SIGNED_OFF = "signed_off"  # DE 70 = 002
    SUSPEND = "suspend"  # by an operator
    RESUME = "resume"
    DRAIN = "drain"
    LOST = "lost"


TRANSITIONS: dict[tuple[LinkState, LinkEvent], LinkState] = {
    (LinkState.CONNECTING, LinkEvent.CONNECTED): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_OFF, LinkEvent.SIGNED_ON): LinkState.SIGNED_ON,
    (LinkState.SIGNED_OFF, LinkEvent.SIGNED_OFF): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_OFF, LinkEvent.SUSPEND): LinkState.SUSPENDED_OFF,
    (LinkState.SIGNED_OFF, LinkEvent.DRAIN): LinkState.DRAINING,
    (LinkState.SIGNED_ON, LinkEvent.SIGNED_ON): LinkState.SIGNED_ON,
    (LinkState.SIGNED_ON, LinkEvent.SIGNED_OFF): LinkState.SIGNED_OFF,
    (LinkState.SIGNED_ON, LinkEvent.SUSPEND): LinkState.SUSPENDED,
    (LinkState.SIGNED_ON, LinkEvent.DRAIN): LinkState.DRAINING,
    # Sign-on and sign-off during suspension take effect on resume.
    (LinkState.SUSPENDED, LinkEvent.SIGNED_ON): LinkState.SUSPENDED,
    (LinkState.SUSPENDED, LinkEvent.SIGNED_OFF): LinkState.SUSPENDED_OFF,
    (LinkState.SUSPENDED, LinkEvent.SUSPEND): LinkState.SUSPENDED,
    (LinkState.SUSPENDED, LinkEvent.RESUME): LinkState.SIGNED_ON,
    (LinkState.SUSPENDED, LinkEvent.DRAIN): LinkState.DRAINING,
    (LinkState.SUSPENDED_OFF, LinkEvent.SIGNED_ON): LinkState.SUSPENDED,
    (LinkState.SUSPENDED_OFF, LinkEvent.SIGNED_OFF): LinkState.SUSPENDED_OFF,
    (LinkState.SUSPENDED_OFF, LinkEvent.SUSPEND): LinkState.SUSPENDED_OFF,
    (LinkState.SUSPENDED_OFF, LinkEvent.RESUME): LinkState.SIGNED_OFF,
    (LinkState.SUSPENDED_OFF, LinkEvent.DRAIN): LinkState.DRAINING,
    # A link that drains keeps draining, for any message of the peer.
    (LinkState.DRAINING, LinkEvent.SIGNED_ON): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.SIGNED_OFF): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.SUSPEND): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.RESUME): LinkState.DRAINING,
    (LinkState.DRAINING, LinkEvent.DRAIN): LinkState.DRAINING,
    **{(state, LinkEvent.LOST): LinkState.CLOSED for state in LinkState},
}


def after(state: LinkState, event: LinkEvent) -> LinkState:
    """The next state. An event that the table does not have for `state` changes nothing: the peer is out of step,
    which is no reason to fall over."""
    return TRANSITIONS.get((state, event), state)


def carries_traffic(state: LinkState) -> bool:
    """Whether new requests may pass."""
    return state is LinkState.SIGNED_ON


def states_table() -> str:
    """The table in Markdown: a row a state, a column an event; "–" where nothing changes."""
    rows = [["state", *(f"`{event}`" for event in LinkEvent)], ["---"] * (len(LinkEvent) + 1)]
    for state in LinkState:
        following = [after(state, event) for event in LinkEvent]
        rows.append([f"`{state}`", *("–" if new is state else f"`{new}`" for new in following)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
