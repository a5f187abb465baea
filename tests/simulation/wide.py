"""The world of the random scenarios: acquirers and issuers in several dialects, a network, alternates, stand-in.

Plain data, and what a seed draws of it.
"""

from __future__ import annotations

import random
from typing import Any

from hsm.config import KeyConfig
from simulators.faults import KINDS, FaultRule
from simulators.faults.rule import OF_ACQUIRERS
from simulators.issuer.accounts import AccountRule
from simulators.network import MemberScenario
from switch.config import SwitchConfig, switch_config
from switch.links.memory_network import Weather
from tests.simulation.world import TABLE

# Card numbers by who has them first; all are test numbers.
CARDS = (
    "4242424242424242",  # alpha, else gamma
    "4000056655665556",
    "4000000000009995",  # never any money
    "5555555555554444",  # beta, where we may stand in
    "5105105105105100",
    "378282246310005",  # gamma and alpha in turn
    "6011111111111117",  # behind the network
    "3530111333300000",  # behind the network, often away
)
ACQUIRERS = ("pos", "gateway", "branch", "abroad")
KEYED = ("pos", "branch", "alpha", "beta", "gamma", "net")  # links whose keys are exchanged
KEYS = (
    KeyConfig(name="zpk-branch", usage="pin", party="branch"),
    KeyConfig(name="zak-branch", usage="mac", party="branch"),
    KeyConfig(name="zpk-gamma", usage="pin", party="gamma"),
    KeyConfig(name="zak-gamma", usage="mac", party="gamma"),
    KeyConfig(name="zpk-net", usage="pin", party="net"),
    KeyConfig(name="zak-net", usage="mac", party="net", algorithm="ISO9797-1-ALG3"),
    *(KeyConfig(name=f"zmk-{party}", usage="zmk", party=party) for party in ("branch", "gamma", "net")),
)
SHARED = {"trace_element": 63, "reconnect_s": 0.1, "reconnect_cap_s": 2.0}
NETWORKS = {
    "net": (
        MemberScenario(name="disc", prefixes=("60",), default=AccountRule(balance_minor=5_000_000)),
        MemberScenario(
            name="jcb",
            prefixes=("35",),
            default=AccountRule(balance_minor=5_000_000, partial=True),
            stand_in_minor=1_000,
        ),
    )
}
PREFIXES = {"beta": ("5",)}  # alternates have cards of others

# Dialects of gamma and the acquirer abroad, at random.
GAMMA = ("iso93-binary", "iso93-ascii", "iso87-ascii")
ABROAD = ("iso93-ascii", "iso93-binary", "iso2003-ascii", "iso87-ebcdic")

ONLINE = ("0100", "0200")
ADVICES = ("0420", "0220", "0120")
# Longest delays; the issuers' deadline is 3 s, acquirers wait 2 to 8 s.
DELAYS_S = {"delay": 1.5, "late": 6.0, "reorder": 0.5, "byte-at-a-time": 0.5, "refuse": 4.0, "repeat": 1.0}
DELAYS_S |= {"late-reversal": 3.0}
# An issuer's second answer may be lost with its connection or with the worker that has seen the first: then nobody can
# undo what it approved. So it is played where neither ends.
SECOND_ANSWERS = "approve-after-decline"
LINE_ENDS = frozenset(
    {"disconnect-before", "disconnect-after", "garbage", "half-frame", "refuse", "wrong-mac", "missing-mac"}
)
ISSUER_KINDS = tuple(kind for kind in KINDS if kind not in OF_ACQUIRERS and kind != SECOND_ANSWERS)
STEADY_KINDS = (*(kind for kind in ISSUER_KINDS if kind not in LINE_ENDS), SECOND_ANSWERS)
# Faults that bring the same request to the switch twice at once, or late.
TWICE = ("duplicate", "repeat", "delay", "late", "reorder", "byte-at-a-time")
# Other faults of an acquirer. "late-reversal" is no fault of the line.
ONCE = ("silence", "disconnect-before", "disconnect-after", "garbage", "half-frame", "refuse", "late-reversal")
ONCE += ("wrong-mac", "missing-mac")
# Messages that contradict the payment which they name, before the right ones.
CONTRADICTING = ("wrong-card", "wrong-currency", "wrong-amount")
CHANGES = ("0100", "0220", "0400", "0420")


