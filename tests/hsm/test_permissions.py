"""Rights of callers and keys, through the service.

Every caller by every command, and every usage and mode of a key by every place in a command that names one.
 Both are walked from tables, so that nothing is forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from structlog.testing import capture_logs

from console.bench.hsm_commands import KEYS, BenchCard, Requests
from hsm.audit import read_records
from hsm.callers import CALLERS, COMMANDS
from hsm.card_commands import (
    CardRequest,
    CardValue,
    ChangePin,
    GenerateCardValue,
    GeneratePinReference,
    Ibm3624,
    ProtectScript,
    VerifyCardValue,
    VisaPvv,
)
from hsm.commands import Dispatch, GenerateMac, Screen, VerifyMac
from hsm.engine import Engine, NewCard
from hsm.key_commands import KeyList
from hsm.key_uses import USES
from hsm.keys.attributes import ALGORITHMS, MODES, USAGES, KeyAttributes
from hsm.keys.keyring import HeldKey
from hsm.keys.permissions import Operation, permitted
from hsm.service import Service
from hsm.software import SoftwareKeyring, software_keys
from hsm.vault.cards import CardCache, Numbers
from hsm.vault_commands import VaultRequest
from hsm.wire import REQUESTS, Refused, Unavailable
from tests.hsm.test_service import Caller, service_over

PAN = "4242424242424242"
_KINDS = {"T": 24, "A": 32, "H": 32}
# A key of every usage, algorithm and mode, whether or not any role makes such a one.
COMBINATIONS = [(usage, algorithm, mode) for usage in USAGES for algorithm in ALGORITHMS for mode in MODES]


def sample(kind: Any) -> Any:
    """Make a value of a type, with what must be there and nothing else."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        needed = [field.name for field in msgspec.structs.fields(kind) if field.required]
        hints = get_type_hints(kind)
        return kind(**{name: sample(hints[name]) for name in needed})
    if get_args(kind) and getattr(kind, "__origin__", None) is not tuple:
        return sample(get_args(kind)[0])
    return {str: "x", bytes: b"", int: 0, bool: False}.get(kind, ())


class Bench:
    """A service over clear keys: those of the benchmark, and one of every combination."""

    def __init__(self, directory: Path) -> None:
        keys = software_keys(KEYS, seed=7)
        self.keyring = SoftwareKeyring(keys, bytes(32), bytes(32))
        engine = Engine(self.keyring, CardCache(10), Numbers())
        found = engine.identify(PAN, "3012")
        assert isinstance(found, NewCard)
        engine.cards.add(found.candidate)
        others = [kind for kind in REQUESTS if kind not in engine.handlers and USES[kind].keys is not None]
        self.service: Service = service_over(engine, directory, dict.fromkeys(others, lambda _: KeyList(())))
        self.caller = Caller()
        clear = {name: key.value for name, key in keys.items()}
        commands = Requests(clear, [BenchCard(PAN, found.candidate.token)]).commands([], [])
        self.valid = [request for command in commands for request in command.requests]
        self.token = found.candidate.token
        self._add(self.token)

    def _add(self, token: str) -> None:
        """Requests that the benchmark does not send."""
        verify_pvv, verify_offset = (
            next(request for request in self.valid if isinstance(getattr(request, "method", None), kind))
            for kind in (VisaPvv, Ibm3624)
        )
        pin = verify_pvv.pin
        for method in (verify_pvv.method, verify_offset.method):
            self.valid.append(ChangePin(old=pin, new=pin, method=method, token=token))
            given = {"pvv": ""} if isinstance(method, VisaPvv) else {"offset": ""}
            made = msgspec.structs.replace(method, **given)
            self.valid.append(GeneratePinReference(pin=pin, method=made, token=token))
        script = next(request for request in self.valid if isinstance(request, ProtectScript))
        visa = msgspec.structs.replace(script, confidential=b"", pin=pin, current_pin=pin, ac_key="imk-ac", trace_id="")
        self.valid.append(visa)
        checked = next(request for request in self.valid if isinstance(request, Screen) and request.mac is not None)
        assert checked.mac is not None
        self.valid.append(VerifyMac(check=checked.mac))
        dukpt = next(request for request in self.valid if getattr(getattr(request, "pin", None), "ksn", b""))
        self.valid.append(
            Dispatch(token=token, pin_block=dukpt.pin.block, pin_key_in="bdk", pin_key_out="zpk-out", ksn=dukpt.pin.ksn)
        )
        dynamic = CardValue(kind="dcvv", key="imk-dcvv", expiry="3012", service_code="201", atc="0001")
        self.valid += [
            GenerateCardValue(card_value=dynamic, token=token),
            VerifyCardValue(card_value=dynamic, value="000", token=token),
        ]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("permissions"))


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: str(kind.__struct_config__.tag))
@pytest.mark.parametrize("caller", CALLERS)
def test_caller_by_command(bench: Bench, caller: str, kind: type) -> None:
    tag = str(kind.__struct_config__.tag)  # type: ignore[attr-defined]
    asker = Caller(caller, frozenset(COMMANDS[permitted] for permitted in CALLERS[caller]))
    request = sample(kind)
    if getattr(request, "token", ""):
        request = msgspec.structs.replace(request, token=bench.token)
    answer = asker.ask(bench.service, request)
    if tag in CALLERS[caller]:
        assert not (isinstance(answer, Refused) and answer.code == "not_permitted")
        assert not isinstance(answer, Unavailable), answer
    else:
        assert answer == Refused("not_permitted", f"{caller} may not send {tag}")
        bench.service.audit.flush()
        *_, last = read_records(bench.service.audit._directory)
        assert (last["caller"], last["command"], last["outcome"]) == (caller, tag, "not_permitted")


