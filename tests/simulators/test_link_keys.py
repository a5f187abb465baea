"""The keys of a simulated party: both ends of an exchange, what is taken meanwhile, and MACs on what it sends."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hsm.algorithms.mac import ALGORITHMS, generate_mac
from hsm.errors import PinBlockError
from hsm.keys.attributes import ROLES
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.message import Message
from simulators.errors import LinkKeyError
from simulators.link_keys import LinkKeys, Terminal
from simulators.sealing import MISSING, WRONG, Sealing

PAN = "4242424242424242"
ZMK = bytes(range(32))
DICE = random.Random(1)


def mac_key(algorithm: str) -> bytes:
    return DICE.randbytes(ROLES["mac"].algorithms[algorithm].length)


def two(algorithm: str = "AES-CMAC", pin_format: int = 0, **other: Any) -> tuple[LinkKeys, LinkKeys]:
    """Both ends of a link."""
    pin, mac = DICE.randbytes(32 if pin_format == 4 else 24), mac_key(algorithm)
    made = [
        LinkKeys(pin, mac, mac_algorithm=algorithm, pin_format=pin_format, zmk=zmk)
        for zmk in (ZMK, other.get("zmk", ZMK))
    ]
    return made[0], made[1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["pin", "mac"])
def test_an_exchange_and_what_is_under_way(kind: str, algorithm: str) -> None:
    here, there = two(algorithm)
    old = here.check_value(kind)
    offer = here.offer(kind)
    under_old, block = there.mac(b"old"), there.pin_block("1234", PAN)[0]
    kcv = there.accept(kind, offer.block)
    assert kcv == offer.kcv == there.check_value(kind) != old == here.check_value(kind)
    # Not yet in force here, and taken all the same; older messages are accepted there.
    assert here.mac_is_right(b"new", there.mac(b"new")) and there.mac_is_right(b"old", under_old)
    assert here.pin(there.pin_block("4321", PAN)[0], PAN) == "4321" and there.pin(block, PAN) == "1234"
    assert here.settle(offer, "00", kcv)
    assert here.check_value(kind) == kcv
    assert there.mac_is_right(b"x", here.mac(b"x")) and here.mac_is_right(b"old", under_old)


def test_a_repeat_changes_nothing_and_an_unanswered_offer_is_made_again() -> None:
    here, there = two()
    offer = here.offer("mac")
    under_old = here.mac(b"old")
    assert there.accept("mac", offer.block) == there.accept("mac", offer.block)
    assert there.mac_is_right(b"old", under_old)
    assert here.offer("mac") == offer
    assert not here.settle(offer, "63", "")
    assert here.offer("mac") != offer


@pytest.mark.parametrize(("code", "kcv"), [("63", ""), ("00", "000000"), ("00", ""), ("", "")])
def test_a_refusal_or_a_wrong_check_value_keeps_the_old_key(code: str, kcv: str) -> None:
    here, _ = two()
    before = here.check_value("pin")
    assert not here.settle(here.offer("pin"), code, kcv)
    assert here.check_value("pin") == before


def test_what_is_no_key_for_here_is_refused() -> None:
    here, there = two(zmk=bytes(32))
    for block in (here.offer("mac").block, "", "nonsense", "D0016M6AC00E0000"):
        with pytest.raises(LinkKeyError):
            there.accept("mac", block)
    other, end = two()
    with pytest.raises(LinkKeyError, match="has"):
        end.accept("pin", other.offer("mac").block)
    with pytest.raises(LinkKeyError):
        LinkKeys(b"", b"", zmk=ZMK).offer("mac")
    with pytest.raises(LinkKeyError):
        LinkKeys(bytes(24), bytes(32)).offer("mac")


def test_key_blocks_of_a_mac_key_of_another_algorithm_are_refused() -> None:
    here, _ = two("AES-CMAC")
    there = LinkKeys(bytes(24), mac_key("HMAC-SHA-256"), mac_algorithm="HMAC-SHA-256", zmk=ZMK)
    with pytest.raises(LinkKeyError):
        there.accept("mac", here.offer("mac").block)


@pytest.mark.parametrize("pin_format", [0, 1, 3, 4])
def test_pin_blocks_of_every_format(pin_format: int) -> None:
    here, there = two(pin_format=pin_format)
    block, ksn = here.pin_block("12345", PAN)
    assert (len(block), ksn) == (16 if pin_format == 4 else 8, b"")
    assert there.pin(block, PAN) == "12345"
    with pytest.raises(PinBlockError):
        LinkKeys(bytes([7]) * len(DICE.randbytes(32 if pin_format == 4 else 24)), pin_format=pin_format).pin(block, PAN)


def test_a_dukpt_terminal_counts_and_never_uses_a_key_twice() -> None:
    """ANSI X9.24-1:2009, A.4: BDK and KSN of the standard's example, whose first PIN block is 1B9C1845EB993A7A."""
    terminal = Terminal(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), bytes.fromhex("FFFF9876543210E00000"))
    keys = LinkKeys(terminal=terminal)
    block, ksn = keys.pin_block("1234", "4012345678909")
    assert (ksn.hex().upper(), block.hex().upper()) == ("FFFF9876543210E00001", "1B9C1845EB993A7A")
    seen = {keys.pin_block("1234", "4012345678909") for _ in range(50)}
    assert len(seen) == 50 and (block, ksn) not in seen


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sealing(dialect: str, algorithm: str) -> None:
    keys, _ = two(algorithm)
    codec = Codec(load_dialect(dialect))
    sealing, strict = (Sealing(codec, keys, management=management) for management in (False, True))
    payment, echo = Message("0100", {11: "000001"}), Message("0800", {11: "000001", 70: "301"})
    data = sealing.encode(payment)
    covered, mac = codec.mac_input(data)
    assert mac == generate_mac(keys._versions["mac"][0], covered, algorithm=algorithm)
    assert sealing.problem(codec.decode(data), data) == ""
    for spoiled, problem in (("wrong-mac", WRONG), ("missing-mac", MISSING)):
        data = sealing.encode(payment, spoiled=spoiled)
        assert sealing.problem(codec.decode(data), data) == problem
    assert sealing.encode(echo) == codec.encode(echo)
    assert sealing.problem(echo, codec.encode(echo)) == "" and strict.problem(echo, codec.encode(echo)) == MISSING
    data = strict.encode(echo)
    assert 128 in codec.decode(data).elements and strict.problem(codec.decode(data), data) == ""
    open_link = Sealing(codec, LinkKeys(), management=True)
    assert open_link.encode(payment) == codec.encode(payment) and open_link.problem(payment, b"") == ""
