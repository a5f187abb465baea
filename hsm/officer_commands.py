"""The commands of dual control: officers propose a change of keys, other officers approve or reject it.

The commands of `hsm.key_commands` that need two officers, and `AcceptLedgerHead`, travel inside `Propose`. Each message
carries an Ed25519 signature of its officer; `hsm.officers` has the texts that are signed. The caller `officer` may send
all of them.
"""

from __future__ import annotations

import msgspec

from hsm.key_commands import (
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    KeyAnswer,
    RetireKey,
)
from hsm.ledger_commands import AcceptLedgerHead, LedgerSealsChecked


class OfficerCard(msgspec.Struct, frozen=True, kw_only=True):
    """A security officer as the key store knows one.

    `public_key` is an Ed25519 key, 64 hexadecimal digits; `signature` is made with its private key over name and public
    key, 128 hexadecimal digits: nobody registers a key that is not his, or under another name.
    """

    name: str
    public_key: str
    signature: str


class RegisterOfficers(msgspec.Struct, frozen=True, tag="register_officers", kw_only=True):
    """Register the first officers, two at least; from then on dual control is enforced. Refused once there are some."""

    cards: tuple[OfficerCard, ...]


class AddOfficer(msgspec.Struct, frozen=True, tag="add_officer", kw_only=True):
    """Register one more officer."""

    card: OfficerCard


class RemoveOfficer(msgspec.Struct, frozen=True, tag="remove_officer", kw_only=True):
    """Remove an officer; two at least stay."""

    name: str


class EndDualControl(msgspec.Struct, frozen=True, tag="end_dual_control", kw_only=True):
    """Remove all officers: without them, and with `[hsm] dual_control = false`, one person alone changes keys."""


Controlled = (
    GenerateKey
    | ImportComponents
    | ImportBlock
    | ExportKey
    | RetireKey
    | ActivateKey
    | AcceptLedgerHead
    | AddOfficer
    | RemoveOfficer
    | EndDualControl
)


class EnteredComponent(msgspec.Struct, frozen=True, kw_only=True):
    """The check value of the component that an officer has entered."""

    officer: str
    check_value: str


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A change that waits for approval; an approval is a signature over all of it.

    `id` is 12 hexadecimal digits. `facts` are lines that the HSM adds: check values, versions and parties of the keys
    that the request names. `entered` are the components so far, of an import of components. Times are seconds since
    1970.
    """

    id: str
    request: Controlled
    proposer: str
    nonce: str
    made_at: int
    expires_at: int
    facts: tuple[str, ...] = ()
    entered: tuple[EnteredComponent, ...] = ()


class Propose(msgspec.Struct, frozen=True, tag="propose", kw_only=True):
    """Propose a change; answered by Proposed.

    `nonce` is 32 random hexadecimal digits, `made_at` the time, five minutes at most from the HSM's. An import of
    components has none in its request, but the officer's own in `component`.
    """

    request: Controlled
    officer: str
    nonce: str
    made_at: int
    signature: str
    component: bytes = b""

    def __repr__(self) -> str:
        return f"Propose({type(self.request).__name__}, officer={self.officer!r})"


class Approve(msgspec.Struct, frozen=True, tag="approve", kw_only=True):
    """Approve a proposal of another officer, which is then done: the answer is that of its request.

    An import of components takes the officer's own `component` here; as long as some are missing, the answer is
    Proposed.
    """

    id: str
    officer: str
    signature: str
    component: bytes = b""

    def __repr__(self) -> str:
        return f"Approve({self.id!r}, officer={self.officer!r})"


class Reject(msgspec.Struct, frozen=True, tag="reject", kw_only=True):
    """Reject a proposal, or withdraw one's own; answered by Proposals."""

    id: str
    officer: str
    signature: str


class ListProposals(msgspec.Struct, frozen=True, tag="list_proposals", kw_only=True):
    """The proposals that wait, and the officers; answered by Proposals."""


class Proposed(msgspec.Struct, frozen=True, tag="proposed", kw_only=True):
    """A proposal that waits for another officer."""

    proposal: Proposal


class Proposals(msgspec.Struct, frozen=True, tag="proposals", kw_only=True):
    """All proposals that wait; `store` identifies this key store in signatures, `now` is the HSM's clock."""

    store: str
    enforced: bool
    now: int
    officers: tuple[OfficerCard, ...] = ()
    proposals: tuple[Proposal, ...] = ()


OfficerRequest = Propose | Approve | Reject | ListProposals | RegisterOfficers
OfficerAnswer = Proposed | Proposals
ApprovalAnswer = KeyAnswer | OfficerAnswer | LedgerSealsChecked
