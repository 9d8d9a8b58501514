%% @doc Virtual environments that a pool makes for itself. The work is done by a
%% Python program, make_venv.py, which holds a lock meanwhile; here is what
%% decides whether it must run.
-module(py_venv).

-export([prepare/1]).

%% The longest that making an environment and installing into it may take. A
%% larger number keeps a pool waiting for an index that hangs; a smaller one
%% breaks off the building of a large package.
-define(TIMEOUT_MS, 15 * 60 * 1000).

%% How much of what pip printed is kept for the reason.
-define(KEPT_BYTES, 4096).

%% @doc Makes the pool's virtual environment and installs its requirements,
%% unless that was done already. A pool without `requirements' runs in the
%% environment that it finds.
-spec prepare(py_options:pool_options()) -> ok | {error, py_error:reason()}.
prepare(PoolOpts = #{venv := Venv, requirements := Requirements = [_ | _]}) ->
    Directory = filename:absname(py_text:string(Venv)),
    case is_prepared(Directory, Requirements) of
        true -> ok;
        false -> make(Directory, Requirements, PoolOpts)
    end;
prepare(_PoolOpts) ->
    ok.

%% make_venv.py writes this file last.
is_prepared(Directory, Requirements) ->
    Wanted = [[py_text:string(Requirement), $\n] || Requirement <- Requirements],
    case file:read_file(filename:join(Directory, "erlang_python.requirements")) of
        {ok, Found} -> Found =:= unicode:characters_to_binary(Wanted);
        {error, _} -> false
    end.

make(Directory, Requirements, PoolOpts) ->
    Name = py_interpreter:name(maps:remove(venv, PoolOpts)),
    case os:find_executable(Name) of
        false -> {error, {python_not_found, Name}};
        Python -> apart(Python, ["-I", py_interpreter:file("make_venv.py"), Directory | Requirements], PoolOpts)
    end.

%% In a process of its own, whose mailbox goes with it.
apart(Python, Args, PoolOpts) ->
    Caller = self(),
    Make = fun() -> Caller ! {self(), run(Python, Args, PoolOpts)} end,
    {Pid, Monitor} = spawn_monitor(Make),
    receive
        {Pid, Result} ->
            erlang:demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {cannot_start, unicode:characters_to_binary(io_lib:format("~tp", [Reason]))}}
    end.

run(Python, Args, #{env := Env}) ->
    Options = [
        {args, [py_text:string(Arg) || Arg <- Args]},
        {env, [py_text:variable(Variable) || Variable <- Env]},
        exit_status,
        stderr_to_stdout,
        binary,
        hide
    ],
    Port = open_port({spawn_executable, Python}, Options),
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT_MS,
    collect(Port, <<>>, Deadline).

collect(Port, Output, Deadline) ->
    receive
        {Port, {data, Data}} ->
            collect(Port, tail(<<Output/binary, Data/binary>>), Deadline);
        {Port, {exit_status, 0}} ->
            ok;
        {Port, {exit_status, _}} ->
            {error, {cannot_start, <<"making the virtual environment failed: ", Output/binary>>}}
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        port_close(Port),
        {error, {cannot_start, <<"making the virtual environment took too long: ", Output/binary>>}}
    end.

tail(Output) when byte_size(Output) > ?KEPT_BYTES ->
    binary:part(Output, byte_size(Output), -?KEPT_BYTES);
tail(Output) ->
    Output.
