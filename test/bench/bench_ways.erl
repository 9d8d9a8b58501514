%% @doc The other ways in and out, beside a stream of the same small integers: channels, enumerables,
%% and what functions give to a callback.
-module(bench_ways).

-export([sections/0, run/2]).

%% @doc The section that this module measures.
-spec sections() -> [atom()].
sections() -> [ways].

%% @doc Measures it.
-spec run(atom(), bench:context()) -> ok.
run(ways, Context) ->
    N = bench:scale(1000000, Context),
    Few = N div 10,
    bench:compare(ways, "values/s", [
        {stream, rate(N, fun() -> stream(ints, [N]) end)},
        {enumerable, rate(N, fun() -> enumerable(N) end)},
        {channel, rate(N, fun() -> channel(total, N) end)},
        {channel_async, rate(N, fun() -> channel(total_async, N) end)},
        {channel_and_back, rate(N, fun() -> there_and_back(N) end)},
        {from_callback, rate(Few, fun() -> stream(called_back, [Few]) end)},
        {afrom_callback, rate(Few, fun() -> stream(called_back_async, [Few]) end)},
        {from_callback_256, rate(Few, fun() -> stream(called_back, [Few, 256]) end)}
    ], Context).

rate(N, Fun) ->
    fun() ->
        bench_pool:alone(fun() ->
            Start = erlang:monotonic_time(),
            N = Fun(),
            N * erlang:convert_time_unit(1, second, native) / (erlang:monotonic_time() - Start)
        end)
    end.

stream(Function, Args) ->
    {ok, Ref} = py:stream_start(bench_ways, Function, Args, #{pool => python}),
    bench_pool:count(Ref).

enumerable(N) ->
    Values = py:enumerable(bench_ways, ints, [N], #{pool => python}),
    {done, N} = Values({cont, 0}, fun(_Value, Count) -> {cont, Count + 1} end),
    N.

channel(Function, N) ->
    {ok, In} = py:channel(),
    Ref = py:spawn_call(bench_ways, Function, [In], #{}, #{pool => python, timeout => infinity}),
    ok = feed(N, In),
    {ok, N} = py:await(Ref),
    N.

there_and_back(N) ->
    {ok, In} = py:channel(),
    {ok, Ref} = py:stream_start(builtins, iter, [In], #{pool => python}),
    _ = spawn_link(fun() -> feed(N, In) end),
    bench_pool:count(Ref).

feed(0, In) ->
    py:channel_close(In);
feed(N, In) ->
    ok = py:channel_send(In, 100000 + N),
    feed(N - 1, In).