def wide_config(dice: random.Random) -> SwitchConfig:
    """The configuration of one scenario."""
    acquirers: list[dict[str, Any]] = [
        *TABLE["acquirer"],
        {
            "name": "branch", "listen": "branch:1", "dialect": "iso87-bcd", "framing": "4-byte-be", "header": "tpdu",
            "pin_key": "zpk-branch", "mac_key": "zak-branch", "mac_management": True, "trace_element": 63,
        },
        {"name": "abroad", "listen": "abroad:1", "dialect": dice.choice(ABROAD), "trace_element": 63},
    ]  # fmt: skip
    issuers: list[dict[str, Any]] = [
        *({**issuer, **SHARED} for issuer in TABLE["issuer"]),
        {
            "name": "gamma", "address": "gamma:1", "dialect": dice.choice(GAMMA), "framing": "2-byte-be",
            "pin_key": "zpk-gamma", "mac_key": "zak-gamma", **SHARED,
        },
        {
            "name": "net", "address": "net:1", "dialect": "iso87-ebcdic", "pin_key": "zpk-net", "mac_key": "zak-net",
            "connections": 2, **SHARED,
        },
    ]  # fmt: skip
    routes = [
        {"prefix": "4", "issuer": "alpha", "alternates": ["gamma"], "country": "US"},
        {"prefix": "5", "issuer": "beta", "country": "DE"},
        {"prefix": "37", "weights": {"gamma": 2, "alpha": 1}, "country": "US"},
        {"prefix": "60", "issuer": "net", "country": "US"},
        {"prefix": "35", "issuer": "net", "alternates": ["beta"], "country": "JP"},
    ]
    stand_in = {
        "issuer": "beta", "on_timeout": dice.random() < 0.5, "floor_minor": {"EUR": 5_000, "USD": 3_000},
        "count_1h": dice.choice([5, 50]),
    }  # fmt: skip
    breaker = {"failures": dice.choice([3, 10]), "minimum": 6, "window_s": 5.0, "open_s": dice.choice([0.5, 3.0])}
    return switch_config(
        TABLE
        | {"acquirer": acquirers, "issuer": issuers, "route": routes, "stand_in": [stand_in], "breaker": [breaker]}
    )


def weather(dice: random.Random, links: tuple[str, ...], *, steady: bool) -> dict[str, Weather]:
    """Delays and breaks on the way to each link; no breaks where it is `steady`."""

    def draw() -> Weather:
        slow = dice.choice([0.002, 0.02, 0.3])
        return Weather(delay_s=(0.0002, slow), break_rate=0.0 if steady else dice.choice([0.0, 0.0, 0.01, 0.05]))

    return {f"{link}:1": draw() for link in links}


def faults(
    dice: random.Random, issuers: tuple[str, ...], *, twice: bool, steady: bool
) -> dict[str, tuple[FaultRule, ...]]:
    """Rules for issuers and acquirers.

    Args:
        twice: whether acquirers may send the same thing twice at once.
        steady: whether the connections of issuers last, so that both of two answers arrive.
    """
    kinds = STEADY_KINDS if steady else ISSUER_KINDS
    found = {name: tuple(_issuer_rule(dice, kinds) for _ in range(dice.randint(0, 3))) for name in issuers}
    if steady:
        second = FaultRule(kind=SECOND_ANSWERS, mti=ONLINE, rate=0.2)
        found = {name: (second, *rules) for name, rules in found.items()}
    for name in ACQUIRERS:
        own = TWICE + ONCE[:7] if twice else ONCE
        found[name] = tuple(_acquirer_rule(dice, own) for _ in range(dice.randint(0, 2)))
    more = random.Random(repr(found))  # dice of their own: a seed keeps its other faults
    for name in ACQUIRERS:
        found[name] += (FaultRule(kind=more.choice(CONTRADICTING), mti=CHANGES, rate=more.choice([0.05, 0.2])),)  # type: ignore[arg-type]
    return found


def _issuer_rule(dice: random.Random, kinds: tuple[str, ...]) -> FaultRule:
    kind: Any = dice.choice(kinds)
    mti = ONLINE if kind == "decline" else dice.choice([ONLINE, ("*",), ADVICES])
    booked = dice.choice([None, False]) if kind in ("silence", "disconnect-before") else None
    delay_s, rate = DELAYS_S.get(kind, 0.0), dice.choice([0.05, 0.2, 0.5])
    if kind in ("refuse", "half-frame"):
        rate = 0.05  # each of them costs seconds of everything
    return FaultRule(kind=kind, mti=mti, rate=rate, booked=booked, delay_s=delay_s, listening=dice.random() < 0.5)


def _acquirer_rule(dice: random.Random, kinds: tuple[str, ...]) -> FaultRule:
    kind: Any = dice.choice(kinds)
    mti = dice.choice([ONLINE, ("*",), ADVICES])
    return FaultRule(kind=kind, mti=mti, rate=dice.choice([0.02, 0.1]), delay_s=DELAYS_S.get(kind, 0.0))
