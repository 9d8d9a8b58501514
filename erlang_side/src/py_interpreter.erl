%% @doc Which interpreter a pool runs, and the command that starts it.
%% @hidden
-module(py_interpreter).

-export([base/1, bootstrap/1, command/2, exited/2, find/1, resolve/1, variables/1]).

%% The shell moves the protocol to descriptors 3 and 4 before Python starts, so
%% that what a site hook prints at start-up cannot touch it. It replaces itself
%% by Python, so the port's process is Python. A node whose standard error is
%% closed has nothing to give.
-define(LAUNCH, "true >&2 || exec 2>/dev/null; exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2").

%% @doc The program, its arguments, the name of the pool among them, and the options for `open_port/2'; `PoolOpts'
%% are checked pool options.
-spec command(py_pool:name(), py_options:pool_options()) ->
    {ok, {file:filename(), [term()]}} | {error, py_error:reason()}.
command(Pool, PoolOpts) ->
    Name = name(PoolOpts),
    case {find(Name), py_paths:missing(PoolOpts), python_side()} of
        {false, _, _} ->
            {error, {python_not_found, unicode:characters_to_list(py_text:readable(Name))}};
        {_, {error, Reason}, _} ->
            {error, Reason};
        {_, _, {error, Reason}} ->
            {error, Reason};
        {Python, none, {ok, Side}} ->
            Args = ["-c", ?LAUNCH, "sh", Python, Side, "3", "4", title(Pool)],
            {ok, {"/bin/sh", [{args, Args}, {env, env(Side, PoolOpts)} | directory(PoolOpts)]}}
    end.

%% For `ps': Python does not read it.
title(Pool) when is_atom(Pool) -> py_text:native(atom_to_binary(Pool));
title(_Own) -> "worker".

directory(#{cd := Dir}) -> [{cd, Dir}];
directory(_) -> [].

%% @doc The file of an interpreter. A name is looked for on the path, as the operating system
%% does it.
-spec find(string()) -> string() | false.
find(Name) ->
    case lists:member($/, Name) of
        true -> os:find_executable(filename:absname(Name));
        false -> os:find_executable(Name)
    end.

%% @doc The arguments that make an interpreter run a module of the port program by itself,
%% with `Args'. The program may be in an archive, which has no files to run.
-spec bootstrap(Module :: string()) -> {ok, [string()]} | {error, py_error:reason()}.
bootstrap(Module) ->
    case python_side() of
        {ok, Side} ->
            Code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import " ++ Module ++ " as m; m.run(sys.argv[1:])",
            {ok, ["-I", "-c", Code, Side]};
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Why the interpreter did not become a worker, for people.
-spec exited(py_error:status(), py_options:pool_options()) -> binary().
exited(Status, PoolOpts) ->
    unicode:characters_to_binary(
        io_lib:format(
            "~ts ended before it was ready (~ts). What it had to say is on the node's standard error. "
            "It must be CPython 3.10 or newer; the pool options venv, python_path, env and preload "
            "are what may keep it from starting",
            [py_text:readable(name(PoolOpts)), status(Status)]
        )
    ).

status(Code) when is_integer(Code) -> io_lib:format("exit code ~p", [Code]);
status({signal, Signal}) -> io_lib:format("signal ~p", [Signal]);
status(bad_frame) -> "it sent what is no frame";
status(Reason) -> io_lib:format("~tp", [Reason]).

