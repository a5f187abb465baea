"""Looks at the cryptoperiods of keys: events in the log and a metric before one ends, and when it has ended.

Called by `hsm.server` in the background. Nothing is stopped here: where `[hsm] expired_keys = "refuse"`, the keyring is
made anew once a period is over, and refuses by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from hsm.key_commands import KeyInfo
from hsm.keys.lifetimes import left_days
from hsm.metrics import Metrics

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
SAY_AGAIN_S = 86_400.0


class KeyWatch:
    """Says of each key once a day that its period ends soon, or is over.

    Args:
        infos: all versions of all keys.
        metrics: gets when the period of each key in force ends.
        warning_days: time before.
        clock: seconds since 1970.
        on_expired: called when a period has ended since the last look.
    """

    def __init__(
        self,
        infos: Callable[[], Iterable[KeyInfo]],
        metrics: Metrics,
        warning_days: int,
        clock: Callable[[], float],
        on_expired: Callable[[], None],
    ) -> None:
        self._infos = infos
        self._metrics = metrics
        self._warning_days = warning_days
        self._clock = clock
        self._on_expired = on_expired
        self._said: dict[tuple[str, int, str], float] = {}
        self._over: frozenset[tuple[str, int]] = frozenset()

    async def keep(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        now = self._clock()
        infos = tuple(self._infos())
        self._metrics.key_expiries = {info.name: info.expires_at for info in infos if _ends(info)}
        over = frozenset((info.name, info.version) for info in infos if _ends(info) and info.expires_at <= now)
        for info in ending(infos, now, self._warning_days):
            self._say(info, now)
        if over - self._over:
            self._on_expired()
        self._over = over
        self._said = {place: at for place, at in self._said.items() if now - at < SAY_AGAIN_S}

    def _say(self, info: KeyInfo, now: float) -> None:
        event = "key_expired" if info.expires_at <= now else "key_expires_soon"
        if now - self._said.get((info.name, info.version, event), -SAY_AGAIN_S) < SAY_AGAIN_S:
            return
        self._said[info.name, info.version, event] = now
        log.warning(
            event,
            key=f"{info.name}/{info.version}",
            role=info.role,
            party=info.party,
            days_left=left_days(info.expires_at, now),
        )


def ending(infos: Iterable[KeyInfo], now: float, warning_days: int) -> Sequence[KeyInfo]:
    """Return the versions in force whose period ends within so many days, or is over; the first to end first."""
    found = [info for info in infos if _ends(info) and left_days(info.expires_at, now) < warning_days]
    return sorted(found, key=lambda info: (info.expires_at, info.name))


def _ends(info: KeyInfo) -> bool:
    return info.status == "active" and info.expires_at > 0
