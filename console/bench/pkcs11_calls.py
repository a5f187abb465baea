"""Speed of the PKCS#11 library by itself, for `cardswitch bench hsm`: a process of its own, one thread, no socket.

A copy of the HSM's token and a command's requests go in. Each request is answered once, as the HSM answers it, while
its calls of the library are taken down; then exactly these calls are made again and again, and nothing else. Started by
`console.bench.hsm`, which asks line by line.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pkcs11._pkcs11
import pkcs11.types

from console.bench.hsm_commands import EXPIRY
from hsm.commands import Screen
from hsm.config import HsmConfig
from hsm.engine import Engine, NewCard
from hsm.keys import token
from hsm.keys.direct_calls import DirectCalls
from hsm.keys.holder import Keyholder
from hsm.vault.cards import CardCache, Numbers
from hsm.vault_commands import ResolveToken, Tokenize
from hsm.wire import decode_request


class BareQuestion(msgspec.Struct, frozen=True):
    """Requests as on the wire, the PANs of their cards in the same order, and how long to measure; without requests
    those before are meant."""

    requests: list[bytes]
    pans: list[str]
    seconds: float


class BareFigures(msgspec.Struct, frozen=True):
    """`per_s` is how often all calls of one command were made through python-pkcs11, `direct_per_s` by
    `hsm.keys.direct_calls`, as the HSM makes them; 0 where a command makes none."""

    per_s: float
    direct_per_s: float
    calls: int


class Settings(msgspec.Struct, frozen=True):
    """The first line."""

    config: HsmConfig
    state: str


class Recorder:
    """Takes down calls of the library while `calls` is a list; put in place before the first key is opened."""

    def __init__(self, module: str) -> None:
        self.calls: list[Callable[[], Any]] | None = None
        self.direct: list[Callable[[], Any]] = []
        self._module = module
        self._library: DirectCalls | None = None
        self._derived: dict[int, list[Any]] = {}  # by id of a key that was derived on the way: the one of this round
        vars(token)["use_library"] = lambda module: None  # all calls are python-pkcs11's, none direct
        types: Any = pkcs11.types
        library: Any = pkcs11._pkcs11
        self._watch(types.EncryptMixin, "encrypt")
        self._watch(types.DecryptMixin, "decrypt")
        self._watch(types.SignMixin, "sign")
        self._watch(library.Object, "destroy")
        self._watch_derive(library.DeriveMixin)

    def _watch(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(key: Any, *arguments: Any, **named: Any) -> Any:
            if self.calls is not None:
                place = self._derived.get(id(key))
                if place is None:
                    self.calls.append(partial(original, key, *arguments, **named))
                    self.direct.append(partial(self._direct(key, name), *arguments, **named))
                else:
                    again = self._again(original, place, arguments, named)
                    self.calls.append(again)
                    self.direct.append(again)
            return original(key, *arguments, **named)

        setattr(owner, name, watched)

    def _direct(self, key: Any, name: str) -> Callable[..., bytes]:
        if self._library is None:
            self._library = DirectCalls(self._module)
        return self._library.operation(key, name)

    @staticmethod
    def _again(original: Any, place: list[Any], arguments: Any, named: dict[str, Any]) -> Callable[[], Any]:
        return lambda: original(place[0], *arguments, **named)

    def _watch_derive(self, owner: Any) -> None:
        original = owner.derive_key

        def watched(key: Any, *arguments: Any, **named: Any) -> Any:
            made = original(key, *arguments, **named)
            if self.calls is not None:
                parent, place = self._derived.get(id(key), [key]), [made]
                self._derived[id(made)] = place
                # The parameter points to memory that is the caller's: keep a copy for as long as it is asked again.
                address, length = struct.unpack("@PN", named["mechanism_param"])
                copy = ctypes.create_string_buffer(ctypes.string_at(address, length), length)
                again = {**named, "mechanism_param": struct.pack("@PN", ctypes.addressof(copy), length)}
                derive = partial(self._derive_again, original, parent, place, arguments, again, copy)
                self.calls.append(derive)
                self.direct.append(derive)
            return made

        owner.derive_key = watched

    @staticmethod
    def _derive_again(
        original: Any, parent: list[Any], place: list[Any], arguments: Any, named: dict[str, Any], _: object
    ) -> None:
        place[0] = original(parent[0], *arguments, **named)


Rounds = list[list[Callable[[], Any]]]


def taken_down(engine: Engine, recorder: Recorder, question: BareQuestion) -> tuple[Rounds, Rounds]:
    """Answer each request once; return its calls, through python-pkcs11 and direct."""
    rounds: Rounds = []
    direct: Rounds = []
    pans = iter(question.pans)
    for body in question.requests:
        request: Any = decode_request(body)
        pan = next(pans, "")
        if getattr(request, "token", ""):
            request = msgspec.structs.replace(request, token=known_card(engine, pan))
        elif isinstance(request, Screen):
            known_card(engine, pan)
        recorder.calls, recorder.direct = [], []
        if isinstance(request, Tokenize):
            engine.identify(request.pan, request.expiry)
        elif not isinstance(request, ResolveToken):
            engine.handlers[type(request)](request)
        rounds.append(recorder.calls)
        direct.append(recorder.direct)
        recorder.calls = None
    return rounds, direct


def measure(rounds: Rounds, direct: Rounds, seconds: float) -> BareFigures:
    """Make the calls again for as long as is asked."""
    if not rounds[0]:
        return BareFigures(0.0, 0.0, 0)
    return BareFigures(_rate(rounds, seconds / 2), _rate(direct, seconds / 2), len(rounds[0]))


def _rate(rounds: Rounds, seconds: float) -> float:
    """Return how many rounds a second are made."""
    done, began = 0, time.perf_counter()
    until = began + seconds
    while (now := time.perf_counter()) < until:
        for calls_of_one in rounds:
            for call in calls_of_one:
                call()
        done += len(rounds)
    return done / (now - began)


def known_card(engine: Engine, pan: str) -> str:
    """Return the token of a card, which is in the cache afterwards."""
    found = engine.identify(pan, EXPIRY)
    if isinstance(found, NewCard):
        engine.cards.add(found.candidate)
        return found.candidate.token
    return found.token


def main(questions: BinaryIO, answers: BinaryIO) -> None:
    """Open the token and answer a line for a line until there are no more."""
    settings = msgspec.json.decode(questions.readline(), type=Settings)
    recorder = Recorder(settings.config.module_path())
    keyholder = Keyholder(settings.config, Path(settings.state))
    keyring, _ = keyholder.open()
    engine = Engine(keyring, CardCache(100_000), Numbers())
    rounds: Rounds = []
    direct: Rounds = []
    answers.write(b"{}\n")
    answers.flush()
    for line in questions:
        question = msgspec.json.decode(line, type=BareQuestion)
        if question.requests:
            rounds, direct = taken_down(engine, recorder, question)
        figures = measure(rounds, direct, question.seconds)
        answers.write(msgspec.json.encode(figures) + b"\n")
        answers.flush()
    keyholder.close()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
