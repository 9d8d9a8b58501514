"""The module `erlang`: its names, and what it is outside of a worker."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest

import erlang
from erlang_port.errors import Cancelled
from erlang_port.etf.conversions import register_encoder


def test_the_names_are_what_they_are_said_to_be():
    assert isinstance(erlang.__all__, tuple)
    assert list(erlang.__all__) == sorted(erlang.__all__)
    public = {
        name
        for name, value in vars(erlang).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    # Imported when it is asked for, since it needs `typing`.
    assert public - {"annotations"} | {"SupportsErlang"} == set(erlang.__all__)
    assert erlang.SupportsErlang.__module__ == "erlang"
    assert dir(erlang) == sorted(erlang.__all__)


@pytest.mark.parametrize("name", erlang.__all__)
def test_every_name_is_explained(name):
    assert inspect.getdoc(getattr(erlang, name))


def test_some_names_come_from_elsewhere():
    assert erlang.Cancelled is Cancelled
    assert erlang.register_encoder is register_encoder
    assert not issubclass(erlang.Cancelled, Exception)


def test_any_other_name_is_a_function_of_the_node():
    from erlang import some_function

    assert isinstance(some_function, erlang.Function)
    assert some_function.__name__ == "some_function"
    assert repr(erlang.price) == "<Erlang function price>"


@pytest.mark.parametrize("name", ["_private", "__wrapped__", "__path_hooks__"])
def test_private_names_are_no_functions(name):
    with pytest.raises(AttributeError):
        getattr(erlang, name)


@pytest.mark.parametrize(
    "use",
    [
        lambda: erlang.send("name", 1),
        lambda: erlang.call("name"),
        lambda: erlang.name(1),
        lambda: erlang.whereis("name"),
    ],
)
def test_outside_of_a_worker_there_is_no_node(use):
    with pytest.raises(RuntimeError, match="no worker"):
        use()


def test_outside_of_a_worker_nothing_runs():
    assert erlang.stream() is None
    assert erlang.cancelled() is False


def test_errors_say_what_happened():
    error = erlang.ErlangError(erlang.Atom("error"), "badarg", [], "** exception error")
    assert (error.kind, error.reason, error.stacktrace) == ("error", "badarg", [])
    assert str(error) == "** exception error"
    assert str(erlang.ErlangError("exit", "gone")) == "exit: 'gone'"
    assert isinstance(error, Exception)


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(erlang.ErlangError("exit", "gone", [1], "text")))
    assert (error.kind, error.reason, error.stacktrace, str(error)) == ("exit", "gone", [1], "text")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10's uuid imports threading")
@pytest.mark.parametrize("module", ["erlang", "erlang_port.etf.terms", "erlang_port.etf.decoder"])
def test_the_types_need_neither_threads_nor_a_loop(module):
    program = f"import sys, {module}; print({{'threading', 'asyncio'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