%% The interpreter that a pool runs: a name or a path.
name(#{venv := Venv}) -> filename:join([py_paths:venv(Venv), "bin", "python"]);
name(PoolOpts) -> base(PoolOpts).

%% @doc The same without its virtual environment, which is made by it.
-spec base(py_options:pool_options()) -> string().
base(#{python := Python}) -> py_text:native(Python);
base(_) -> application_python(application:get_env(erlang_python, python)).

application_python({ok, Python}) -> py_text:native(Python);
application_python(undefined) -> os:getenv("ERLANG_PYTHON", "python3").

%% @doc Checked pool options as the pool keeps them: its paths are absolute, so that what is
%% relative is relative to the node's directory when the pool starts, and `python' is the
%% interpreter of the version that it names. Fails if there is no such interpreter or folder.
-spec resolve(py_options:pool_options()) ->
    {ok, py_options:pool_options()} | {error, py_error:reason()}.
resolve(#{requirements := Requirements} = PoolOpts) when Requirements =/= [], not is_map_key(venv, PoolOpts) ->
    {error, {cannot_start, <<"the pool option requirements needs the option venv, which says where they are installed">>}};
resolve(PoolOpts) ->
    case py_paths:absolute(PoolOpts) of
        {ok, Absolute = #{venv := _, requirements := []}} -> {ok, Absolute};
        {ok, Absolute} -> resolve_python(base(Absolute), Absolute);
        {error, Reason} -> {error, Reason}
    end.

resolve_python(Name, PoolOpts) ->
    case {py_installed:is_version(Name), lists:member($/, Name)} of
        {true, _} ->
            case py_installed:find(Name) of
                {ok, Python} -> {ok, PoolOpts#{python => Python}};
                error -> {error, {python_not_found, Name}}
            end;
        {false, true} ->
            {ok, PoolOpts#{python => filename:absname(Name)}};
        %% It is looked for on the path whenever a worker starts.
        {false, false} ->
            {ok, PoolOpts#{python => Name}}
    end.

env(Side, PoolOpts) ->
    Own = variables(PoolOpts),
    lists:foldl(
        fun(Variable, Env) -> lists:keystore(element(1, Variable), 1, Env, Variable) end,
        Own,
        [python_path(Side, PoolOpts, Own) | virtual_env(PoolOpts, Own)]
    ).

%% @doc The variables that the pool's option `env' sets.
-spec variables(py_options:pool_options()) -> [{string(), string() | false}].
variables(#{env := Env}) ->
    [py_text:variable(Variable) || Variable <- Env].

%% The pool's own directories first, then the port program, then what the environment
%% had, but for empty entries, which would stand for the current directory.
python_path(Side, #{python_path := Path}, Own) ->
    Program = [Dir || Dir <- [Side], not lists:member($:, Dir)],
    {"PYTHONPATH", joined(Path ++ Program, "PYTHONPATH", Own)}.

%% As in an environment that is activated: programs that it has installed are found first.
virtual_env(#{venv := Venv}, Own) ->
    Current = py_paths:venv(Venv),
    [{"VIRTUAL_ENV", Current}, {"PATH", joined([filename:join(Current, "bin")], "PATH", Own)}];
virtual_env(_, _Own) ->
    [].

joined(Dirs, Variable, Own) ->
    Inherited = proplists:get_value(Variable, Own, os:getenv(Variable)),
    Rest = [Dir || Inherited =/= false, Dir <- string:split(Inherited, ":", all), Dir =/= ""],
    lists:append(lists:join(":", Dirs ++ Rest)).

%% The Python files. In an escript they are in its archive, which Python reads as well, if
%% they were put there.
python_side() ->
    Side = side(code:priv_dir(erlang_python)),
    Program = filename:join(Side, "__main__.py"),
    case erl_prim_loader:read_file_info(Program) of
        {ok, _} ->
            {ok, Side};
        error ->
            Why =
                "the Python files of erlang_python are not in ~ts. A release has them in the priv of the "
                "application; an escript takes them along with {escript_incl_priv, [{erlang_python, \"**/*.py\"}]} "
                "in rebar.config",
            {error, {cannot_start, unicode:characters_to_binary(io_lib:format(Why, [py_text:readable(Side)]))}}
    end.

side({error, bad_name}) ->
    Ebin = filename:dirname(code:which(?MODULE)),
    filename:join(filename:dirname(Ebin), "priv");
side(Dir) ->
    filename:absname(Dir).
