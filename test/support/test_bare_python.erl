%% @doc Makes a Python that has nothing but its standard library: neither `erlpack' nor
%% `msgpack', and no copy of this project.
-module(test_bare_python).

-export([make/1]).

%% @doc Makes a virtual environment without any packages, and gives its interpreter.
-spec make(Dir :: file:filename()) -> Interpreter :: file:filename().
make(Dir) ->
    Base = os:getenv("ERLANG_PYTHON", "python3"),
    {0, _} = test_program:run(Base, ["-m", "venv", "--without-pip", "--clear", Dir], #{}),
    filename:join([Dir, "bin", "python"]).
