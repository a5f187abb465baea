"""Wire formats of jPOS's field classes, as a table: class name in, `FieldClass` out; for the importer.

A class pairs an interpreter (how the value looks), a prefixer (its length) and a padder (how a short value is filled);
so does a row here. Class names have no Java package. Those that shipped packagers do not use are here too
where a row says all of them.

Source: the behaviour of org.jpos.iso.IF*, *Interpreter, *Prefixer and *Padder as of jPOS 3; its EBCDIC is IBM 1047.
"""

from __future__ import annotations

import msgspec

_EBCDIC = "cp1047"


class FieldClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class.

    Args:
        kind, encoding: as `Element.kind`, `Element.encoding`.
        digits: of the length before the value; 0: fixed, or as many as a binary length of `size` bytes may need.
        prefix: encoding of that length.
        size: bytes of a binary length; 0 for all else.
        count: as `Element.length_count`.
        most: the largest length that the class takes; 0: any.
        odd: nibble behind an odd number of digits: "0" or "F"; `pad="true"` in the packager makes it a zero in front.
        fill: as `Element.fill`.
    """

    kind: str
    encoding: str
    digits: int = 0
    prefix: str = "ascii"
    size: int = 0
    count: str = ""
    most: int = 0
    odd: str = ""
    fill: str = ""


def _variable(kind: str, encoding: str, prefix: str, digits: int, count: str = "", odd: str = "") -> FieldClass:
    most = 10**digits - 1
    return FieldClass(
        kind=kind, encoding=encoding, prefix=prefix, digits=digits, count=count, most=most, odd=odd, fill=""
    )


def _binary_length(kind: str, encoding: str, size: int, odd: str = "") -> FieldClass:
    return FieldClass(kind=kind, encoding=encoding, prefix="binary", size=size, most=256**size - 1, odd=odd)


def _ls(first: int, last: int) -> dict[str, int]:
    return {"L" * digits: digits for digits in range(first, last + 1)}


_FIXED = {
    "IF_CHAR": FieldClass(kind="ans", encoding="ascii", fill="right  "),
    "IF_ECHAR": FieldClass(kind="ans", encoding=_EBCDIC, fill="right  "),
    "IFE_CHAR": FieldClass(kind="ans", encoding=_EBCDIC, fill="right  "),
    "IFA_NUMERIC": FieldClass(kind="n", encoding="ascii", fill="left 0"),
    "IFE_NUMERIC": FieldClass(kind="n", encoding=_EBCDIC, fill="left 0"),
    "IFB_NUMERIC": FieldClass(kind="n", encoding="bcd", odd="0", fill="left 0"),
    "IFB_FNUMERIC": FieldClass(kind="n", encoding="bcd", odd="F", fill="left 0"),
    "IFA_AMOUNT": FieldClass(kind="x+n", encoding="ascii"),
    "IFE_AMOUNT": FieldClass(kind="x+n", encoding=_EBCDIC),
    "IFB_AMOUNT": FieldClass(kind="x+n", encoding="bcd", odd="0"),
    "IFA_AMOUNT2003": FieldClass(kind="n", encoding="ascii", fill="left 0"),
    "IFB_AMOUNT2003": FieldClass(kind="n", encoding="bcd", odd="0", fill="left 0"),
    "IFA_BINARY": FieldClass(kind="b", encoding="hex"),
    "IFB_BINARY": FieldClass(kind="b", encoding="binary"),
    "IFE_BINARY": FieldClass(kind="b", encoding="ebcdic-hex"),
}

_ASCII_LENGTH = {
    **{f"IFA_{ls}CHAR": _variable("ans", "ascii", "ascii", digits) for ls, digits in _ls(1, 6).items()},
    **{f"IFA_{ls}NUM": _variable("n", "ascii", "ascii", digits) for ls, digits in _ls(2, 3).items()},
    **{f"IFA_{ls}BINARY": _variable("b", "binary", "ascii", digits) for ls, digits in _ls(1, 6).items()},
    **{f"IFA_{ls}ABINARY": _variable("b", "hex", "ascii", digits, "octets") for ls, digits in _ls(2, 3).items()},
}

_BCD_LENGTH = {
    **{f"IFB_{ls}CHAR": _variable("ans", "ascii", "bcd", digits) for ls, digits in _ls(2, 6).items() if digits != 5},
    **{f"IFB_{ls}NUM": _variable("n", "bcd", "bcd", digits, odd="0") for ls, digits in _ls(2, 3).items()},
    **{f"IFB_F{ls}NUM": _variable("n", "bcd", "bcd", digits, odd="F") for ls, digits in _ls(2, 3).items()},
    **{f"IFB_{ls}BINARY": _variable("b", "binary", "bcd", digits) for ls, digits in _ls(2, 4).items()},
}

_BINARY_LENGTH = {
    f"IFB_{ls}H{name}": _binary_length(kind, encoding, size, odd)
    for ls, size in {"LL": 1, "LLL": 2}.items()
    for name, (kind, encoding, odd) in {
        "CHAR": ("ans", "ascii", ""),
        "ECHAR": ("ans", _EBCDIC, ""),
        "NUM": ("n", "bcd", "0"),
        "BINARY": ("b", "binary", ""),
    }.items()
}

_EBCDIC_LENGTH = {
    **{f"IFE_{ls}CHAR": _variable("ans", _EBCDIC, _EBCDIC, digits) for ls, digits in _ls(1, 4).items()},
    **{f"IFE_{ls}NUM": _variable("n", _EBCDIC, _EBCDIC, digits) for ls, digits in _ls(1, 3).items()},
    **{f"IFE_{ls}BINARY": _variable("b", "binary", _EBCDIC, digits) for ls, digits in _ls(1, 4).items()},
    "IFEA_LLCHAR": _variable("ans", "ascii", _EBCDIC, 2),
    # The length says bytes; whether the last nibble counts follows from its being F.
    "IFEB_LLNUM": _variable("n", "bcd", _EBCDIC, 2, "bytes", "F"),
    "IFEB_LLLNUM": msgspec.structs.replace(_variable("n", "bcd", _EBCDIC, 3, "bytes", "F"), most=99),
}

# vapvip.xml names a class that jPOS does not have; the packager of the same name in Java has the other one there.
_MISNAMED = {"IFA_LLHBINARY": _BINARY_LENGTH["IFB_LLHBINARY"]}

CLASSES: dict[str, FieldClass] = {
    **_FIXED,
    **_ASCII_LENGTH,
    **_BCD_LENGTH,
    **_BINARY_LENGTH,
    **_EBCDIC_LENGTH,
    **_MISNAMED,
}

# Classes whose value keeps its length digits here: the value is filled behind them to a fixed size on the wire.
FILLED: dict[str, FieldClass] = {
    "IFA_FLLCHAR": FieldClass(kind="ans", encoding="ascii", digits=2, most=99),
    "IFA_FLLNUM": FieldClass(kind="ans", encoding="ascii", digits=2, most=99),
}

# Classes that put nothing on the wire.
NOTHING = frozenset({"IF_NOP"})

# Encoding of the bitmap, as `Dialect.bitmap_encoding`.
BITMAPS = {"IFA_BITMAP": "hex", "IFB_BITMAP": "binary", "IFE_BITMAP": _EBCDIC, "Base1_BITMAP126": "binary"}

# Tag, length and value: characters of the tag (0: as many as the token), and the class of length and value.
TAGGED: dict[str, tuple[int, str]] = {
    **{f"IFA_TT{ls}{value}": (2, f"IFA_{ls}{value}") for ls in _ls(1, 4) for value in ("CHAR", "BINARY")},
    "IFA_TTTLLLCHAR": (3, "IFA_LLLCHAR"),
    **{f"IFTA_{ls}{value}": (0, f"IFA_{ls}{value}") for ls in _ls(2, 3) for value in ("CHAR", "NUM", "BINARY")},
}

# A length that counts the tag behind it, then the tag: no composite here reads that, so they only stand in fields that
# travel whole.
INCLUSIVE = frozenset({
    "IFEP_LLCHAR", "IFEP_LLLCHAR", "IFEP_LLLBINARY", "IFELPE_LLLCHAR", "IFEPE_LLBINARY", "IFEPE_LLCHAR",
    "IFEPE_LLLCHAR", "IFEMC_LLCHAR", "IFEMC_LLLCHAR", "IFMC_LLBINARY", "IFMC_LLCHAR", "IFMC_LLLBINARY",
    "IFMC_LLLCHAR", "IFIPM_LLLCHAR",
})  # fmt: skip
