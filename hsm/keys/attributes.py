"""Attributes of a key, in the terms of X9.143 (usage, algorithm, mode of use, exportability), and the roles that name
the usual combinations.

`[[key]] usage` names a role; key blocks carry the codes. Called by the key store, the key block codec and the
permission table.
"""

from __future__ import annotations

import msgspec

# X9.143-2021, table 6 (key usage), as far as this HSM uses them. "10" is from the range for proprietary use.
USAGES = {
    "B0": "base derivation key (BDK) of DUKPT",
    "C0": "card verification key (CVK)",
    "D0": "data encryption key",
    "E0": "EMV issuer master key: application cryptograms (IMK-AC)",
    "E1": "EMV issuer master key: secure messaging for confidentiality (IMK-SMC)",
    "E2": "EMV issuer master key: secure messaging for integrity (IMK-SMI)",
    "E6": "EMV issuer master key: other (dynamic card verification values)",
    "K0": "key encryption or wrapping key",
    "K1": "key block protection key (zone master key, ZMK)",
    "M1": "MAC key, ISO 9797-1 algorithm 1",
    "M3": "MAC key, ISO 9797-1 algorithm 3",
    "M6": "MAC key, ISO 9797-1:2011 algorithm 5 (CMAC)",
    "M7": "MAC key, HMAC",
    "P0": "PIN encryption key (zone PIN key, ZPK)",
    "V1": "PIN verification key, IBM 3624",
    "V2": "PIN verification key, Visa PVV",
    "10": "network token cryptogram key",
}
# X9.143-2021, table 7 (algorithm); single DES ("D") is not accepted.
ALGORITHMS = {"T": "TDES", "A": "AES", "H": "HMAC-SHA-256"}
# X9.143-2021, table 8 (mode of use).
MODES = {
    "B": "both encrypt and decrypt, or wrap and unwrap",
    "C": "both generate and verify",
    "D": "decrypt or unwrap only",
    "E": "encrypt or wrap only",
    "G": "generate only",
    "N": "no special restrictions",
    "V": "verify only",
    "X": "derive other keys",
}
# X9.143-2021, table 10 (exportability).
EXPORTABILITY = {
    "E": "exportable in a key block under a trusted key",
    "N": "not exportable",
    "S": "sensitive: exportable under a key of this HSM's owner only",
}


class KeyAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """Usage, algorithm, mode of use and exportability as X9.143 codes; `length` of the key in bytes.

    A double-length TDES key has length 16, in any form that the token holds it in.
    """

    usage: str
    algorithm: str
    mode: str
    exportability: str = "E"
    length: int

    def describe(self) -> str:
        """Return e.g. `P0 PIN encryption key (zone PIN key, ZPK), TDES 192, mode B`."""
        size = f"{ALGORITHMS[self.algorithm]} {self.length * 8}"
        return f"{self.usage} {USAGES[self.usage]}, {size}, mode {self.mode}"


class Role(msgspec.Struct, frozen=True):
    """The meaning of a role of the configuration: key attributes by algorithm name, the first being the default."""

    algorithms: dict[str, KeyAttributes]
    title: str


def _key(usage: str, algorithm: str, mode: str, length: int) -> KeyAttributes:
    return KeyAttributes(usage=usage, algorithm=algorithm, mode=mode, length=length)


ROLES = {
    "pin": Role({"TDES": _key("P0", "T", "B", 24), "AES": _key("P0", "A", "B", 32)}, "zone PIN key (ZPK)"),
    "mac": Role(
        {
            "AES-CMAC": _key("M6", "A", "C", 32),
            "TDES-CMAC": _key("M6", "T", "C", 24),
            "ISO9797-1-ALG1": _key("M1", "T", "C", 24),
            "ISO9797-1-ALG3": _key("M3", "T", "C", 16),
            "HMAC-SHA-256": _key("M7", "H", "C", 32),
        },
        "zone authentication key (ZAK)",
    ),
    "bdk": Role({"TDES": _key("B0", "T", "X", 16), "AES": _key("B0", "A", "X", 32)}, "base derivation key (BDK)"),
    "cvk": Role({"TDES": _key("C0", "T", "C", 16)}, "card verification key pair (CVK)"),
    "pvk": Role({"TDES": _key("V2", "T", "C", 16)}, "PIN verification key pair, Visa PVV (PVK)"),
    "ibm3624": Role({"TDES": _key("V1", "T", "C", 16)}, "PIN verification key, IBM 3624"),
    "imk-ac": Role({"TDES": _key("E0", "T", "X", 16)}, "issuer master key, application cryptograms"),
    "imk-smc": Role({"TDES": _key("E1", "T", "X", 16)}, "issuer master key, script confidentiality"),
    "imk-smi": Role({"TDES": _key("E2", "T", "X", 16)}, "issuer master key, script integrity"),
    "imk-dcvv": Role({"TDES": _key("E6", "T", "X", 16)}, "issuer master key, dynamic card values"),
    "token-cryptogram": Role({"AES": _key("10", "A", "C", 32)}, "network token cryptogram key"),
    "zmk": Role({"AES": _key("K1", "A", "B", 32), "TDES": _key("K1", "T", "B", 24)}, "zone master key (ZMK)"),
}
