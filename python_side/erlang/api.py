"""Messages to Erlang processes and calls of Erlang functions."""

from __future__ import annotations

from erlang_port.current import has_node, node
from erlang_port.etf.terms import Pid, Port, Reference
from erlang_port.hints import Any


def send(to: Pid | Reference | str | tuple[str, str], term: Any) -> None:
    """Sends a message to a process, and does not wait until it is there.

    `to` is a pid, an alias, a registered name, or a name and a node. Messages of one thread
    arrive in the order in which they were sent, and before the result of the call that sent
    them. A message to a process that does not exist is dropped, as in Erlang.

    Past 8 MiB that the node has not taken, it waits, and on the worker's event loop, which must
    not wait, it raises BlockingIOError: see `drain`. A value that Erlang has no type for
    raises TypeError or ValueError.
    """
    node().send(to, term)


async def drain() -> None:
    """Waits until another message may be sent without waiting.

    Async code that sends much, without awaiting anything else, awaits this from time to time.
    """
    await node().drain()


def call(name: str, *args: Any, timeout: float | None = None) -> Any:
    """Calls the function registered as `name` with the list of arguments; its result.

    Waits for `timeout` seconds, by default for as long as it takes; then TimeoutError, while
    the function goes on. What the function raises is an ErlangError. On the worker's event loop
    it raises RuntimeError: `await acall(...)` there.
    """
    return node().call(name, args, timeout)


async def acall(name: str, *args: Any) -> Any:
    """The same for async code, on any event loop; `asyncio.wait_for` gives it a time limit."""
    return await node().acall(name, args)


def whereis(name: str) -> Pid | Port | None:
    """The process, or port, that is registered with the node by that name."""
    return node().whereis(name)  # type: ignore[no-any-return]


def is_registered(name: str) -> bool:
    """Whether the node has a function of that name; outside of a worker, where none asks, True."""
    return not has_node() or node().is_registered(name)


class MissingFunctions:
    """The last finder of `sys.meta_path`: says why ``from erlang import name`` fails.

    Such an import asks for a module ``erlang.name`` when the attribute is missing, and takes
    the message of an ImportError from there, but not that of the AttributeError.
    """

    @staticmethod
    def message(name: str) -> str:
        """What to do instead."""
        if name == "run":
            return (
                "erlang.run is not needed: py:call awaits the coroutine that the function "
                "returns, and async code awaits it itself"
            )
        return (
            f"no function {name!r} is registered with the node; for one that will be "
            f'registered later, use erlang.call("{name}", ...)'
        )

    @classmethod
    def find_spec(cls, fullname: str, _path: Any = None, _target: Any = None) -> None:
        """Finds nothing."""
        package, _, name = fullname.rpartition(".")
        if package == "erlang" and not name.startswith("_"):
            raise ImportError(cls.message(name))


class Function:
    """A registered Erlang function, as ``erlang.name`` and ``from erlang import name`` give it."""

    __slots__ = ("__name__",)

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: Any, timeout: float | None = None) -> Any:
        """The same as ``erlang.call(name, ...)``."""
        return call(self.__name__, *args, timeout=timeout)

    def __repr__(self) -> str:
        return f"<Erlang function {self.__name__}>"
