"""The PKCS#11 operations that every payment needs, without python-pkcs11's work around each of them.

A key object of python-pkcs11 goes in; a function comes out that takes what the object's method takes (bytes,
`mechanism`, `mechanism_param`) and gives what it gives, some microseconds sooner. A call that the library refuses is
repeated through the object, which knows the meaning of its errors. Called by `hsm.keys.token_keys` and
`hsm.keys.token_keyring`, on the one PKCS#11 thread; `hsm.keys.token` says which library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pkcs11 import Mechanism
from pkcs11.exceptions import SessionHandleInvalid

Operation = Callable[..., bytes]

_BUFFER_BYTES = 1 << 17  # more than a frame of the socket, and so than any result
# Places in CK_FUNCTION_LIST, behind the version. Source: PKCS#11 2.40, pkcs11f.h.
_PLACES = {"encrypt": (29, 30), "decrypt": (33, 34), "sign": (42, 43)}

_ULONG, _POINTER = ctypes.c_ulong, ctypes.c_void_p
# With Python's lock held: giving it up and taking it again costs a good part of the call, and waits for other threads.
_INIT = ctypes.PYFUNCTYPE(_ULONG, _ULONG, _POINTER, _ULONG)
_DO = ctypes.PYFUNCTYPE(_ULONG, _ULONG, ctypes.c_char_p, _ULONG, _POINTER, _POINTER)


class _Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (("mechanism", _ULONG), ("parameter", _POINTER), ("parameter_length", _ULONG))


class _GcmParameters(ctypes.Structure):
    """CK_GCM_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_char_p),
        ("nonce_length", _ULONG),
        ("nonce_bits", _ULONG),
        ("associated", ctypes.c_char_p),
        ("associated_length", _ULONG),
        ("tag_bits", _ULONG),
    )


class DirectCalls:
    """The functions of a PKCS#11 library that python-pkcs11 has loaded and initialised.

    Args:
        module: its path.
    Raises:
        OSError: it has no function list.
    """

    def __init__(self, module: str) -> None:
        self._library = ctypes.PyDLL(module)  # the same one: a library is loaded once
        table = _POINTER()
        get_list = self._library.C_GetFunctionList
        get_list.argtypes, get_list.restype = (_POINTER,), _ULONG
        if get_list(ctypes.byref(table)) or not table.value:
            raise OSError(f"{module} has no function list")
        # The version has two bytes; pointers are aligned behind it.
        functions = (_POINTER * 44).from_address(table.value + ctypes.sizeof(_POINTER))
        self._pairs = {
            name: (_INIT(functions[first] or 0), _DO(functions[second] or 0))
            for name, (first, second) in _PLACES.items()
        }
        self.stale = False  # set when the library was opened again: handles count from the start then
        self._buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._length = _ULONG(0)

    def operation(self, key: Any, name: str) -> Operation:
        """Return `key.encrypt`, `key.decrypt` or `key.sign`, direct."""
        begin, do = self._pairs[name]
        session, handle, indirect = key.session.handle, key.handle, getattr(key, name)
        buffer, length = memoryview(self._buffer).cast("B"), self._length
        at, length_at = ctypes.addressof(self._buffer), ctypes.addressof(length)
        mechanisms: dict[Mechanism, tuple[_Mechanism, int]] = {}

        def operation(data: bytes, mechanism: Mechanism, mechanism_param: Any = None) -> bytes:
            if self.stale:
                raise SessionHandleInvalid  # a number from before may be another key's now
            known = mechanisms.get(mechanism)
            if known is None:
                made = _Mechanism(mechanism.value, None, 0)
                known = mechanisms[mechanism] = (made, ctypes.addressof(made))
            # Memory that the library reads through a pointer must live until the call is over.
            _alive = None if mechanism_param is None else _with_parameter(known[0], mechanism_param)
            length.value = _BUFFER_BYTES
            if begin(session, known[1], handle) or do(session, data, len(data), at, length_at):
                buffer[: len(data)] = bytes(min(len(data), _BUFFER_BYTES))
                return indirect(data, mechanism=mechanism, mechanism_param=mechanism_param)  # type: ignore[no-any-return]
            count = length.value
            result = bytes(buffer[:count])
            buffer[:count] = bytes(count)  # it may have been a PIN block
            return result

        return operation


_calls: DirectCalls | None = None


def use_library(module: str) -> None:
    """Call this library, which is loaded, directly from now on."""
    global _calls
    if _calls is not None:
        _calls.stale = True
    try:
        _calls = DirectCalls(module)
    except (OSError, AttributeError):
        _calls = None  # python-pkcs11 knows how to talk to it, or says why not


def direct(key: Any, name: str) -> Operation:
    """Return the operation `name` of a key object: encrypt, decrypt or sign.

    Raises:
        AttributeError: the token does not let the key do it.
    """
    method: Operation = getattr(key, name)
    return method if _calls is None else _calls.operation(key, name)


def _with_parameter(mechanism: _Mechanism, parameter: Any) -> Any:
    """Put bytes or GCMParams into a mechanism; return what must stay alive."""
    if isinstance(parameter, bytes):
        alive: Any = ctypes.c_char_p(parameter)
        mechanism.parameter = ctypes.cast(alive, _POINTER).value
        mechanism.parameter_length = len(parameter)
        return alive
    nonce, associated = parameter.nonce, parameter.aad or b""
    alive = _GcmParameters(nonce, len(nonce), 8 * len(nonce), associated, len(associated), parameter.tag_bits)
    mechanism.parameter = ctypes.addressof(alive)
    mechanism.parameter_length = _GCM_BYTES
    return alive


_GCM_BYTES = ctypes.sizeof(_GcmParameters)
