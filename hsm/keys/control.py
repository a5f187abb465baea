"""Dual control at rest: the officers and the waiting proposals, sealed with the key file.

Called by `hsm.keys.records`, which stores it, and `hsm.dual_control`, which decides with it.
"""

from __future__ import annotations

import msgspec

from hsm.officer_commands import OfficerCard, Proposal


class WrappedComponent(msgspec.Struct, frozen=True):
    """A component of `length` bytes under the token's storage key: upper-case hex by part."""

    length: int
    parts: dict[str, str]

    def __repr__(self) -> str:
        return "WrappedComponent(…)"


class WaitingProposal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A proposal with the components entered so far."""

    proposal: Proposal
    components: tuple[WrappedComponent, ...] = ()

    def __repr__(self) -> str:
        return f"WaitingProposal({self.proposal.id!r})"


class Control(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of dual control.

    `store` is a random name of this key store, 32 hexadecimal digits, made with the first officers. `ended_at` is when
    two officers ended dual control, seconds since 1970. `recent` are nonces of proposals with their time, as long as a
    copy of one would be taken.
    """

    store: str = ""
    officers: tuple[OfficerCard, ...] = ()
    waiting: tuple[WaitingProposal, ...] = ()
    ended_at: int = 0
    recent: tuple[tuple[str, int], ...] = ()

    @property
    def enforced(self) -> bool:
        """Whether two officers are needed; nothing but their own decision ends it."""
        return bool(self.officers)

    def officer(self, name: str) -> OfficerCard | None:
        return next((card for card in self.officers if card.name == name), None)
