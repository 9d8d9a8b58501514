%% @doc Which interpreter a pool runs, and the command that starts it.
-module(py_interpreter).

-export([command/1, exited/2, file/1, name/1]).

%% The shell moves the protocol to descriptors 3 and 4 before Python starts, so
%% that what a site hook prints at start-up cannot touch it. It replaces itself
%% by Python, so the port's process is Python. A node whose standard error is
%% closed has nothing to give.
-define(LAUNCH, "true >&2 || exec 2>/dev/null; exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2").

%% @doc The program, its arguments and the options for `open_port/2'; `PoolOpts'
%% are checked pool options.
-spec command(py_options:pool_options()) ->
    {ok, {file:filename(), [term()]}} | {error, py_error:reason()}.
command(PoolOpts) ->
    Name = name(PoolOpts),
    case {os:find_executable(Name), directory(PoolOpts)} of
        {false, _} ->
            {error, {python_not_found, Name}};
        {_, {missing, Dir}} ->
            {error, {cannot_start, unicode:characters_to_binary(["there is no directory ", Dir])}};
        {Python, Directory} ->
            Args = ["-c", ?LAUNCH, "sh", Python, python_side(), "3", "4"],
            {ok, {"/bin/sh", [{args, Args}, {env, env(PoolOpts)} | Directory]}}
    end.

%% @doc Why the interpreter did not become a worker, for people.
-spec exited(py_error:status(), py_options:pool_options()) -> binary().
exited(Status, PoolOpts) ->
    unicode:characters_to_binary(
        io_lib:format(
            "~ts ended before it was ready (~ts). What it had to say is on the node's standard error. "
            "It must be CPython 3.10 or newer; the pool options venv, python_path, env and preload "
            "are what may keep it from starting",
            [name(PoolOpts), status(Status)]
        )
    ).

status(Code) when is_integer(Code) -> io_lib:format("exit code ~p", [Code]);
status({signal, Signal}) -> io_lib:format("signal ~p", [Signal]);
status(bad_frame) -> "it sent what is no frame";
status(Reason) -> io_lib:format("~tp", [Reason]).

%% @doc The interpreter that a pool runs: a name or a path.
-spec name(py_options:pool_options()) -> string().
name(#{venv := Venv}) -> filename:join([py_text:string(Venv), "bin", "python"]);
name(#{python := Python}) -> py_text:string(Python);
name(_) -> application_python(application:get_env(erlang_python, python)).

application_python({ok, Python}) -> py_text:string(Python);
application_python(undefined) -> os:getenv("ERLANG_PYTHON", "python3").

env(PoolOpts = #{env := Env}) ->
    Own = [py_text:variable(Variable) || Variable <- Env],
    virtual_env(PoolOpts) ++ lists:keystore("PYTHONPATH", 1, Own, python_path(PoolOpts, Own)).

%% The pool's own directories first, then the port program, then what the environment
%% had, but for empty entries, which would stand for the current directory.
python_path(#{python_path := Path}, Own) ->
    Dirs = [filename:absname(py_text:string(Dir)) || Dir <- Path],
    Side = [Dir || Dir <- [python_side()], not lists:member($:, Dir)],
    Inherited = proplists:get_value("PYTHONPATH", Own, os:getenv("PYTHONPATH")),
    Rest = [Dir || Inherited =/= false, Dir <- string:split(Inherited, ":", all), Dir =/= ""],
    {"PYTHONPATH", lists:append(lists:join(":", Dirs ++ Side ++ Rest))}.

%% @doc The path of a file of the port program.
-spec file(string()) -> file:filename().
file(Name) ->
    filename:join([python_side(), "erlang_port", Name]).

python_side() ->
    case code:priv_dir(erlang_python) of
        {error, bad_name} ->
            Ebin = filename:dirname(code:which(?MODULE)),
            filename:absname(filename:join(filename:dirname(Ebin), "priv"));
        Dir ->
            filename:absname(Dir)
    end.

virtual_env(#{venv := Venv}) -> [{"VIRTUAL_ENV", filename:absname(py_text:string(Venv))}];
virtual_env(_) -> [].

directory(#{cd := Dir}) ->
    case filelib:is_dir(py_text:string(Dir)) of
        true -> [{cd, py_text:string(Dir)}];
        false -> {missing, py_text:string(Dir)}
    end;
directory(_) ->
    [].
