"""Issuers that go away and come back, and their messages, for tests of routing, stand-in and stored advices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from messages.message import Message
from simulators.issuer.actions import Action
from switch.config import SwitchConfig, switch_config
from tests.simulation.world import TABLE, World


def configured(**sections: Any) -> SwitchConfig:
    """The world's configuration with other sections."""
    return switch_config(TABLE | sections)


def down(world: World, name: str) -> None:
    """The issuer's link breaks, and nobody takes a new connection."""
    world.network.refusing.add(f"{name}:1")
    world.network.cut(f"{name}:1")


def up(world: World, name: str) -> None:
    """It takes connections again; the switch dials within its back-off."""
    world.network.refusing.discard(f"{name}:1")


def heard(world: World, name: str) -> list[Message]:
    """A list that grows with every message that the issuer receives from now on, network management aside."""
    issuer: Any = world.issuers[name].issuer
    messages: list[Message] = []
    receive = issuer.receive

    def listening(message: Message, now: datetime) -> list[Action]:
        if not message.mti.startswith("08"):
            messages.append(message)
        actions: list[Action] = receive(message, now)
        return actions

    issuer.receive = listening
    return messages
