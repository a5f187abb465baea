"""Limits of a link for a peer without proof of identity: a few frames, a few connections, and no more.

Anybody who reaches the port of a link can send bytes, and each costs work: a frame, a MAC to be verified, an answer, a
line in the log. A `Conduct` keeps what one connection has shown so far and says how long its next frame has to wait; an
`Admission` says whether one more connection of an address is taken. A connection whose MAC was right once is believed
from then on. A right MAC can be a recording, though: only a new request shows that the peer has the key. Until one has
come, and after a repeat, a connection has a few requests at once in the hands of the journal, and no more. Pure: every
method takes the time, in seconds on trio's clock.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

FREE_FRAMES = 3  # of a connection before anything is known about it; the others wait for the verdict on these, or
STRANGERS_PER_S, STRANGERS_BURST = 50.0, 10  # come one by one: frames of all unproven connections of a link
MANAGEMENT_BURST = 50  # network management that may come at once
REPEATS_PER_S, REPEATS_BURST = 20.0, 100  # messages of a connection that were there before
UNJUDGED = 4  # requests of a connection at once of which nobody knows yet whether they are new, until one was new
EMPTY_READS = 16  # in a row without a whole frame, from which on each counts as network management
CONNECTIONS_PER_S, CONNECTIONS_BURST = 10.0, 100  # new ones of an address; one without a place is closed at once
BAD_END = 5  # new connections of its address that one counts for which ended because of its bytes,
BAD_ENDS_S = 5.0  # and how long an address is refused at most for those that it had open at once
ACCEPTED_PER_S, ACCEPTED_BURST = 100.0, 10  # new ones of a link in all; others wait with the kernel
MAX_ADDRESSES = 10_000  # remembered; one without a connection goes first
PER_ADDRESS, RATE = "too_many_of_address", "too_fast"  # why a connection was not taken


class Pace:
    """So many a second and so many at once; further ones wait their turn.

    Args:
        per_s: 0 for no limit.
    """

    __slots__ = ("_burst_s", "_interval_s", "_next")

    def __init__(self, per_s: float, burst: float) -> None:
        self._interval_s = 1.0 / per_s if per_s else 0.0
        self._burst_s = burst * self._interval_s
        self._next = -math.inf

    def wait_s(self, now: float) -> float:
        """Take the next turn; time until it comes, 0 for at once."""
        self._next = max(self._next, now - self._burst_s) + self._interval_s
        return max(0.0, self._next - now)

    def free(self, now: float) -> bool:
        """Take a turn if there is one at once; whether that was so."""
        if max(self._next, now - self._burst_s) + self._interval_s > now:
            return False
        self.wait_s(now)
        return True

    def charge(self, turns: int, now: float, longest_s: float) -> None:
        """Take turns that nobody waits for; the next free one is `longest_s` away at most, unless it was before."""
        later = max(self._next, now - self._burst_s) + turns * self._interval_s
        self._next = max(self._next, min(later, now + longest_s))


class Conduct:
    """The record of one connection.

    Args:
        known: whether its peer is known from the start: we dialled it, TLS has verified it, or the link has no MAC, and
            so no way to distinguish peers.
        strangers: the turns of all unproven connections of the link.
        max_bad: bad frames in a row that end the connection; 0 for no such limit.
        management_per_s: network management a second; 0 for no limit.
    """

    __slots__ = (
        "_empty",
        "_frames",
        "_management",
        "_new",
        "_repeats",
        "_slow_until",
        "_strangers",
        "_unjudged",
        "bad",
        "believed",
        "max_bad",
    )

    def __init__(
        self,
        *,
        known: bool = True,
        strangers: Pace | None = None,
        max_bad: int = 0,
        management_per_s: float = 0.0,
    ) -> None:
        self.believed = known
        self.bad = 0  # in a row
        self.max_bad = max_bad
        self._strangers = strangers or Pace(0.0, 0)
        self._management = Pace(management_per_s, MANAGEMENT_BURST)
        self._repeats = Pace(REPEATS_PER_S, REPEATS_BURST)
        self._frames = 0
        self._empty = 0
        self._slow_until = 0.0
        self._unjudged = 0
        self._new = False  # whether the last request that was judged was new

    @property
    def watched(self) -> bool:
        """Whether the next frame may have to wait, for one of the reasons below; nearly never."""
        return not self.believed or self.bad > 0 or self._slow_until > 0 or self.crowded

    @property
    def crowded(self) -> bool:
        """Whether the next frame has to wait until a request is judged, because too many are not."""
        return self._unjudged >= UNJUDGED and not self._new

    def pause_s(self, now: float) -> float:
        """Time that the next frame has to wait because of repeats, for any verdict on other frames."""
        pause_s = max(0.0, self._slow_until - now)
        if pause_s == 0.0:
            self._slow_until = 0.0
        return pause_s

    def frame_wait_s(self, now: float) -> float:
        """Time that the next frame has to wait; 0 for a proven peer without bad frames since."""
        if self.believed and not self.bad:
            return 0.0
        self._frames += 1
        return 0.0 if self._frames <= FREE_FRAMES else self._strangers.wait_s(now)

    def believe(self) -> None:
        """The MAC of a message was right, or the message is as it should be on a link without one."""
        self.believed = True
        self.bad = self._frames = 0

    def distrust(self) -> bool:
        """A frame could not be read, or its MAC was missing or wrong; whether the connection has to end."""
        self.bad += 1
        return 0 < self.max_bad <= self.bad

    def read(self, frames: int, now: float) -> float:
        """Bytes have come that complete so many frames; time that the next ones have to wait."""
        if frames:
            self._empty = 0
            return 0.0
        self._empty += 1
        return self._management.wait_s(now) if self._empty > EMPTY_READS else 0.0

    def management_wait_s(self, now: float) -> float:
        """Time that a request of network management has to wait."""
        return self._management.wait_s(now)

    def taken(self) -> None:
        """A request is looked up in the journal; `judged` must follow."""
        self._unjudged += 1

    def judged(self, new: bool | None, now: float) -> None:
        """Whether a request that was taken is new, or was there before; None where that was not found out.

        Repeats have a pace of the connection's own. Where nothing new came in between, they may be recordings that a
        stranger sends, and have to keep to the pace of all strangers of the link, too.
        """
        self._unjudged -= 1
        if new is False:
            wait_s = self._repeats.wait_s(now)
            if not self._new:
                wait_s = max(wait_s, self._strangers.wait_s(now))
            if wait_s:
                self._slow_until = now + wait_s
        if new is not None:
            self._new = new


class _Address:
    __slots__ = ("connections", "pace")

    def __init__(self) -> None:
        self.connections = 0
        self.pace = Pace(CONNECTIONS_PER_S, CONNECTIONS_BURST)


class Admission:
    """The connections of a link that peers have made, by address.

    Args:
        per_address: open at once.
    """

    def __init__(self, per_address: int) -> None:
        self._per_address = per_address
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def refuse(self, peer: str, now: float) -> str:
        """Why a connection is not taken: `PER_ADDRESS` or `RATE`; "" where it is, and then `left` must follow."""
        key = address_key(peer)
        address = self._addresses.get(key)
        if address is None:
            self._forget()
            address = self._addresses[key] = _Address()
        self._addresses.move_to_end(key)
        if address.connections >= self._per_address:
            return PER_ADDRESS
        if not address.pace.free(now):
            return RATE
        address.connections += 1
        return ""

    def left(self, peer: str) -> None:
        """A connection that was taken has ended."""
        address = self._addresses.get(address_key(peer))
        if address is not None and address.connections:
            address.connections -= 1

    def ended_badly(self, peer: str, now: float) -> None:
        """A connection that was taken ended because of its bytes: no frames, too many bad ones, a failed handshake.

        It counts for `BAD_END` new ones of its address, because it has cost more than one that is refused.
        """
        address = self._addresses.get(address_key(peer))
        if address is not None:
            address.pace.charge(BAD_END - 1, now, BAD_ENDS_S)

    def _forget(self) -> None:
        if len(self._addresses) < MAX_ADDRESSES:
            return
        for key, address in self._addresses.items():
            if not address.connections:
                del self._addresses[key]
                return


def address_key(peer: str) -> str:
    """The address of `host:port` as limits count it: an IPv4 address, the /64 of an IPv6 address; else the text."""
    host = peer.rpartition(":")[0].strip("[]")
    if ":" not in host:
        return host or peer
    try:
        whole = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((int(whole) >> 64 << 64, 64)))
