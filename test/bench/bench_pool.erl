%% @doc Pools and plain ports to measure, and processes that own their streams.
-module(bench_pool).

-export([start/3, with/4, alone/1, port/2, call/4, count/1, flood/3, stop_flood/1]).

%% @doc Starts a pool of Python, or of the native writer.
-spec start(atom(), map(), bench:context()) -> {ok, pid()}.
start(Name, Opts, Context) ->
    {ok, _} = py:start_pool(Name, maps:merge(program(Name, Context), Opts)).

program(native, Context) -> #{workers => 1, python => bench:build(Context) ++ "/native"};
program(_, Context) -> #{workers => 1, python_path => [bench:source(Context)]}.

%% @doc Runs a function with a pool of its own, which is new.
-spec with(atom(), map(), bench:context(), fun(() -> Result)) -> Result.
with(Name, Opts, Context, Fun) ->
    {ok, _} = start(Name, Opts, Context),
    try
        Fun()
    after
        ok = py:stop_pool(Name)
    end.

%% @doc Runs a function in a process of its own, so that no figure depends on the
%% heap that the one before left.
-spec alone(fun(() -> Result)) -> Result.
alone(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({ok, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {ok, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

%% @doc Opens a plain port on the program `pipe'.
-spec port([string()], bench:context()) -> port().
port(Args, Context) ->
    open_port({spawn_executable, bench:build(Context) ++ "/pipe"}, [
        {packet, 4}, binary, {args, Args}
    ]).

%% @doc Calls a function of bench_values.
-spec call(atom(), [term()], atom(), timeout()) -> term().
call(F, Args, Pool, Timeout) ->
    {ok, Value} = py:call(bench_values, F, Args, #{}, #{pool => Pool, timeout => Timeout}),
    Value.

%% @doc Takes all events of a stream; returns how many values there were.
-spec count(reference()) -> non_neg_integer().
count(Ref) -> count(Ref, 0).

count(Ref, N) ->
    receive
        {py_stream, Ref, {data, _}} -> count(Ref, N + 1);
        {py_stream, Ref, {batch, Values}} -> count(Ref, N + length(Values));
        {py_stream, Ref, done} -> N;
        {py_stream, Ref, Terminal} -> error(Terminal)
    end.

%% @doc Keeps an endless stream running at full speed.
-spec flood({py_name:name(), py_name:name(), [term()]}, atom(), map()) -> pid().
flood({M, F, Args}, Pool, Opts) ->
    Self = self(),
    Pid = spawn_link(fun() ->
        {ok, Ref} = py:stream_start(M, F, Args, Opts#{pool => Pool}),
        receive
            {py_stream, Ref, {data, _}} -> Self ! {self(), runs};
            {py_stream, Ref, {batch, _}} -> Self ! {self(), runs}
        end,
        drain(Ref, Self, erlang:monotonic_time(), 0)
    end),
    receive
        {Pid, runs} -> Pid
    end.

drain(Ref, Parent, Start, N) ->
    receive
        {py_stream, Ref, {data, _}} ->
            drain(Ref, Parent, Start, N + 1);
        {py_stream, Ref, {batch, Values}} ->
            drain(Ref, Parent, Start, N + length(Values));
        stop ->
            Took = erlang:monotonic_time() - Start,
            ok = py:stream_cancel(Ref, [flush]),
            Parent ! {self(), N * erlang:convert_time_unit(1, second, native) / Took}
    end.

%% @doc Ends it; returns the values per second that it had.
-spec stop_flood(pid()) -> float().
stop_flood(Pid) ->
    Pid ! stop,
    receive
        {Pid, Rate} -> Rate
    end.
