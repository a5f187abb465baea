"""The link state table."""

from __future__ import annotations

import itertools

import pytest

from switch.links.state import TRANSITIONS, LinkEvent, LinkState, after, carries_traffic, states_table


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


def test_an_operator_s_suspension_keeps_where_the_peer_stands() -> None:
    """Sign-on and sign-off during suspension take effect on resume."""
    for signed in (LinkState.SIGNED_ON, LinkState.SIGNED_OFF):
        for meanwhile in itertools.product((LinkEvent.SIGNED_ON, LinkEvent.SIGNED_OFF, LinkEvent.SUSPEND), repeat=3):
            free, held = signed, after(signed, LinkEvent.SUSPEND)
            for event in meanwhile:
                free = free if event is LinkEvent.SUSPEND else after(free, event)
                held = after(held, event)
                assert not carries_traffic(held)
            assert after(held, LinkEvent.RESUME) is free


def test_every_event_of_the_table_leads_somewhere_and_nothing_leads_to_connecting() -> None:
    assert {event for _, event in TRANSITIONS} == set(LinkEvent)
    assert set(TRANSITIONS.values()) == set(LinkState) - {LinkState.CONNECTING}


@pytest.mark.parametrize("event", [event for event in LinkEvent if event is not LinkEvent.LOST])
def test_a_link_that_drains_keeps_draining(event: LinkEvent) -> None:
    assert after(LinkState.DRAINING, event) is LinkState.DRAINING


def test_the_rendered_table_has_every_transition() -> None:
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in states_table().splitlines()]
    events = rows[0][1:]
    shown = {
        (row[0], event): row[0] if cell == "–" else cell
        for row in rows[2:]
        for event, cell in zip(events, row[1:], strict=True)
    }
    assert shown == {(str(state), str(event)): str(after(state, event)) for state in LinkState for event in LinkEvent}
