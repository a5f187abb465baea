"""The keys of one end of a link as its simulated party holds them: MACs, PIN blocks, and keys that change on the way.

Clear keys go in; acquirers and issuers ask for MACs and PIN blocks and never see which version made them. The version
before the present one, and one that is on offer, are taken for what is under way.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

import msgspec

from hsm.algorithms import dukpt_aes, dukpt_tdes
from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.components import odd_parity
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.algorithms.mac import AES_CMAC, generate_mac, verify_mac
from hsm.algorithms.pinblock import open_pin, seal_pin
from hsm.errors import KeyBlockError, PinBlockError
from hsm.keys.attributes import ROLES, KeyAttributes
from simulators.errors import LinkKeyError

BLOCK_VERSION = "D"
AES_FORMAT = 4  # of the PIN block formats the only one under AES
AGAIN = frozenset({"91", "96"})  # DE 39 that refuse the moment, not the key
_AES_LENGTHS = {16: "AES-128", 24: "AES-192", 32: "AES-256"}


class Offer(msgspec.Struct, frozen=True):
    """A key on its way to the peer, as a key block, with its check value."""

    kind: str
    block: str
    kcv: str

    def __repr__(self) -> str:
        return f"Offer({self.kind!r}, KCV {self.kcv})"


class Terminal:
    """A PIN pad with DUKPT: an initial key, and a counter that only grows.

    Args:
        bdk: the base derivation key, TDES (16 bytes) or AES (16, 24 or 32).
        ksn: where it starts: 10 bytes for TDES, 12 for AES; the counter in it may be zero.
    """

    def __init__(self, bdk: bytes, ksn: bytes) -> None:
        self._tdes = len(ksn) == dukpt_tdes.KSN_BYTES
        self._ksn = ksn
        self._strength = len(bdk)
        self._initial = (
            dukpt_tdes.initial_key(ClearTdesKey(bdk), ksn)
            if self._tdes
            else dukpt_aes.initial_key(ClearAesKey(bdk), ksn[: dukpt_aes.KEY_ID_BYTES])
        )

    def next_key(self, pin_format: int) -> tuple[ClearTdesKey | ClearAesKey, bytes]:
        """The PIN key of the next transaction, and its KSN."""
        if self._tdes:
            self._ksn = dukpt_tdes.next_ksn(self._ksn)
            return dukpt_tdes.device_pin_key(self._initial, self._ksn), self._ksn
        self._ksn = dukpt_aes.next_ksn(self._ksn)
        kind = _AES_LENGTHS[self._strength] if pin_format == AES_FORMAT else "TDES-2"
        usage = dukpt_aes.Usage.PIN_ENCRYPTION
        return dukpt_aes.device_working_key(self._initial, self._ksn, usage, kind), self._ksn


class LinkKeys:
    """PIN key and MAC key of a link, b"" for what it does not have.

    Args:
        pin_format: ISO 9564 format of the blocks on this link.
        mac_algorithm: one of `hsm.algorithms.mac.ALGORITHMS`.
        zmk: the zone master key, AES-256; without it no key can be exchanged.
        terminal: makes PIN keys instead of `pin`.
        random_bytes: a seeded one where a run must be repeatable.
    """

    def __init__(
        self,
        pin: bytes = b"",
        mac: bytes = b"",
        *,
        pin_format: int = 0,
        mac_algorithm: str = AES_CMAC,
        zmk: bytes = b"",
        terminal: Terminal | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.pin_format = pin_format
        self.mac_algorithm = mac_algorithm
        self._zmk = zmk
        self._terminal = terminal
        self._random_bytes = random_bytes
        # Kind → the versions that are taken, the one in force first; an empty list: no such key.
        self._versions = {kind: [key] if key else [] for kind, key in (("pin", pin), ("mac", mac))}
        self._offered: dict[str, tuple[Offer, bytes]] = {}

    @property
    def has_mac(self) -> bool:
        return bool(self._versions["mac"])

    @property
    def has_pin(self) -> bool:
        return self._terminal is not None or bool(self._versions["pin"])

    def check_value(self, kind: str) -> str:
        """Check value of the key in force."""
        return clear_check_value(self._attributes(kind).algorithm, self._versions[kind][0])

    def mac(self, data: bytes) -> bytes:
        """The MAC under the key in force, 8 bytes."""
        return generate_mac(self._versions["mac"][0], data, algorithm=self.mac_algorithm)

    def mac_is_right(self, data: bytes, mac: bytes) -> bool:
        return any(verify_mac(key, data, mac, self.mac_algorithm) for key in self._candidates("mac"))

    def pin_block(self, pin: str, pan: str) -> tuple[bytes, bytes]:
        """The encrypted PIN block, and the KSN, b"" without DUKPT. Raises PinBlockError."""
        ksn = b""
        if self._terminal is not None:
            key, ksn = self._terminal.next_key(self.pin_format)
        else:
            key = self._pin_key(self._versions["pin"][0])
        return seal_pin(self.pin_format, pin, pan, key, self._random_bytes), ksn

    def pin(self, block: bytes, pan: str) -> str:
        """The PIN in a block. Raises PinBlockError."""
        refusal = PinBlockError("there is no PIN key")
        for key in self._candidates("pin"):
            try:
                return open_pin(self.pin_format, block, pan, self._pin_key(key))
            except PinBlockError as error:
                refusal = error
        raise refusal

    # Exchange

    def accept(self, kind: str, block: str) -> str:
        """Take a key from the peer; in force at once. A repeat changes nothing.

        Returns:
            Its check value.
        Raises:
            LinkKeyError: no zone master key, no key of this kind, or a block that is none for it.
        """
        expected = self._attributes(kind)
        try:
            unwrapped = unwrap_block(ClearAesKey(self._zmk), block)
        except KeyBlockError as error:
            raise LinkKeyError(str(error)) from None
        found = unwrapped.attributes
        if (found.usage, found.algorithm) != (expected.usage, expected.algorithm):
            raise LinkKeyError(f"a {kind} key of this link is {expected.describe()}, the block has {found.describe()}")
        if unwrapped.key != self._versions[kind][0]:
            # The key that we have on offer may have been in force at the peer for a moment: it counts as a former one.
            before = [self._offered.pop(kind)[1]] if kind in self._offered else []
            self._versions[kind] = [unwrapped.key, *before, self._versions[kind][0]]
        return clear_check_value(found.algorithm, unwrapped.key)

    def offer(self, kind: str) -> Offer:
        """Make a new key for the peer; it is in force once `settle` says that the peer has it.

        An offer that was neither taken nor refused is made again: the peer may have taken it. Raises LinkKeyError.
        """
        attributes = self._attributes(kind)
        if kind in self._offered:
            return self._offered[kind][0]
        length = len(self._versions[kind][0])
        key = self._random_bytes(length)
        key = odd_parity(key) if attributes.algorithm == "T" else key
        attributes = msgspec.structs.replace(attributes, length=length)
        block = wrap_block(ClearAesKey(self._zmk), key, attributes, BLOCK_VERSION, self._random_bytes)
        made = Offer(kind, block, clear_check_value(attributes.algorithm, key))
        self._offered[kind] = made, key
        return made

    def settle(self, offer: Offer, response_code: str, kcv: str) -> bool:
        """The peer's answer to an offer; True where the new key is in force now.

        91 and 96 leave it open: the peer may have taken it before, so the same key is offered again.
        """
        current, key = self._offered.get(offer.kind, (None, b""))
        if current != offer or response_code in AGAIN:
            return False
        del self._offered[offer.kind]
        if response_code != "00" or not hmac.compare_digest(kcv.encode(), offer.kcv.encode()):
            return False
        self._versions[offer.kind] = [key, self._versions[offer.kind][0]]
        return True

    def _candidates(self, kind: str) -> list[bytes]:
        offered = [self._offered[kind][1]] if kind in self._offered else []
        return self._versions[kind] + offered

    def _attributes(self, kind: str) -> KeyAttributes:
        if not self._zmk or not self._versions.get(kind):
            raise LinkKeyError(f"this link has no {kind} key, or no zone master key to exchange it under")
        if kind == "mac":
            return ROLES["mac"].algorithms[self.mac_algorithm]
        return ROLES["pin"].algorithms["AES" if self.pin_format == AES_FORMAT else "TDES"]

    def _pin_key(self, key: bytes) -> ClearTdesKey | ClearAesKey:
        return ClearAesKey(key) if self.pin_format == AES_FORMAT else ClearTdesKey(key)
