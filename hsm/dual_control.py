"""Dual control: changes that would give one person a key, or the way to one, are done when two officers want them.

Requests go in with the process that sent them; answers come out, or an `HsmRefused` with the code `approval_needed`.
Wraps the handlers of `hsm.key_desk` and the one that accepts a head of the ledger (`hsm.ledger_commands`), for the
service, and for `cardswitch hsm` where no process runs. Officers are known
by their key pairs (`hsm.officers`), registered in the sealed key file; their operating system user has no effect. The
proposer is one of the two, so that another officer's approval does what was proposed. Source: PCI PIN 3.1, requirements
6, 12 and 13 and glossary ("dual control": two or more persons, none of whom alone has the means).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, get_args

import msgspec

from hsm.algorithms.check_value import clear_check_value
from hsm.callers import Peer
from hsm.commands import HsmRefused
from hsm.key_commands import (
    AcceptLinkKey,
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    RenewLinkKey,
    RetireKey,
)
from hsm.key_desk import KeyDesk
from hsm.keys.control import Control, WaitingProposal
from hsm.keys.provisioning import ZMK_ROLE
from hsm.ledger_commands import AcceptLedgerHead, head_facts, ledger_handlers
from hsm.ledger_seals import LedgerWitness
from hsm.officer_commands import (
    AddOfficer,
    Approve,
    Controlled,
    EndDualControl,
    EnteredComponent,
    ListProposals,
    OfficerCard,
    Proposal,
    Proposals,
    Propose,
    Proposed,
    RegisterOfficers,
    Reject,
    RemoveOfficer,
)
from hsm.officers import approval_text, fingerprint, is_card, proposal_text, rejection_text, verified

MAX_WAITING = 16
MAX_WAITING_OF_ONE = 6
MAX_OFFICERS = 16
MAX_RECENT = 64
MAX_REQUEST_BYTES = 3000
MAX_CLOCK_DIFFERENCE_S = 300
LEAST_OFFICERS = 2
# The caller whose commands change keys over links; it may not touch zone master keys.
SWITCH = "switch"
_LINK_COMMANDS = frozenset({RenewLinkKey, AcceptLinkKey, ActivateKey})
_ALWAYS = frozenset({ImportComponents, ImportBlock, ExportKey, RetireKey, AcceptLedgerHead})
_NONCE = re.compile(r"[0-9a-f]{32}")
_COMPONENT_BYTES = (16, 24, 32)
_COMPONENTS = (2, 3)


class Noted(msgspec.Struct, frozen=True):
    """The audit's entry for a command of an officer: the command inside, its keys, the officers, the outcome.

    `outcome` replaces "ok": `proposed`, `entered`, `rejected`. `version` is of the first key, 0: in force.
    """

    command: str
    names: tuple[str, ...] = ()
    officers: tuple[str, ...] = ()
    outcome: str = ""
    version: int = 0


noted: ContextVar[Noted | None] = ContextVar("noted", default=None)

Audit = Callable[[Noted], None]


class DualControl:
    """Decides which changes wait for a second officer, keeps proposals, and has approved ones done.

    Args:
        desk: does the commands.
        key_handlers: of the key commands, by request.
        witness: signs the ledger's seals.
        wanted: `[hsm] dual_control`. Without officers it keeps controlled changes from being made at all; with officers
            it is not asked.
        peer: sender of the request that is being handled.
        expiry_s: hours that a proposal waits.
        audit: takes down that a proposal has expired.
    """

    def __init__(
        self,
        desk: KeyDesk,
        key_handlers: Mapping[type, Callable[[Any], Any]],
        witness: LedgerWitness,
        *,
        wanted: bool,
        peer: Callable[[], Peer],
        expiry_s: float,
        audit: Audit,
    ) -> None:
        self._desk = desk
        self._handlers = {**key_handlers, **ledger_handlers(witness)}
        self._head_facts = head_facts(witness)
        self._wanted = wanted
        self._peer = peer
        self._expiry_s = expiry_s
        self._audit = audit
        self._own: dict[type, Callable[[Any], Any]] = {
            AddOfficer: self._add_officer,
            RemoveOfficer: self._remove_officer,
            EndDualControl: self._end,
        }

    @property
    def state(self) -> str:
        """Return `enforced`, `no officers` (controlled changes are refused) or `off` (one person alone makes them)."""
        if self._control.enforced:
            return "enforced"
        return "no officers" if self._wanted else "off"

    def handlers(self) -> dict[type, Callable[[Any], Any]]:
        """Return the handlers of all commands on keys, on the ledger's seals and of officers."""
        guarded: dict[type, Callable[[Any], Any]] = dict.fromkeys(
            (*_ALWAYS, *_LINK_COMMANDS, GenerateKey), self._guarded
        )
        return {
            **self._handlers,
            **guarded,
            Propose: self._noting(self.propose),
            Approve: self._noting(self.approve),
            Reject: self._noting(self.reject),
            RegisterOfficers: self._noting(self.register),
            ListProposals: self.list,
        }

    def list(self, _: ListProposals) -> Proposals:
        self._drop_expired()
        return self._proposals()

    def propose(self, request: Propose) -> Proposed:
        """Keep a change for another officer to approve, once it is known that it could be made now."""
        inner, control = request.request, self._control
        noted.set(Noted(command_of(inner), _names(inner), (), version=_version(inner)))
        card = self._officer(request.officer)
        check_value = self._component_check_value(inner, request.component)
        text = proposal_text(control.store, inner, request.officer, request.nonce, request.made_at, check_value)
        self._verify(card, text, request.signature)
        noted.set(Noted(command_of(inner), _names(inner), (card.name,), "proposed", _version(inner)))
        now = int(self._desk.store.now())
        self._drop_expired()
        self._admit(request, now)
        facts = self.facts(inner)
        proposal = Proposal(
            id=hashlib.sha256(text).hexdigest()[:12],
            request=inner,
            proposer=card.name,
            nonce=request.nonce,
            made_at=request.made_at,
            expires_at=now + int(self._expiry_s),
            facts=facts,
            entered=(EnteredComponent(officer=card.name, check_value=check_value),) if check_value else (),
        )
        components = (self._desk.store.wrap_component(request.component),) if request.component else ()
        self._set_waiting(
            (*self._control.waiting, WaitingProposal(proposal=proposal, components=components)),
            (*self._recent(now), (request.nonce, request.made_at)),
        )
        return Proposed(proposal=proposal)

    def approve(self, request: Approve) -> Any:
        """Do what another officer has proposed; of an import of components, once all have been entered."""
        self._drop_expired()
        waiting = self._waiting(request.id)
        proposal = waiting.proposal
        inner = proposal.request
        about = Noted(command_of(inner), _names(inner), (proposal.proposer,), version=_version(inner))
        noted.set(about)
        card = self._officer(request.officer)
        check_value = self._component_check_value(inner, request.component)
        text = approval_text(self._control.store, proposal, card.name, check_value)
        self._verify(card, text, request.signature)
        others = tuple(dict.fromkeys((proposal.proposer, *(entered.officer for entered in proposal.entered))))
        if card.name in others:
            raise HsmRefused("not_permitted", f"{card.name} has a part in it already: another officer approves")
        noted.set(about := msgspec.structs.replace(about, officers=(*others, card.name)))
        if self.facts(inner) != proposal.facts:
            self._forget(waiting)
            raise HsmRefused("approval_void", "its subject has changed since: propose it again")
        if isinstance(inner, ImportComponents):
            parts = (*waiting.components, self._desk.store.wrap_component(request.component))
            if len(parts) < inner.count:
                entered = EnteredComponent(officer=card.name, check_value=check_value)
                more = msgspec.structs.replace(proposal, entered=(*proposal.entered, entered))
                self._replace(waiting, WaitingProposal(proposal=more, components=parts))
                noted.set(msgspec.structs.replace(about, outcome="entered"))
                return Proposed(proposal=more)
            values = tuple(self._desk.store.unwrap_component(part) for part in parts)
            inner = msgspec.structs.replace(inner, components=values)
        # Removed before it is done: an approval works once, even if the change then fails.
        self._forget(waiting)
        handler = self._own.get(type(inner)) or self._handlers[type(inner)]
        return handler(inner)

    def reject(self, request: Reject) -> Proposals:
        """Take a proposal away; its proposer may, too."""
        self._drop_expired()
        waiting = self._waiting(request.id)
        inner = waiting.proposal.request
        officers = tuple(dict.fromkeys((waiting.proposal.proposer, request.officer)))
        noted.set(Noted(command_of(inner), _names(inner), version=_version(inner)))
        card = self._officer(request.officer)
        self._verify(card, rejection_text(self._control.store, waiting.proposal, card.name), request.signature)
        noted.set(Noted(command_of(inner), _names(inner), officers, "rejected", _version(inner)))
        self._forget(waiting)
        return self._proposals()

    def register(self, request: RegisterOfficers) -> Proposals:
        """Register the first officers."""
        store = self._desk.store
        noted.set(Noted("register_officers", (), tuple(card.name for card in request.cards if is_card(card))))
        if self._control.enforced:
            raise HsmRefused("approval_needed", "there are officers: add more with the approval of two of them")
        if len(request.cards) < LEAST_OFFICERS:
            raise HsmRefused("malformed", f"dual control takes {LEAST_OFFICERS} officers at least")
        for number, card in enumerate(request.cards):
            self._check_card(card, request.cards[:number])
        clear = sorted(
            info.name
            for info in store.infos()
            if info.role == ZMK_ROLE and info.status == "active" and info.origin == "custodian"
        )
        if clear:
            raise HsmRefused(
                "key_in_use",
                f"the zone master keys {', '.join(clear)} lie in clear files of this test system: begin with a fresh"
                " state directory, or import their next versions first",
            )
        identity = self._control.store or store.random_bytes(16).hex()
        store.set_control(Control(store=identity, officers=request.cards))
        return self._proposals()

    def facts(self, request: Controlled) -> tuple[str, ...]:
        """Return the lines that an approval binds besides the request, where it could be done now.

        Raises:
            HsmRefused: it could not.
        """
        match request:
            case AddOfficer():
                self._check_card(request.card, self._control.officers)
                return (f"public key {fingerprint(request.card)}", *self._officer_names())
            case RemoveOfficer():
                if self._control.officer(request.name) is None:
                    raise HsmRefused("malformed", f"there is no officer named {request.name!r}")
                if len(self._control.officers) <= LEAST_OFFICERS:
                    raise HsmRefused("not_permitted", f"{LEAST_OFFICERS} officers stay: add another one first")
                return self._officer_names()
            case EndDualControl():
                return self._officer_names()
            case AcceptLedgerHead():
                return self._head_facts(request)
            case _:
                return self._desk.facts(request)

    def _guarded(self, request: Any) -> Any:
        """Do a command of one caller alone, or refuse because it takes two officers."""
        if (self._wanted or self._control.enforced) and (reason := self._controlled(request)):
            raise HsmRefused("approval_needed", reason)
        return self._handlers[type(request)](request)

    def _controlled(self, request: Any) -> str:
        """Return why a command takes two officers, or an empty string."""
        kind = type(request)
        if kind in _LINK_COMMANDS:
            versions = self._desk.store.versions(request.name)
            zmk = bool(versions) and versions[-1].role == ZMK_ROLE
            if self._peer().caller.name == SWITCH and not zmk:
                return ""
            if kind is not ActivateKey:
                return "the switch exchanges keys with their parties, officers export and import them"
        elif kind is GenerateKey and request.role != ZMK_ROLE:
            return ""
        if not self._control.enforced:
            return "no officers are registered, and [hsm] dual_control wants two"
        return f"{command_of(request)} takes two officers"

    def _noting(self, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            noted.set(Noted("officer"))
            if len(msgspec.msgpack.encode(request)) > MAX_REQUEST_BYTES * (MAX_OFFICERS if _is_cards(request) else 1):
                raise HsmRefused("malformed", "longer than any change of keys")
            return handler(request)

        return handle

    def _admit(self, request: Propose, now: int) -> None:
        if not _NONCE.fullmatch(request.nonce):
            raise HsmRefused("malformed", "a nonce is 32 hexadecimal digits")
        if abs(now - request.made_at) > MAX_CLOCK_DIFFERENCE_S:
            raise HsmRefused("expired", "it was signed at another time than the HSM's clock says")
        waiting = [one.proposal for one in self._control.waiting]
        if len(waiting) >= MAX_WAITING:
            raise HsmRefused("overloaded", f"{MAX_WAITING} proposals wait: approve or reject some")
        if sum(proposal.proposer == request.officer for proposal in waiting) >= MAX_WAITING_OF_ONE:
            raise HsmRefused("overloaded", f"{MAX_WAITING_OF_ONE} proposals of {request.officer} wait: withdraw some")
        recent = self._recent(now)
        if any(nonce == request.nonce for nonce, _ in recent):
            raise HsmRefused("malformed", "this proposal was made before")
        if len(recent) >= MAX_RECENT:
            raise HsmRefused("overloaded", f"{MAX_RECENT} proposals in ten minutes: try again later")
        if isinstance(request.request, ImportComponents):
            self._admit_components(request.request)

    def _admit_components(self, request: ImportComponents) -> None:
        if request.components:
            raise HsmRefused("malformed", "each officer enters one component, none knows another's")
        if request.count not in _COMPONENTS:
            raise HsmRefused("malformed", "a key has 2 or 3 components")
        if request.count > len(self._control.officers):
            raise HsmRefused("malformed", f"{request.count} components take as many officers")

    def _component_check_value(self, request: Controlled, component: bytes) -> str:
        """Return the check value of the component that comes along; empty where none belongs here."""
        if not isinstance(request, ImportComponents):
            if component:
                raise HsmRefused("malformed", "a component belongs to an import of components")
            return ""
        if len(component) not in _COMPONENT_BYTES:
            raise HsmRefused("malformed", "a component has 16, 24 or 32 bytes")
        return clear_check_value(self._desk.algorithm_of(request), component)

    def _officer(self, name: str) -> OfficerCard:
        card = self._control.officer(name)
        if card is None:
            if not self._control.enforced:
                raise HsmRefused("approval_needed", "no officers are registered")
            raise HsmRefused("not_permitted", f"there is no officer named {name[:64]!r}")
        return card

    def _verify(self, card: OfficerCard, text: bytes, signature: str) -> None:
        if not verified(card, text, signature):
            raise HsmRefused("not_permitted", f"the signature is not that of {card.name} for this change")

    def _check_card(self, card: OfficerCard, others: tuple[OfficerCard, ...]) -> None:
        if not is_card(card):
            raise HsmRefused("malformed", "an officer's card is signed by its own key")
        if any(card.name.lower() == other.name.lower() for other in others):
            raise HsmRefused("malformed", f"there is an officer named {card.name!r}")
        if any(card.public_key.lower() == other.public_key.lower() for other in others):
            raise HsmRefused("malformed", f"the key of {card.name} is another officer's: each has an own one")
        if len(others) >= MAX_OFFICERS:
            raise HsmRefused("overloaded", f"{MAX_OFFICERS} officers at most")

    def _add_officer(self, request: AddOfficer) -> Proposals:
        return self._with_officers((*self._control.officers, request.card))

    def _remove_officer(self, request: RemoveOfficer) -> Proposals:
        return self._with_officers(tuple(card for card in self._control.officers if card.name != request.name))

    def _with_officers(self, officers: tuple[OfficerCard, ...]) -> Proposals:
        """Go on with these officers; proposals in which somebody else has a part are void."""
        names = {card.name for card in officers}
        waiting = tuple(
            one
            for one in self._control.waiting
            if {one.proposal.proposer, *(entered.officer for entered in one.proposal.entered)} <= names
        )
        self._desk.store.set_control(msgspec.structs.replace(self._control, officers=officers, waiting=waiting))
        return self._proposals()

    def _end(self, _: EndDualControl) -> Proposals:
        ended = Control(store=self._control.store, ended_at=int(self._desk.store.now()))
        self._desk.store.set_control(ended)
        return self._proposals()

    def _waiting(self, number: str) -> WaitingProposal:
        for waiting in self._control.waiting:
            if waiting.proposal.id == number:
                return waiting
        raise HsmRefused("proposal_unknown", "no such proposal waits: it was approved, rejected or has expired")

    def _replace(self, before: WaitingProposal, after: WaitingProposal) -> None:
        self._set_waiting(tuple(after if one is before else one for one in self._control.waiting))

    def _forget(self, waiting: WaitingProposal) -> None:
        self._set_waiting(tuple(one for one in self._control.waiting if one is not waiting))

    def _drop_expired(self) -> None:
        now = self._desk.store.now()
        over = [one.proposal for one in self._control.waiting if one.proposal.expires_at <= now]
        if not over:
            return
        self._set_waiting(tuple(one for one in self._control.waiting if one.proposal.expires_at > now))
        for proposal in over:
            inner = proposal.request
            self._audit(Noted(command_of(inner), _names(inner), (proposal.proposer,), "expired", _version(inner)))

    def _set_waiting(
        self, waiting: tuple[WaitingProposal, ...], recent: tuple[tuple[str, int], ...] | None = None
    ) -> None:
        control = msgspec.structs.replace(
            self._control, waiting=waiting, recent=self._control.recent if recent is None else recent
        )
        self._desk.store.set_control(control, backed_up=False)

    def _recent(self, now: float) -> tuple[tuple[str, int], ...]:
        """Return the nonces that a copy of an earlier message could have."""
        return tuple(one for one in self._control.recent if abs(now - one[1]) <= MAX_CLOCK_DIFFERENCE_S)

    def _proposals(self) -> Proposals:
        control = self._control
        return Proposals(
            store=control.store,
            enforced=control.enforced,
            now=int(self._desk.store.now()),
            officers=control.officers,
            proposals=tuple(one.proposal for one in control.waiting),
        )

    def _officer_names(self) -> tuple[str, ...]:
        return (f"officers now: {', '.join(card.name for card in self._control.officers)}",)

    @property
    def _control(self) -> Control:
        return self._desk.store.control


def command_of(request: Any) -> str:
    """Return the tag of a request."""
    return str(type(request).__struct_config__.tag)


def _names(request: Controlled) -> tuple[str, ...]:
    if isinstance(request, RemoveOfficer):
        return ()
    return tuple(name for field in ("name", "under") if (name := getattr(request, field, "")))


def _version(request: Controlled) -> int:
    version = getattr(request, "version", 0)
    return version if isinstance(version, int) else 0


def _is_cards(request: Any) -> bool:
    return isinstance(request, RegisterOfficers)


assert set(get_args(Controlled)) > _ALWAYS, "each change that needs approval can be proposed"
