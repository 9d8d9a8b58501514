"""Where a thread may be broken off, and how an exception is set there and nowhere else.

An exception that is set from another thread is raised between two bytecodes, wherever the
thread happens to be. There are places where that does harm for good: in an import a module
stays half made; between the acquisition of a lock and the `try` whose `finally` releases it
the lock stays locked; in a finalizer the interpreter prints the exception and drops it.
`place_of` tells such places by the frames of the thread.

A thread that does not hold the interpreter lock stands at one bytecode, and an exception that
is set then is raised there: at once, or when the C function that it has called returns. So it
is enough that the thread has not moved between the reading of its frames and the call that sets
the exception. `set_if_at` sees to that.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from enum import Enum
from operator import methodcaller
from threading import Condition, Lock, get_ident
from types import CodeType, FrameType

from erlang_port.hints import Any, TypeVar

# Keeps the interpreter lock while it runs, unlike other foreign functions.
_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Place(Enum):
    """What a thread is doing."""

    #: What may be broken off.
    OPEN = 0
    #: What may not.
    CLOSED = 1


_IMPORTING = frozenset(
    (
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "zipimport",
    )
)

#: What these count, and whom they wake, must be whole, even where their locks are released.
_SYNCHRONIZING = frozenset(("threading", "queue", "multiprocessing.queues", "multiprocessing.pool"))

#: What these hold for others, between the return of what they call and their own.
_MANAGING = frozenset(("contextlib", "weakref", "_weakrefset", "_threading_local"))

#: What a thread calls in which an interrupt is to be raised.
_CALLBACKS = "erlang_port.runtime.monitoring"

#: Names by which the standard library handles locks.
_LOCKING = frozenset(("lock", "rlock", "mutex", "cond", "condition", "acquire", "release"))


def place_of(frame: FrameType, base: CodeType) -> Place:
    """What a thread is doing whose innermost frame is this one, at any of its bytecodes.

    What runs `base`, or serves requests, is no user code any more.
    """
    module = _module_of(frame)
    if module in _MANAGING or (module not in _SYNCHRONIZING and _is_locking(frame, module)):
        return Place.CLOSED
    # Whoever waits for a condition is written for an exception there, as it is for
    # KeyboardInterrupt: up to the `with` of the user's own code.
    is_waiting = frame.f_code is Condition.wait.__code__ and _is_protected(frame)
    finalizers = _gc_callbacks()
    place = Place.OPEN
    here: FrameType | None = frame
    while here is not None and here.f_code is not base:
        module = _module_of(here)
        if module.startswith("erlang_port.requests."):
            break
        if module in _IMPORTING:
            return Place.CLOSED
        is_waiting = is_waiting and module in _SYNCHRONIZING
        if module in _SYNCHRONIZING and not is_waiting:
            place = Place.CLOSED
        if here.f_code.co_name == "__del__" or here.f_code in finalizers:
            place = Place.CLOSED
        here = here.f_back
    return place


def place_of_call(frame: FrameType, base: CodeType) -> Place:
    """The same where the exception is raised by what the frame calls.

    Code that handles locks expects one there.
    """
    finalizers = _gc_callbacks()
    here: FrameType | None = frame
    while here is not None and here.f_code is not base:
        module = _module_of(here)
        if module.startswith("erlang_port.requests."):
            break
        if module in _IMPORTING:
            return Place.CLOSED
        if here.f_code.co_name == "__del__" or here.f_code in finalizers:
            return Place.CLOSED
        here = here.f_back
    return Place.OPEN


def open_codes(frame: FrameType, base: CodeType) -> dict[int, CodeType]:
    """The code of a thread whose innermost frame is this one, by identity, without what may not
    be broken off and what that calls.
    """
    codes: dict[int, CodeType] = {}
    finalizers = _gc_callbacks()
    here: FrameType | None = frame
    while here is not None:
        module, code = _module_of(here), here.f_code
        if (
            module in _IMPORTING
            or module == _CALLBACKS
            or code.co_name == "__del__"
            or code in finalizers
        ):
            codes.clear()
        else:
            codes[id(code)] = code
        if code is base or module.startswith("erlang_port.requests."):
            break
        here = here.f_back
    return codes


def _module_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""


def _is_of_lock(name: str) -> bool:
    """Whether one of the words of a name is: `_acquireLock`, `not_empty_lock`."""
    return not _LOCKING.isdisjoint(name.removesuffix("Lock").split("_"))


def _is_locking(frame: FrameType, module: str) -> bool:
    """Whether it handles locks of the standard library, without a handler just now."""
    return (
        module.partition(".")[0] in sys.stdlib_module_names
        and any(map(_is_of_lock, frame.f_code.co_names))
        and not _is_protected(frame)
    )


def _gc_callbacks() -> set[CodeType]:
    codes = set()
    for callback in gc.callbacks:
        for function in (callback, getattr(callback, "func", None), type(callback).__call__):
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                codes.add(code)
    return codes


def _is_protected(frame: FrameType) -> bool:
    """Whether a `try` or a `with` in its code handles what is raised there."""
    return any(frame.f_lasti in offsets for offsets in _protected(frame.f_code))


@functools.lru_cache(maxsize=1024)
def _protected(code: CodeType) -> tuple[range | frozenset[int], ...]:
    """The offsets for which there is a handler."""
    import dis  # Which takes long, and few workers need it.

    if sys.version_info < (3, 11):
        return (_protected_by_blocks(code),)
    bytecode: Any = dis.Bytecode(code)
    names = {instruction.offset: instruction.opname for instruction in bytecode}
    # The other entries are for what is raised inside of a handler.
    return tuple(
        range(entry.start, entry.end)
        for entry in bytecode.exception_entries
        if names.get(entry.target) == "PUSH_EXC_INFO"
    )


def _protected_by_blocks(code: CodeType) -> frozenset[int]:
    """The same for Python 3.10, which has a stack of blocks in place of a table."""
    import dis

    instructions = list(dis.get_instructions(code))
    index = {instruction.offset: at for at, instruction in enumerate(instructions)}
    seen: set[int] = set()
    found: set[int] = set()
    # Instructions to go on from, with whether each block around them is a handler's body.
    ways: list[tuple[int, tuple[bool, ...]]] = [(0, ())]
    while ways:
        at, blocks = ways.pop()
        if at in seen or at >= len(instructions):
            continue
        seen.add(at)
        instruction = instructions[at]
        name = instruction.opname
        if blocks and not blocks[-1]:
            found.add(instruction.offset)
        if name.startswith("SETUP_") and name != "SETUP_ANNOTATIONS":
            ways.append((index[instruction.argval], (*blocks, True)))
            blocks = (*blocks, False)
        elif instruction.opcode in dis.hasjabs or instruction.opcode in dis.hasjrel:
            ways.append((index[instruction.argval], blocks))
            if name in ("JUMP_ABSOLUTE", "JUMP_FORWARD"):
                continue
        elif name in ("POP_BLOCK", "POP_EXCEPT"):
            blocks = blocks[:-1]
        elif name in ("RETURN_VALUE", "RERAISE", "RAISE_VARARGS"):
            continue
        ways.append((at + 1, blocks))
    return frozenset(found)


class _Threads:
    """The innermost frames of all threads, as an attribute.

    The interpreter may give its lock away at the end of a call, not at that of the look-up of
    an attribute: this one calls C functions only.
    """

    _current = sys._current_frames
    frames: Any = property(methodcaller("_current"))


_threads = _Threads()

_Function = TypeVar("_Function", bound=Callable[..., Any])

_collecting = Lock()


def _without_collector(function: _Function) -> _Function:
    """Keeps the garbage collector from running in a function that reads the frames.

    CPython 3.11 makes frames while it holds the lock of the list of threads, and the end of a
    ``threading.local`` needs that lock: if the collector finds one then, the process stands still
    with the interpreter lock held. (Older ones make no frames there; newer ones collect
    between two bytecodes alone.)
    """
    if sys.version_info[:2] != (3, 11):
        return function

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with _collecting:
            # By the threshold: whether it is enabled is what user code asks for, and sets back.
            first, *others = gc.get_threshold()
            if first == 0:
                return function(*args)
            gc.set_threshold(0, *others)
            try:
                return function(*args)
            finally:
                if gc.get_threshold() == (0, *others):
                    gc.set_threshold(first, *others)

    return call


@_without_collector
def frames_of_threads() -> dict[int, FrameType]:
    """The innermost frames of all threads but the calling one.

    Its own would refer to this dictionary: what the others have would live until the garbage
    collector finds the cycle.
    """
    frames: dict[int, FrameType] = _threads.frames
    del frames[get_ident()]
    return frames


def frame_of(thread: int) -> FrameType | None:
    """The innermost frame of another thread."""
    return frames_of_threads().get(thread)


@_without_collector
def set_if_at(thread: int, frame: FrameType, offset: int, error: type[BaseException]) -> bool:
    """Has the exception raised in a thread if it is still at this bytecode of this frame.

    From the reading to the call no other thread runs. (In Python 3.10 the dictionary of frames
    may make the garbage collector run, and finalizers with it, before it is filled.)
    """
    if _threads.frames[thread] is frame and frame.f_lasti == offset:
        return bool(_set_async_exc(thread, error) == 1)
    return False