def reference(generate: bool) -> Callable[[Any], Operation]:
    def operation(request: Any) -> Operation:
        if isinstance(request.method, VisaPvv):
            return Operation.PVV_GENERATE if generate else Operation.PVV_VERIFY
        return Operation.OFFSET_GENERATE if generate else Operation.OFFSET_VERIFY

    return operation


def card_value(static: Operation) -> Callable[[Any], Operation]:
    return lambda request: Operation.DYNAMIC_CARD_VALUE if request.card_value.kind == "dcvv" else static


# Every place that names a key, with what is done with it there.
PLACES: dict[tuple[str, str], Operation | Callable[[Any], Any]] = {
    ("screen", "mac.key"): Operation.MAC_VERIFY,
    ("dispatch", "pin_key_in"): lambda request: Operation.DUKPT_PIN if request.ksn else Operation.PIN_DECRYPT,
    ("dispatch", "pin_key_out"): Operation.PIN_ENCRYPT,
    ("dispatch", "mac.key"): Operation.MAC_GENERATE,
    ("mac", "key"): Operation.MAC_GENERATE,
    ("verify_mac", "check.key"): Operation.MAC_VERIFY,
    ("translate_pin", "pin.key"): lambda request: Operation.DUKPT_PIN if request.pin.ksn else Operation.PIN_DECRYPT,
    ("translate_pin", "key_out"): Operation.PIN_ENCRYPT,
    ("verify_pin", "pin.key"): Operation.PIN_DECRYPT,
    ("verify_pin", "method.key"): reference(False),
    ("pin_reference", "pin.key"): Operation.PIN_DECRYPT,
    ("pin_reference", "method.key"): reference(True),
    ("change_pin", "old.key"): Operation.PIN_DECRYPT,
    ("change_pin", "new.key"): Operation.PIN_DECRYPT,
    ("change_pin", "method.key"): lambda request: (
        reference(False)(request),
        reference(True)(request),
    ),
    ("card_value", "card_value.key"): card_value(Operation.CARD_VALUE_GENERATE),
    ("verify_card_value", "card_value.key"): card_value(Operation.CARD_VALUE_VERIFY),
    ("verify_cryptogram", "key"): Operation.CRYPTOGRAM,
    ("protect_script", "mac_key"): Operation.SCRIPT_INTEGRITY,
    ("protect_script", "encryption_key"): Operation.SCRIPT_CONFIDENTIALITY,
    ("protect_script", "ac_key"): Operation.CRYPTOGRAM,
    ("protect_script", "pin.key"): Operation.PIN_DECRYPT,
    ("protect_script", "current_pin.key"): Operation.PIN_DECRYPT,
}


def key_places(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Find the places of a command that name a key, by the names of fields."""
    for field in msgspec.structs.fields(kind):
        hint = get_type_hints(kind)[field.name]
        if re.fullmatch(r"key|key_out|pin_key_(in|out)|\w+_key", field.name) and field.name != "ksn_key":
            yield field.name
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct) and "key" in part.__struct_fields__:
                yield f"{field.name}.key"
                break


def test_every_place_that_names_a_key_is_in_the_table() -> None:
    kinds = (Screen, Dispatch, GenerateMac, VerifyMac, *get_args(CardRequest))
    assert set(PLACES) == {(str(kind.__struct_config__.tag), place) for kind in kinds for place in key_places(kind)}
    # The vault's commands name none: their key is the configuration's. Those of keys are in test_key_desk.
    assert not [place for kind in get_args(VaultRequest) for place in key_places(kind)]


def test_the_audit_names_every_key_of_a_command(bench: Bench) -> None:
    for request in bench.valid:
        names = USES[type(request)].keys
        if names is not None and type(request) in bench.service.engine.handlers:
            tag = str(type(request).__struct_config__.tag)
            told = {value for (of, place) in PLACES if of == tag if (value := get(request, place))}
            assert told == set(names(request)), request


def get(request: Any, place: str) -> str:
    """Return the key name at a place, empty where there is none."""
    value = request
    for name in place.split("."):
        value = getattr(value, name) if value is not None else ""
    return value or ""


def put(request: Any, place: str, name: str) -> Any:
    """Return the request with another key at a place."""
    first, _, rest = place.partition(".")
    value = put(getattr(request, first), rest, name) if rest else name
    return msgspec.structs.replace(request, **{first: value})


@pytest.mark.parametrize(("tag", "place"), PLACES, ids=lambda value: value)
def test_usage_and_mode_by_command(bench: Bench, tag: str, place: str) -> None:
    requests = [
        request for request in bench.valid if type(request).__struct_config__.tag == tag and get(request, place)
    ]
    assert requests, "no valid request to try it with"
    for request in requests:
        rule = PLACES[tag, place]
        done = rule if isinstance(rule, Operation) else rule(request)
        operations = done if isinstance(done, tuple) else (done,)
        held = bench.keyring._keys.get(get(request, place), (None,))[0]
        assert held is None or all(permitted(operation, held.attributes) for operation in operations)
        for usage, algorithm, mode in COMBINATIONS:
            attributes = KeyAttributes(usage=usage, algorithm=algorithm, mode=mode, length=_KINDS[algorithm])
            key: Any = held.key if held is not None else object()
            bench.keyring.replace("other", (HeldKey("other", 1, attributes, "", key),))
            answer = bench.caller.ask(bench.service, put(request, place, "other"))
            if not all(permitted(operation, attributes) for operation in operations):
                assert isinstance(answer, Refused) and answer.code == "key_usage", (usage, algorithm, mode, answer)
            elif held is not None and (algorithm, usage) == (held.attributes.algorithm, held.attributes.usage):
                assert not isinstance(answer, Refused | Unavailable), (usage, algorithm, mode, answer)
