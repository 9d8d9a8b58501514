"""A node that is none: what the module `erlang` needs of one, and what a test asks it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, overload

from erlang.testing import _make
from erlang.testing._text import text_of
from erlang_port.current import connect
from erlang_port.errors import ErlangError
from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom, Pid, Port, Reference

Address = Pid | Port | Reference | str | tuple[str, str]


class ErlangNode:
    """The node of a test, from `start` to `stop` or for as long as a ``with`` lasts.

    `none` is the atom that None becomes, as the pool's option of that name says. Code under test
    is taken to run for a stream of the process `owner`; see `in_call`.
    """

    def __init__(self, none: str = "none") -> None:
        self._encoder = Encoder(none)
        self._sent: list[tuple[Address, Any]] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        self._calls: list[tuple[str, tuple[Any, ...]]] = []
        self._names: dict[str, Pid | Port] = {}
        self._before: tuple[Any, Any] | None = None
        #: The owner of the stream that the code under test runs for.
        self.owner: Pid = _make.pid()
        #: The reference of that stream.
        self.stream_reference: Reference = _make.reference()
        self._request = _Request(self.owner, self.stream_reference)

    # Its life.

    def start(self) -> ErlangNode:
        """From now on the module `erlang` finds this node; in every thread."""
        if self._before is not None:
            raise RuntimeError("this node runs already")
        self._before = connect(_Client(self), self._request)
        return self

    def stop(self) -> None:
        """The module `erlang` finds what it found before. What was sent stays listed."""
        if self._before is not None:
            connect(*self._before)
            self._before = None

    def __enter__(self) -> ErlangNode:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # What was sent.

    def sent(self, to: Address | None = None) -> list[Any]:
        """The messages that `to` was sent, in order, as they were when they were sent.

        `to` is what `erlang.send` takes; a process that was made with a name is found by either.
        Without it: all messages, as pairs of receiver and message.
        """
        if to is None:
            return list(self._sent)
        wanted = self._resolve(to)
        return [term for receiver, term in self._sent if self._resolve(receiver) == wanted]

    def _resolve(self, to: Address) -> Any:
        return self._names.get(to, to) if isinstance(to, str) else to

    # Calls of Erlang functions.

    # A type checker knows the parameters of a lambda where it knows their number.
    @overload
    def register(self, name: str, function: Callable[[Any], Any]) -> None: ...
    @overload
    def register(self, name: str, function: Callable[[Any, Any], Any]) -> None: ...
    @overload
    def register(  # type: ignore[overload-cannot-match]
        self, name: str, function: Callable[..., Any]
    ) -> None: ...
    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Calls of the Erlang function `name` are answered by ``function(*args)``.

        What it returns reaches the caller as it would from Erlang, see `roundtrip`; what it raises
        is raised there: ``erlang.ErlangError("error", "badarg")`` for what an Erlang function
        raises. For `erlang.acall` it may be an async function.
        """
        self._functions[str(name)] = function

    def unregister(self, name: str) -> None:
        """There is no function of that name any more."""
        self._functions.pop(str(name), None)

    def calls(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of the function `name`, in order."""
        return [args for called, args in self._calls if called == name]

    # The running request.

    def cancel(self) -> None:
        """Nobody wants more: `erlang.cancelled` and `erlang.stream().cancelled` say so."""
        self._request.is_cancelled = True

    @contextlib.contextmanager
    def in_call(self) -> Iterator[None]:
        """The code under test runs for a call meanwhile: `erlang.stream` returns None."""
        prefix, self._request.prefix = self._request.prefix, b""
        try:
            yield
        finally:
            self._request.prefix = prefix

    # Terms.

    def pid(self, name: str | None = None) -> Pid:
        """A new process; with a name, it is registered by that: `erlang.whereis` finds it."""
        pid = _make.pid()
        if name is not None:
            self._names[str(name)] = pid
        return pid

    def reference(self) -> Reference:
        """A new reference."""
        return _make.reference()

    def port(self) -> Port:
        """A new port."""
        return _make.port()

    def crosses(self, value: Any) -> str:
        """The term that `value` is in Erlang, as text: ``#{<<"size">> => 1.5}``.

        Raises what the value's stream or call would end with, if Erlang has no type for it.
        """
        return text_of(self._encoder.encode(value))

    def roundtrip(self, value: Any, *, binaries: str = "str", atoms: str = "atom") -> Any:
        """What Python gets when Erlang sends back what it got for `value`.

        `binaries` and `atoms` are the options of those names.
        """
        return decoder.decode(self._encoder.encode(value), 0, binaries, atoms)

    def __repr__(self) -> str:
        return f"<ErlangNode {len(self._sent)} messages, {len(self._calls)} calls>"


class _Request:
    """The stream that the code under test runs for."""

    def __init__(self, owner: Pid, reference: Reference) -> None:
        self.prefix = b"\x83h\x03w\x09py_stream" + reference.raw
        self.owner = b"\x83" + owner.raw
        self.is_cancelled = False
        self.is_ended = False


class _Client:
    """What the module `erlang` asks of a node; see erlang_port.node.client.NodeClient."""

    def __init__(self, node: ErlangNode) -> None:
        self._node = node

    def send(self, to: Any, term: Any) -> None:
        is_name = isinstance(to, str) or (
            type(to) is tuple and len(to) == 2 and all(isinstance(part, str) for part in to)
        )
        if not is_name and type(to) is not Pid and type(to) is not Reference:
            raise TypeError(
                "a message goes to a Pid, a Reference, a name or (name, node), "
                f"not to a {type(to).__name__!r}"
            )
        self._node._sent.append((to, self._as_it_is(term)))

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def call(self, name: str, args: tuple[Any, ...], _timeout: float | None) -> Any:
        _check_loop()
        result = self._answer(name, args)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(f"the test's function for {name!r} is async: only acall awaits it")
        return self._node.roundtrip(result)

    async def acall(self, name: str, args: tuple[Any, ...]) -> Any:
        await asyncio.sleep(0)
        result = self._answer(name, args)
        return self._node.roundtrip(await result if inspect.isawaitable(result) else result)

    def _answer(self, name: str, args: tuple[Any, ...]) -> Any:
        if not isinstance(name, str):
            raise TypeError(f"a name is a str, not a {type(name).__name__!r}")
        args = tuple(self._as_it_is(list(args)))
        function = self._node._functions.get(name)
        if function is None:
            reason = Atom("not_registered"), str(name)
            text = f'exception error: {{not_registered,<<"{name}">>}}'
            raise ErlangError(Atom("error"), reason, [], text)
        self._node._calls.append((str(name), args))
        return function(*args)

    def whereis(self, name: str) -> Pid | Port | None:
        _check_loop()
        return self._node._names.get(name)

    def is_registered(self, name: str) -> bool:
        return name in self._node._functions

    def waiter(self, _why_not: str) -> tuple[Callable[[], object], Callable[[], object]]:
        lock = threading.Lock()
        lock.acquire()
        return lock.release, lock.acquire

    def _as_it_is(self, term: Any) -> Any:
        """A copy that no later change of the term reaches; raises if it cannot be sent."""
        self._node._encoder.encode(term)
        try:
            return copy.deepcopy(term)
        except Exception:
            return self._node.roundtrip(term)


def _check_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("erlang.call would hold up the event loop; await erlang.acall instead")
