"""Has a thread call a function by itself, at the next events of the code that it runs.

From CPython 3.13 on an exception that another thread has set is raised at the next bytecode at
which the interpreter checks for one, which may lie in a function that was called meanwhile: in a
finalizer, say, where it is lost. There `sys.monitoring` serves (PEP 669): the callback is called
in the thread itself, reads the frame in which it would raise, and raises or does not.

The events are those at which the interpreter checks for exceptions, too: a function begins, a
generator goes on, code jumps, a C function has returned. One that is called just now has no such
event; for it the next bytecode of its caller is one, if a handler of the call would handle what is
raised there: between the end of a `with` and the release of its lock there is no event.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from threading import RLock, get_ident
from types import BuiltinMethodType, CodeType, FrameType, MethodDescriptorType

from erlang_port.hints import Any

#: None if it is not needed, before CPython 3.13, and where code may not be given events
#: while it runs: without the interpreter's lock.
_monitoring: Any = None
if sys.version_info >= (3, 13) and sys._is_gil_enabled():
    _monitoring = sys.monitoring

#: The tools without a name in `sys.monitoring`; one is taken at the first interrupt, and kept.
_TOOLS = (4, 3)

#: What C functions are that belong to an object.
_METHODS = (BuiltinMethodType, MethodDescriptorType)


class _Armed:
    """What a thread calls, and in which code, by identity: equal code is not the same code."""

    __slots__ = ("codes", "frame", "function", "offset")

    def __init__(
        self, function: Callable[[FrameType], None], codes: Mapping[int, CodeType], frame: FrameType
    ) -> None:
        self.function = function
        self.codes = codes
        #: The innermost frame, until it has gone on from this bytecode.
        self.frame: FrameType | None = frame
        self.offset = frame.f_lasti


_lock = RLock()
_tool: int | None = None
#: By thread.
_armed: dict[int, _Armed] = {}


def arm(
    thread: int,
    frame: FrameType,
    codes: Mapping[int, CodeType],
    function: Callable[[FrameType], None],
) -> bool:
    """Has a thread, whose innermost frame is this one, call the function with the frame of each
    event of this code, until `disarm`.

    False where that cannot be: in another interpreter, or where others have taken all tools.
    """
    if _monitoring is None:
        return False
    with _lock:
        disarm(thread)
        tool = _take_tool()
        if tool is None:
            return False
        _handlers(frame.f_code)
        _armed[thread] = _Armed(function, codes, frame)
        for code in codes.values():
            _monitoring.set_local_events(tool, code, _events())
        if id(frame.f_code) in codes:
            next_bytecode = _monitoring.events.INSTRUCTION
            _monitoring.set_local_events(tool, frame.f_code, _events() | next_bytecode)
    return True


def disarm(thread: int) -> None:
    """Ends what `arm` has begun."""
    if thread not in _armed:
        return
    with _lock:
        entry = _armed.pop(thread)
        for identity, code in entry.codes.items():
            if not any(identity in others.codes for others in _armed.values()):
                _monitoring.set_local_events(_tool, code, 0)


def _events() -> Any:
    events = _monitoring.events
    # CALL stands for the return of a C function as well.
    return events.PY_START | events.PY_RESUME | events.JUMP | events.CALL


def _take_tool() -> int | None:
    global _tool
    events = _monitoring.events
    for tool in _TOOLS:
        if _tool is None and _monitoring.get_tool(tool) is None:
            _monitoring.use_tool_id(tool, "erlang_python")
            for event in (events.PY_START, events.PY_RESUME, events.JUMP):
                _monitoring.register_callback(tool, event, _on_event)
            _monitoring.register_callback(tool, events.C_RETURN, _on_c_return)
            _monitoring.register_callback(tool, events.INSTRUCTION, _on_instruction)
            _tool = tool
    return _tool


def _on_event(_code: CodeType, *_: object) -> None:
    entry = _armed.get(get_ident())
    if entry is not None:
        entry.function(sys._getframe(1))


def _on_c_return(_code: CodeType, _offset: int, function: Any, _argument: object) -> None:
    entry = _armed.get(get_ident())
    # What a `with` has entered is left only by what comes after this call.
    is_enter = type(function) in _METHODS and function.__name__ == "__enter__"
    if entry is not None and not is_enter:
        entry.function(sys._getframe(1))


def _on_instruction(code: CodeType, offset: int) -> None:
    entry = _armed.get(get_ident())
    if entry is None or entry.frame is not (frame := sys._getframe(1)):
        return
    # Once only: it is slow, and later bytecodes may lie anywhere.
    entry.frame = None
    with _lock:
        if _armed.get(get_ident()) is entry:
            _monitoring.set_local_events(_tool, code, _events())
    if _handler(code, offset) == _handler(code, entry.offset):
        entry.function(frame)


def _handler(code: CodeType, offset: int) -> int | None:
    """Where the interpreter goes on with what is raised there."""
    return next((to for there, to in _handlers(code) if offset in there), None)


@functools.lru_cache(maxsize=1024)
def _handlers(code: CodeType) -> list[tuple[range, int]]:
    import dis  # Which takes long, and few workers need it.

    bytecode: Any = dis.Bytecode(code)
    return [(range(e.start, e.end), e.target) for e in bytecode.exception_entries]
