"""Places for connections: admission, eviction, and that counts come back to zero."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.places import EXTENSION, Place, PlacedRequest, Places, _Idle, identify
from web.refusals import Refused


class Hall:
    """Places whose closed connections are noted by name."""

    def __init__(self, **limits: int) -> None:
        self.registry = CollectorRegistry()
        self.places = Places(HttpConfig(**limits), HttpMetrics("test", self.registry))
        self.closed: list[str] = []

    def take(self, name: str, address: str = "a", limited: bool = True) -> Place:
        return self.places.take(address, lambda: self.closed.append(name), limited=limited)

    def served(self, name: str, account: str, address: str = "a") -> tuple[Place, PlacedRequest]:
        """A connection with a request of `account` in progress."""
        place = self.take(name, address)
        request = place.begin_request()
        request.identify(account)
        request.received()
        return place, request

    def refused(self, address: str = "z") -> str:
        with pytest.raises(Refused) as refused:
            self.take("refused", address)
        return refused.value.reason


def test_the_oldest_silent_connection_of_an_address_makes_room() -> None:
    hall = Hall(connections_per_address=2, max_connections=10)
    for name in ("1", "2", "3", "4"):
        hall.take(name)
    hall.take("5", "b")
    assert hall.closed == ["1", "2"] and len(hall.places) == 3


def test_a_flood_of_one_address_closes_its_own_connections_first() -> None:
    hall = Hall(connections_per_address=4, max_connections=5)
    innocent = hall.take("innocent", "b")
    for number in range(100):
        hall.take(str(number))
    assert "innocent" not in hall.closed
    innocent.begin_request()


def test_a_flood_of_many_addresses_closes_no_connection_with_a_key() -> None:
    hall = Hall(max_connections=10)
    _, request = hall.served("innocent", "acct_1", "b")
    request.end()
    for number in range(100):
        hall.take(str(number), f"a{number}")
    assert "innocent" not in hall.closed and len(hall.places) == 10


def test_the_address_with_most_silent_connections_loses_one_first() -> None:
    hall = Hall(max_connections=4)
    for name, address in (("innocent", "b"), ("1", "a"), ("2", "a"), ("3", "a"), ("new", "c")):
        hall.take(name, address)
    assert hall.closed == ["1"]


def test_where_all_have_keys_the_account_with_most_idle_ones_loses_one() -> None:
    hall = Hall(max_connections=3)
    for name, account in (("innocent", "acct_1"), ("1", "acct_2"), ("2", "acct_2")):
        hall.served(name, account)[1].end()
    hall.take("new", "c").begin_request().received()
    assert hall.closed == ["1"]


def test_a_slow_request_without_a_key_makes_room_and_one_that_is_served_does_not() -> None:
    hall = Hall(max_connections=2)
    hall.take("slow", "b").begin_request()
    answered = hall.take("answered", "c").begin_request()
    answered.received()
    hall.take("new", "d")
    assert hall.closed == ["slow"]
    hall.take("newer", "e").begin_request().received()
    assert hall.closed == ["slow", "new"]
    assert hall.refused() == "overloaded"
    answered.end()
    hall.take("newest", "f")
    assert hall.closed == ["slow", "new", "answered"]


def test_connections_of_an_address_that_are_all_served_are_its_limit() -> None:
    hall = Hall(connections_per_address=1, max_connections=10)
    hall.take("1").begin_request().received()
    assert hall.refused("a") == "address_connections"


def test_a_key_frees_the_place_of_the_address_and_counts_for_the_account() -> None:
    hall = Hall(connections_per_address=1, connections_per_account=2, max_connections=10)
    requests = [hall.served(str(number), "acct_1")[1] for number in range(2)]
    assert hall.closed == []
    place = hall.take("3")
    with pytest.raises(Refused) as refused:
        place.begin_request().identify("acct_1")
    assert refused.value.reason == "account_connections"
    requests[0].end()
    place.begin_request().identify("acct_1")
    assert hall.closed == ["0"]
    hall.take("4").begin_request().identify("acct_2")  # another account has places of its own


def test_requests_of_an_account_are_limited_until_the_application_is_done() -> None:
    hall = Hall(requests_per_account=2)
    place, first = hall.served("1", "acct_1")
    hall.served("2", "acct_1")
    place.leave()  # a client that hangs up does not get a place for another request by it
    with pytest.raises(Refused) as refused:
        hall.served("3", "acct_1")
    assert refused.value.reason == "account_requests"
    hall.served("4", "acct_2")
    first.end()
    hall.served("5", "acct_1")


def test_a_proxy_has_no_limit_of_an_address_or_account() -> None:
    hall = Hall(connections_per_address=1, connections_per_account=1)
    for number in range(5):
        hall.take(str(number), limited=False).begin_request().identify("acct_1")
    assert hall.closed == [] and len(hall.places) == 5


def test_the_gauge_says_how_many_have_a_key() -> None:
    hall = Hall()
    place, _ = hall.served("1", "acct_1")
    hall.take("2")

    def value(key: str) -> float | None:
        return hall.registry.get_sample_value("test_http_connections", {"key": key})

    assert (value("known"), value("none")) == (1, 1)
    place.leave()
    place.leave()
    assert (value("known"), value("none")) == (0, 1)


def test_without_a_place_nothing_is_counted() -> None:
    identify({}, "acct_1")
    identify({"extensions": {}}, "acct_1")
    hall = Hall(requests_per_account=1)
    identify({"extensions": {EXTENSION: hall.take("1").begin_request()}}, "acct_1")
    with pytest.raises(Refused):
        identify({"extensions": {EXTENSION: hall.take("2").begin_request()}}, "acct_1")


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from("xy")), max_size=60))
def test_limits_hold_and_counts_end_at_zero_whatever_happens(steps: list[tuple[int, str, str]]) -> None:
    hall = Hall(max_connections=4, connections_per_address=3, connections_per_account=2, requests_per_account=2)
    places: list[Place] = []
    requests: list[PlacedRequest] = []
    for step, address, account in steps:
        try:
            if step == 0 or not places:
                places.append(hall.take("c", address))
            elif step == 1:
                requests.append(places[-1].begin_request())
            elif step == 2 and requests:
                requests[-1].identify(account)
            elif step == 3 and requests:
                requests[-1].received()
            elif step == 4 and requests:
                requests.pop(0).end()
            elif step == 5:
                places.pop(0).leave()
        except Refused:
            pass
        assert len(hall.places) <= 4
        assert all(count <= 3 for count in hall.places._of_address.values())
        assert all(count <= 2 for count in hall.places._of_account.values())
        assert all(count <= 2 for count in hall.places._requests.values())
    for request in requests:
        request.end()
    for place in places:
        place.leave()
    for place in list(hall.places._open):
        place.leave()
    empty: Counter[str] = Counter()
    assert hall.places._of_address == hall.places._of_account == hall.places._requests == empty
    for idle in (hall.places._idle_keyless, hall.places._idle_known):
        assert not idle._by_owner and not idle._owners and idle._most == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 5)), max_size=80))
def test_room_is_made_by_an_owner_that_has_most(steps: list[tuple[bool, str, int]]) -> None:
    """Without a look at all owners, of which a flood can have thousands."""
    idle, hall = _Idle(), Hall()
    places = {(owner, number): hall.take(f"{owner}{number}") for owner in "abcd" for number in range(6)}
    kept: dict[str, list[Place]] = {}
    for added, owner, number in steps:
        place = places[owner, number]
        mine = kept.setdefault(owner, [])
        if added:
            idle.add(owner, place)
            mine += [place] if place not in mine else []
        else:
            idle.discard(owner, place)
            mine[:] = [other for other in mine if other is not place]
        most = max(len(found) for found in kept.values())
        first = {found[0] for found in kept.values() if len(found) == most and found}
        assert (idle.oldest_of_largest() in first) if most else idle.oldest_of_largest() is None
