"""The common part of measurements of a whole system: a quiet configuration, cards in the vault, the acquirer's lane.

Called by `bench switch` and `bench flood`, which start a `console.supervisor.System` with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from console.config import Config
from hsm.asyncio_client import open_hsm
from hsm.vault_commands import CardToken, Tokenize
from simulators.load.lane import LaneConfig

_TIMEOUT_S = 10.0


def quiet(config: Config) -> Config:
    """The configuration without an event for each command of the HSM and each message of a simulator; the switch
    goes on writing its payment events, and rules that would decline a busy card are left out."""
    replace = msgspec.structs.replace
    return replace(
        config,
        log=replace(config.log, level="warning"),
        fraud=tuple(rule for rule in config.fraud if rule.count_1h_over is None and rule.same_5m_over is None),
    )


async def warm_vault(
    config: Config,
    pans: Iterable[str],
    at_once: int,
    stored: Callable[[str, CardToken], object] = lambda pan, token: None,
) -> None:
    """Make every card known to the vault.

    Args:
        at_once: cards in flight.
        stored: called with each card and its token.
    """
    waiting = iter(pans)
    async with open_hsm(config.caller_socket("tokenizer"), timeout_s=_TIMEOUT_S) as hsm:

        async def warm() -> None:
            for pan in waiting:
                stored(pan, await hsm.tokenize(Tokenize(pan=pan, expiry="3012")))

        await asyncio.gather(*(warm() for _ in range(at_once)))


def terminal_lane(config: Config) -> LaneConfig:
    """The lane of the first acquirer link that takes card numbers."""
    pos = next(link for link in config.acquirer if not link.surrogate)
    party = next((key.party for key in config.key if key.name in (pos.pin_key, pos.mac_key)), "")
    return LaneConfig(
        link=pos.name,
        address=config.placed(pos).listen,
        dialect=pos.dialect,
        party=party,
        pin_key=pos.pin_key,
        mac_key=pos.mac_key,
        mac_algorithm=config.mac_algorithm(pos.mac_key),
    )
