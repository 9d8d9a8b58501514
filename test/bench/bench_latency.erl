%% @doc How long one thing takes: a call, the first event of a stream.
-module(bench_latency).

-export([sections/0, run/2]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [calls, first].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(calls, Context) ->
    N = bench:scale(4000, Context),
    Python = fun() -> {ok, 1} = py:call(bench_values, echo, [1], #{}, #{pool => python}) end,
    Native = fun() -> {ok, none} = py:call(credit, echo, [1], #{}, #{pool => native}) end,
    bench:compare(calls, "us", [
        {echo, echo(N, Context)}, {python, timed(N, Python)}, {native, timed(N, Native)}
    ], Context);
run(first, Context) ->
    N = bench:scale(2000, Context),
    Python = fun() -> first(bench_values, ints, [1], python) end,
    Native = fun() -> first(credit, ints_0_1_1, [], native) end,
    bench:compare(first, "us", [
        {echo, echo(N, Context)}, {python, times(N, Python)}, {native, times(N, Native)}
    ], Context).

echo(N, Context) ->
    fun() ->
        Port = open_port({spawn_executable, bench:build(Context) ++ "/pipe"}, [
            {packet, 4}, binary, {args, ["echo"]}
        ]),
        Echo = fun() ->
            port_command(Port, <<"0123456789">>),
            receive
                {Port, {data, _}} -> ok
            end
        end,
        Times = (timed(N, Echo))(),
        port_close(Port),
        Times
    end.

timed(N, Fun) ->
    times(N, fun() ->
        Start = erlang:monotonic_time(),
        _ = Fun(),
        erlang:monotonic_time() - Start
    end).

%% The first few are not counted: they fill caches.
times(N, Fun) ->
    fun() ->
        _ = [Fun() || _ <- lists:seq(1, 20)],
        Times = [Fun() || _ <- lists:seq(1, N)],
        [{Unit, microseconds(bench:percentile(P, Times))} || {Unit, P} <- [{"us p50", 50}, {"us p99", 99}]]
    end.

first(M, F, Args, Pool) ->
    Start = erlang:monotonic_time(),
    {ok, Ref} = py:stream_start(M, F, Args, #{pool => Pool}),
    receive
        {py_stream, Ref, {data, _}} -> ok
    end,
    Took = erlang:monotonic_time() - Start,
    receive
        {py_stream, Ref, done} -> Took
    end.

microseconds(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond) / 1000.
