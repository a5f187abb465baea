"""Places for connections: bounded in total, by address until a key is known, by account after. Pure bookkeeping.

`web.server` takes a place for each connection before the TLS handshake; the application says by `identify` whose key a
request shows. Where places are scarce, the connection closed first is one without a key that is idle or still
sends its request, of the address that has most of them; then an idle one of the account that has most. So a flood of
silent or slow connections makes room for clients that are served at once. A publishable key identifies nobody: every
visitor of the merchant's page has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.refusals import Refused

EXTENSION = "cardswitch.request"


class Place:
    """One connection; `close` ends it at once. Made by `Places.take`."""

    __slots__ = ("_places", "account", "address", "close", "limited", "requests")

    def __init__(self, places: Places, address: str, limited: bool, close: Callable[[], None]) -> None:
        self._places = places
        self.address = address
        self.limited = limited
        self.account: str | None = None
        self.requests = 0
        self.close = close

    def begin_request(self) -> PlacedRequest:
        """The head of a request is there and goes to the application."""
        return self._places.begin_request(self)

    def leave(self) -> None:
        """The connection is gone. May be called twice."""
        self._places.leave(self)


class PlacedRequest:
    """One request in progress. It may outlive its connection: the application goes on with what it has begun."""

    __slots__ = ("_places", "account", "place")

    def __init__(self, places: Places, place: Place) -> None:
        self._places = places
        self.place = place
        self.account: str | None = None

    def identify(self, account: str) -> None:
        """The request shows a valid key of `account`. Raises Refused where that one has too many in progress."""
        self._places.identify(self, account)

    def received(self) -> None:
        """The request is complete; its connection is not closed for another until it is answered."""
        self._places.received(self)

    def end(self) -> None:
        """The application is done with it. Called once."""
        self._places.end_request(self)


class Places:
    """All places of a server.

    Args:
        config: the limits. metrics: where closed connections are counted.
    """

    def __init__(self, config: HttpConfig, metrics: HttpMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._open: set[Place] = set()
        self._of_address: Counter[str] = Counter()
        self._of_account: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._idle_keyless = _Idle()
        self._idle_known = _Idle()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, address: str, close: Callable[[], None], *, limited: bool = True) -> Place:
        """Return a place for a new connection, after closing an idle one if that is needed.

        Args:
            address: the result of `web.addresses.client_name`.
            close: called to make room for another; must free the file descriptor soon.
            limited: False for a reverse proxy of ours, whose connections are many clients'.
        Raises:
            Refused: all places are busy with requests.
        """
        if (
            limited
            and self._of_address[address] >= self._config.connections_per_address
            and not self._evict(self._idle_keyless.oldest(address))
        ):
            raise Refused("address_connections")
        if len(self._open) >= self._config.max_connections and not self.make_room():
            raise Refused("overloaded")
        place = Place(self, address, limited, close)
        self._open.add(place)
        if limited:
            self._of_address[address] += 1
        self._idle_keyless.add(address, place)
        self._metrics.open_connections(len(self._open), self._known())
        return place

    def make_room(self) -> bool:
        """Close the connection that is missed least; False where all have a request in progress."""
        return self._evict(self._idle_keyless.oldest_of_largest() or self._idle_known.oldest_of_largest())

    def begin_request(self, place: Place) -> PlacedRequest:
        place.requests += 1
        if place.account is not None:
            self._forget_idle(place)
        return PlacedRequest(self, place)

    def received(self, request: PlacedRequest) -> None:
        if request.place.requests:
            self._forget_idle(request.place)

    def identify(self, request: PlacedRequest, account: str) -> None:
        if request.account == account:
            return
        try:
            self._identify(request, account)
        except Refused as refused:
            self._metrics.refused(refused.reason)
            raise

    def _identify(self, request: PlacedRequest, account: str) -> None:
        if self._requests[account] >= self._config.requests_per_account:
            raise Refused("account_requests")
        self._move(request.place, account)
        self._forget_idle(request.place)
        self._stop_working(request)
        self._requests[account] += 1
        request.account = account

    def end_request(self, request: PlacedRequest) -> None:
        self._stop_working(request)
        request.place.requests -= 1
        if request.place.requests == 0 and request.place in self._open:
            self._forget_idle(request.place)
            self._remember_idle(request.place)

    def leave(self, place: Place) -> None:
        if place not in self._open:
            return
        self._open.discard(place)
        self._forget_idle(place)
        if place.account is not None:
            _less(self._of_account, place.account)
        elif place.limited:
            _less(self._of_address, place.address)
        self._metrics.open_connections(len(self._open), self._known())

    def _move(self, place: Place, account: str) -> None:
        """Count the connection as the account's."""
        if place.account == account or place not in self._open:
            return
        self._forget_idle(place)
        if place.limited:
            if self._of_account[account] >= self._config.connections_per_account and not self._evict(
                self._idle_known.oldest(account)
            ):
                raise Refused("account_connections")
            if place.account is None:
                _less(self._of_address, place.address)
        if place.account is not None:
            _less(self._of_account, place.account)
        place.account = account
        self._of_account[account] += 1
        self._metrics.open_connections(len(self._open), self._known())

    def _evict(self, place: Place | None) -> bool:
        if place is None:
            return False
        self.leave(place)
        self._metrics.closed("made_room")
        place.close()
        return True

    def _known(self) -> int:
        return self._of_account.total()

    def _stop_working(self, request: PlacedRequest) -> None:
        if request.account is not None:
            _less(self._requests, request.account)
            request.account = None

    def _remember_idle(self, place: Place) -> None:
        if place.account is None:
            self._idle_keyless.add(place.address, place)
        else:
            self._idle_known.add(place.account, place)

    def _forget_idle(self, place: Place) -> None:
        self._idle_keyless.discard(place.address, place)
        if place.account is not None:
            self._idle_known.discard(place.account, place)


