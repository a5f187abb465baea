"""The link state table."""

from __future__ import annotations

import pytest

from switch.links.state import LinkEvent, LinkState, after, carries_traffic


def test_only_a_signed_on_link_carries_traffic() -> None:
    assert [state for state in LinkState if carries_traffic(state)] == [LinkState.SIGNED_ON]


def test_a_link_comes_up_and_goes_down() -> None:
    state = LinkState.CONNECTING
    for event, expected in (
        (LinkEvent.SIGNED_ON, LinkState.CONNECTING),  # not before it is connected
        (LinkEvent.CONNECTED, LinkState.SIGNED_OFF),
        (LinkEvent.SIGNED_ON, LinkState.SIGNED_ON),
        (LinkEvent.SIGNED_OFF, LinkState.SIGNED_OFF),
        (LinkEvent.SIGNED_ON, LinkState.SIGNED_ON),
        (LinkEvent.DRAIN, LinkState.DRAINING),
        (LinkEvent.SIGNED_ON, LinkState.DRAINING),
        (LinkEvent.LOST, LinkState.CLOSED),
    ):
        state = after(state, event)
        assert state is expected


@pytest.mark.parametrize("event", list(LinkEvent))
def test_nothing_reopens_a_closed_link(event: LinkEvent) -> None:
    assert after(LinkState.CLOSED, event) is LinkState.CLOSED


@pytest.mark.parametrize("state", list(LinkState))
def test_every_state_can_be_lost(state: LinkState) -> None:
    assert after(state, LinkEvent.LOST) is LinkState.CLOSED
