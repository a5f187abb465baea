"""A private SoftHSM 2 token on first start.

A directory goes in; afterwards it holds `softhsm2.conf`, `tokens/`, `pins.json` (mode 0600) and, as the last thing
written, `initialised`. Called by `hsm.keys.token` before the library is loaded. python-pkcs11 cannot initialise a token
and `softhsm2-util` takes PINs as arguments, which every user of the machine can read: so C_InitToken is called here.
"""

from __future__ import annotations

import ctypes
import os
import secrets
from pathlib import Path

import msgspec

from hsm.errors import TokenError

CKF_SERIAL_SESSION = 0x4
CKF_RW_SESSION = 0x2
CKU_SO = 0
_LABEL_BYTES = 32

_CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
objectstore.umask = 0077
log.level = ERROR
slots.removable = false
"""


class Pins(msgspec.Struct, frozen=True):
    """The PINs of the token: `user` works with keys, `officer` initialises."""

    user: str
    officer: str

    def __repr__(self) -> str:
        return "Pins(…)"


def prepare_softhsm(directory: Path, module: str, label: str) -> tuple[Pins, bool]:
    """Point this process at the private token in `directory`, making the token where there is none yet.

    Returns:
        The PINs, and whether the token is new: then `finish_softhsm` must be called once its keys exist. A token
        whose first start was cut off holds nothing that was ever used, and is made again.
    Raises:
        TokenError: the directory cannot be written, or the library refuses.
    """
    tokens, configuration, pins_file = directory / "tokens", directory / "softhsm2.conf", directory / "pins.json"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_CONFIGURATION.format(tokens=tokens.resolve()))
        os.environ["SOFTHSM2_CONF"] = str(configuration.resolve())
        if (directory / "initialised").exists():
            return msgspec.json.decode(pins_file.read_bytes(), type=Pins), False
        if (directory / "keys.json").exists():
            raise TokenError(f"{directory}: keys are here but their token is not; restore it from a backup")
        _set_aside(tokens)
        _set_aside(pins_file)
        _set_aside(directory / "backup")
        tokens.mkdir(mode=0o700)
        pins = Pins(user=secrets.token_hex(16), officer=secrets.token_hex(16))
        write_private(pins_file, msgspec.json.encode(pins))
    except (OSError, msgspec.DecodeError) as error:
        raise TokenError(f"{directory}: cannot prepare the token: {error}") from None
    _initialise(module, label, pins)
    return pins, True


def finish_softhsm(directory: Path) -> None:
    """Say that the token is complete; from here on it is never made again."""
    write_private(directory / "initialised", b"")


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once or not at all, mode 0600, durable when this returns.

    Raises:
        OSError: the directory cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _fsync(path.parent)


def make_durable(directory: Path) -> None:
    """Bring all files below a directory, and their names, to the disk: SoftHSM leaves that to the system.

    Raises:
        TokenError: they cannot be read.
    """
    try:
        for parent, _, names in os.walk(directory):
            for name in names:
                _fsync(Path(parent, name))
            _fsync(Path(parent))
    except OSError as error:
        raise TokenError(f"{directory}: {error.strerror}") from None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(path: Path) -> None:
    # Never deleted: should somebody have lost the file `initialised`, the token is still there.
    if path.exists():
        number = 1
        while (aside := path.with_name(f"{path.name}.unfinished-{number}")).exists():
            number += 1
        path.rename(aside)


def _initialise(module: str, label: str, pins: Pins) -> None:
    library = ctypes.CDLL(module)
    user, officer = pins.user.encode(), pins.officer.encode()

    def call(function: str, *arguments: object) -> None:
        code = getattr(library, function)(*arguments)
        if code:
            raise TokenError(f"{function} failed with {code:#x}")

    call("C_Initialize", None)
    try:
        count = ctypes.c_ulong()
        call("C_GetSlotList", ctypes.c_ubyte(0), None, ctypes.byref(count))
        slots = (ctypes.c_ulong * count.value)()
        call("C_GetSlotList", ctypes.c_ubyte(0), slots, ctypes.byref(count))
        slot = ctypes.c_ulong(slots[count.value - 1])  # SoftHSM's last slot is the free one
        padded = label.encode().ljust(_LABEL_BYTES)[:_LABEL_BYTES]
        call("C_InitToken", slot, officer, ctypes.c_ulong(len(officer)), padded)
        session = ctypes.c_ulong()
        flags = ctypes.c_ulong(CKF_SERIAL_SESSION | CKF_RW_SESSION)
        call("C_OpenSession", slot, flags, None, None, ctypes.byref(session))
        call("C_Login", session, ctypes.c_ulong(CKU_SO), officer, ctypes.c_ulong(len(officer)))
        call("C_InitPIN", session, user, ctypes.c_ulong(len(user)))
        call("C_CloseSession", session)
    finally:
        call("C_Finalize", None)
