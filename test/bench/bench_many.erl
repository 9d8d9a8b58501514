%% @doc Many streams that sleep between values, on one worker: how long all of
%% them take. What is compared with is the time that one takes by the clock.
-module(bench_many).

-export([sections/0, run/2]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [many].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(many, Context) ->
    Cold = Context#{warm => false},
    bench:compare(many_100, "s", [
        {ideal, fun() -> 0.2 end},
        {sync, many(100, ticks, 20, 0.01, Context)},
        {async, many(100, async_ticks, 20, 0.01, Context)}
    ], Cold),
    bench:compare(many_1000, "s", [
        {ideal, fun() -> 0.5 end},
        {sync, many(1000, ticks, 5, 0.1, Context)},
        {async, many(1000, async_ticks, 5, 0.1, Context)}
    ], Cold),
    bench:compare(many_10000, "s", [
        {ideal, fun() -> 0.5 end},
        {async, many(10000, async_ticks, 5, 0.1, Context)}
    ], Cold).

%% From the first start to the last terminal event; every value must have come.
many(Streams, F, Values, Pause, Context) ->
    Wanted = Streams * Values,
    fun() ->
        bench_pool:with(many, #{}, Context, fun() ->
            bench_pool:alone(fun() ->
                Start = bench_os:clock(),
                [start(F, [Values, Pause]) || _ <- lists:seq(1, Streams)],
                Wanted = all(Streams, 0),
                (bench_os:clock() - Start) / 1.0e9
            end)
        end)
    end.

start(F, Args) ->
    {ok, _} = py:stream_start(bench_values, F, Args, #{pool => many}).

all(0, Values) ->
    Values;
all(Streams, Values) ->
    receive
        {py_stream, _, {data, _}} -> all(Streams, Values + 1);
        {py_stream, _, done} -> all(Streams - 1, Values);
        {py_stream, _, Terminal} -> error(Terminal)
    end.