class _Idle:
    """Idle connections by owner, the longest idle first. Each operation takes the same time, however many there are."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[Place, None]] = {}
        self._owners: dict[int, dict[str, None]] = {}  # by how many they have, the first to have so many first
        self._most = 0

    def add(self, owner: str, place: Place) -> None:
        places = self._by_owner.setdefault(owner, {})
        before = len(places)
        places[place] = None
        self._count(owner, before, len(places))

    def discard(self, owner: str, place: Place) -> None:
        places = self._by_owner.get(owner)
        if places is not None and place in places:
            del places[place]
            self._count(owner, len(places) + 1, len(places))
            if not places:
                del self._by_owner[owner]

    def oldest(self, owner: str) -> Place | None:
        return next(iter(self._by_owner.get(owner, ())), None)

    def oldest_of_largest(self) -> Place | None:
        """Return the oldest of the owner with the most; of several such owners, that of the first to have so many."""
        owners = self._owners.get(self._most)
        return self.oldest(next(iter(owners))) if owners else None

    def _count(self, owner: str, before: int, now: int) -> None:
        """Move an owner from one count to the next."""
        if before == now:
            return
        if before:
            self._owners[before].pop(owner)
            if not self._owners[before]:
                del self._owners[before]
        if now:
            self._owners.setdefault(now, {})[owner] = None
        # Counts change by one, so the owner that had the most alone has the most still.
        if now > self._most or (before == self._most and before not in self._owners):
            self._most = now


def identify(scope: Mapping[str, Any], account: str) -> None:
    """Say for an ASGI request that it shows a valid key of `account`.

    Raises:
        Refused: the account has too many connections or requests in progress; `refusal` is what to answer.
    """
    request = scope.get("extensions", {}).get(EXTENSION)
    if request is not None:
        request.identify(account)


def _less(counts: MutableMapping[str, int], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
