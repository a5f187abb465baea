"""The settings of a link by which each message is judged when it arrives, and on which nothing else depends.

No socket, key or buffer depends on them, so a running link can change them from one message to the next:
`switch.reload` does. All other settings of a link need a restart. Pure.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from switch.links.settings import Link

RULES = ("permissions", "max_age_s", "advice_max_age_s", "max_ahead_s", "rate", "queue", "queue_s")

L = TypeVar("L", bound=Link)


def with_rules_of(link: L, wanted: Link) -> L:
    """A link with the rules of another one and its own other settings."""
    return msgspec.structs.replace(link, **{name: getattr(wanted, name) for name in RULES})


def changed_rules(link: Link, wanted: Link) -> tuple[str, ...]:
    """The rules in which two links differ, by the names of their settings."""
    return tuple(name for name in RULES if getattr(link, name) != getattr(wanted, name))
