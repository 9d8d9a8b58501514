%% @doc How long one thing takes: a call, the first event of a stream, a value on
%% its way, a cancel.
-module(bench_latency).

-export([sections/0, run/2, cancelled/4, echo/3, first/4, timed/2, times/2]).

%% Where the kernel puts two processes, on one core or on two, makes all the
%% difference to a round trip and stays so for a while: more rounds, each shorter.
-define(ROUNDS, 15).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [calls, first, ticks, beside, burst, cancel].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(calls, Context) ->
    N = bench:scale(2000, Context),
    bench:compare(calls, "us", [
        {echo, echo(N, <<"0123456789">>, Context)},
        {python, timed(N, fun call/0)},
        {native, timed(N, fun native_call/0)}
    ], Context#{rounds => ?ROUNDS});
run(first, Context) ->
    N = bench:scale(1000, Context),
    bench:compare(first, "us", [
        {echo, echo(N, <<"0123456789">>, Context)},
        {python, times(N, fun() -> first(bench_values, ints, [1], python) end)},
        {native, times(N, fun() -> first(credit, ints_0_1_1, [], native) end)}
    ], Context#{rounds => ?ROUNDS});
run(ticks, Context) ->
    N = bench:scale(120, Context),
    bench:compare(ticks, "ms", [
        {bare_pipe, raw_ticks(N, Context)},
        {sync, ticks(ticks, [N, 0.01])},
        {async, ticks(async_ticks, [N, 0.01])}
    ], Context#{warm => false});
run(beside, Context) ->
    N = bench:scale(120, Context),
    Calls = bench:scale(200, Context),
    bench:compare(ticks_beside, "ms", [
        {bare_pipe, beside(native_flood(), native, raw_ticks(N, Context))},
        {sync, beside(flood(), python, ticks(ticks, [N, 0.01]))},
        {async, beside(flood(), python, ticks(async_ticks, [N, 0.01]))}
    ], Context#{warm => false}),
    bench:compare(calls_beside, "us", [
        {native, beside(native_flood(), native, timed(Calls, fun native_call/0))},
        {python, beside(flood(), python, timed(Calls, fun call/0))}
    ], Context#{warm => false});
run(burst, Context) ->
    N = bench:scale(100, Context),
    bench:compare(burst, "ms", [
        {sleep, bursts(bursts, [N, 100, <<"sleep">>, 0.015])},
        {async_sleep, bursts(async_bursts, [N, 100, 0.015])},
        {compute, bursts(bursts, [N div 2, 100, <<"compute">>, 0.03])},
        {lock_held, bursts(bursts, [N div 2, 100, <<"locked">>, 0.03])}
    ], Context#{warm => false});
run(cancel, Context) ->
    N = bench:scale(100, Context),
    bench:compare(cancel, "ms", [
        {full_speed, cancels(N, endless, [0])},
        {every_ms, cancels(N, endless, [0.001])},
        {async_every_ms, cancels(N, async_endless, [0.001])},
        {native, native_cancels(N)}
    ], Context).

%%% Round trips.

call() ->
    {ok, 1} = py:call(bench_values, echo, [1], #{}, #{pool => python}).

native_call() ->
    {ok, none} = py:call(credit, echo, [1], #{}, #{pool => native}).

%% @doc Round trips of `N' frames through a raw port in C.
-spec echo(pos_integer(), binary(), bench:context()) -> fun(() -> bench:result()).
echo(N, Data, Context) ->
    fun() ->
        bench_pool:alone(fun() ->
            Port = bench_pool:port(["echo"], Context),
            Echo = fun() ->
                port_command(Port, Data),
                receive
                    {Port, {data, _}} -> ok
                end
            end,
            Times = measure(N, timing(Echo)),
            port_close(Port),
            Times
        end)
    end.

%% @doc The median and the 99th percentile of `N' times that a function takes.
-spec timed(pos_integer(), fun(() -> term())) -> fun(() -> bench:result()).
timed(N, Fun) ->
    times(N, timing(Fun)).

timing(Fun) ->
    fun() ->
        Start = bench_os:clock(),
        _ = Fun(),
        bench_os:clock() - Start
    end.

%% @doc The same of times in nanoseconds that a function returns. The first few
%% are not counted: they fill caches.
-spec times(pos_integer(), fun(() -> integer())) -> fun(() -> bench:result()).
times(N, Fun) ->
    fun() -> bench_pool:alone(fun() -> measure(N, Fun) end) end.

measure(N, Fun) ->
    _ = [Fun() || _ <- lists:seq(1, min(N, 20))],
    percentiles("us", 1000, [Fun() || _ <- lists:seq(1, N)]).

percentiles(Unit, Divisor, Times) ->
    [
        {Unit ++ " p50", bench:percentile(50, Times) / Divisor},
        {Unit ++ " p99", bench:percentile(99, Times) / Divisor}
    ].

milliseconds(Times) -> percentiles("ms", 1000000, Times).

%% @doc Nanoseconds from the start of a stream to its first event; the stream has
%% ended when this returns.
-spec first(py_name:name(), py_name:name(), [term()], atom()) -> integer().
first(M, F, Args, Pool) ->
    Start = bench_os:clock(),
    {ok, Ref} = py:stream_start(M, F, Args, #{pool => Pool}),
    values(Ref, 1),
    Took = bench_os:clock() - Start,
    receive
        {py_stream, Ref, done} -> Took
    end.

%%% Values on their way: from the clock that was yielded to receipt.

ticks(F, Args) ->
    fun() -> bench_pool:alone(fun() -> milliseconds(stamped(F, Args)) end) end.

bursts(F, Args) -> ticks(F, Args).

stamped(F, Args) ->
    {ok, Ref} = py:stream_start(bench_values, F, Args, #{pool => python}),
    delays(Ref, []).

delays(Ref, Delays) ->
    receive
        {py_stream, Ref, {data, 0}} -> delays(Ref, Delays);
        {py_stream, Ref, {data, Time}} -> delays(Ref, [bench_os:clock() - Time | Delays]);
        {py_stream, Ref, done} -> Delays;
        {py_stream, Ref, Terminal} -> error(Terminal)
    end.

raw_ticks(N, Context) ->
    fun() ->
        bench_pool:alone(fun() ->
            Port = bench_pool:port(["ticks", "10000", integer_to_list(N)], Context),
            port_command(Port, <<"go">>),
            Delays = [
                receive
                    {Port, {data, <<Time:64>>}} -> bench_os:clock() - Time
                end
             || _ <- lists:seq(1, N)
            ],
            port_close(Port),
            milliseconds(Delays)
        end)
    end.

%% Beside a stream at full speed on the same worker; its rate is a figure, too.
beside(Target, Pool, Fun) ->
    fun() ->
        Flood = bench_pool:flood(Target, Pool, #{}),
        Result = Fun(),
        [{"flood events/s", bench_pool:stop_flood(Flood)} | Result]
    end.

flood() -> {bench_values, endless, [0]}.

native_flood() -> {credit, bench_rates:native_name(ints, 256, 2, 1 bsl 50), []}.

%%% Cancels: to the terminal event, and until the generator's `finally' has run.

cancels(N, F, Args) ->
    fun() ->
        bench_pool:alone(fun() ->
            {Ends, Finallys} = lists:unzip([cancel(bench_values, F, Args, python) || _ <- lists:seq(1, N)]),
            milliseconds(Ends) ++
                [{"ms finally " ++ P, V} || {"ms " ++ P, V} <- milliseconds(Finallys)]
        end)
    end.

cancel(M, F, Args, Pool) ->
    Name = erlang:unique_integer([positive]),
    {Start, End} = cancelled(M, F, Args ++ [Name], Pool),
    {End - Start, bench_pool:call(closed, [Name], Pool, 15000) - Start}.

%% @doc Cancels a stream that has had some values; when that was, and when the
%% terminal event was there.
-spec cancelled(py_name:name(), py_name:name(), [term()], atom()) ->
    {integer(), integer()}.
cancelled(M, F, Args, Pool) ->
    {ok, Ref} = py:stream_start(M, F, Args, #{pool => Pool}),
    values(Ref, 20),
    Start = bench_os:clock(),
    ok = py:stream_cancel(Ref),
    {Start, terminal(Ref)}.

native_cancels(N) ->
    {M, F, Args} = native_flood(),
    fun() ->
        bench_pool:alone(fun() ->
            Pairs = [cancelled(M, F, Args, native) || _ <- lists:seq(1, N)],
            milliseconds([End - Start || {Start, End} <- Pairs])
        end)
    end.

values(_Ref, 0) ->
    ok;
values(Ref, N) ->
    receive
        {py_stream, Ref, {data, _}} -> values(Ref, N - 1);
        {py_stream, Ref, Terminal} -> error(Terminal)
    end.

terminal(Ref) ->
    receive
        {py_stream, Ref, {error, cancelled}} -> bench_os:clock();
        {py_stream, Ref, {data, _}} -> terminal(Ref);
        {py_stream, Ref, Terminal} -> error(Terminal)
    end.
