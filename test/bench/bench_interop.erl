%% @doc Calls both ways: how many, from how many callers, beside what; messages from
%% Python, and calls of Erlang functions.
-module(bench_interop).

-export([sections/0, run/2]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [styles, callers, crowded, sends, callbacks, depth, waiting].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(styles, Context) ->
    %% A raw port, a process that owns a port and asks one thing after another as
    %% erlport does, and a call.
    N = bench:scale(2000, Context),
    Style = erlport_style(Context),
    bench:compare(styles, "us", [
        {echo, bench_latency:echo(N, <<"0123456789">>, Context)},
        {one_process, bench_latency:timed(N, fun() -> 1 = ask(Style, echo, [1]) end)},
        {python, bench_latency:timed(N, fun call/0)}
    ], Context#{rounds => 15}),
    Style ! stop,
    ok;
run(callers, Context) ->
    N = bench:scale(20000, Context),
    [
        bench:compare(callers, "calls per second", [
            {sync, fun() -> per_second(N, fun() -> callers(Callers, N, fun call/0) end) end},
            {async, fun() -> per_second(N, fun() -> callers(Callers, N, fun async_call/0) end) end}
        ], Context#{x => Callers})
     || Callers <- [1, 10, 100]
    ],
    ok;
run(crowded, Context) ->
    N = bench:scale(400, Context),
    Streams = [start_flood() || _ <- lists:seq(1, 100)],
    bench:compare(crowded, "us", [
        {echo, bench_latency:echo(N, <<"0123456789">>, Context)},
        {python, bench_latency:timed(N, fun call/0)},
        {async, bench_latency:timed(N, fun async_call/0)}
    ], Context),
    [exit(Stream, kill) || Stream <- Streams],
    ok;
run(sends, Context) ->
    N = bench:scale(400000, Context),
    bench:compare(sends, "per second", [
        {stream_events, fun() -> per_second(N, fun() -> stream(N) end) end},
        {messages, fun() -> per_second(N, fun() -> messages(N) end) end}
    ], Context);
run(callbacks, Context) ->
    N = bench:scale(10000, Context),
    ok = py:register_function(bench_echo, fun([Value]) -> Value end),
    Run = fun(F) -> fun() -> per_second(N, fun() -> run_it(F, [N]) end) end end,
    bench:compare(callbacks, "calls per second", [{call, Run(calls)}, {acall, Run(acalls)}], Context);
run(depth, Context) ->
    ok = py:register_function(bench_down, fun([Depth]) -> run_it(down, [Depth]) end),
    [
        bench:compare(depth, "us of a turn", [
            {turn, fun() ->
                {Us, 0} = timer:tc(fun() -> run_it(down, [Depth]) end),
                Us / Depth
            end}
        ], Context#{x => Depth})
     || Depth <- [10, 100, 500]
    ],
    ok;
run(waiting, Context) ->
    N = 10000,
    bench:compare(waiting, "calls per second", [
        {meeting, fun() ->
            per_second(N, fun() ->
                Opts = #{pool => python, timeout => 120000},
                Refs = [py:spawn_call(bench_interop, meet, [N], #{}, Opts) || _ <- lists:seq(1, N)],
                [{ok, N} = py:await(Ref) || Ref <- Refs]
            end)
        end}
    ], Context).

%%% Calls.

call() ->
    {ok, 1} = py:call(bench_interop, echo, [1], #{}, #{pool => python}).

async_call() ->
    {ok, none} = py:call(asyncio, sleep, [0], #{}, #{pool => python}).

run_it(F, Args) ->
    {ok, Value} = py:call(bench_interop, F, Args, #{}, #{pool => python, timeout => 120000}),
    Value.

callers(Callers, N, Call) ->
    Each = N div Callers,
    Monitors = [
        spawn_monitor(fun() -> [Call() || _ <- lists:seq(1, Each)] end)
     || _ <- lists:seq(1, Callers)
    ],
    [
        receive
            {'DOWN', Monitor, process, Pid, normal} -> ok
        end
     || {Pid, Monitor} <- Monitors
    ].

per_second(N, Fun) ->
    {Us, _} = timer:tc(fun() -> bench_pool:alone(Fun) end),
    N * 1000000 / Us.

start_flood() ->
    spawn(fun() ->
        {ok, Ref} = py:stream_start(bench_interop, endless, [], #{pool => python}),
        take(Ref)
    end).

take(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> take(Ref)
    end.

%%% Messages.

stream(N) ->
    {ok, Ref} = py:stream_start(bench_values, ints, [N], #{pool => python}),
    N = bench_pool:count(Ref).

%% The order is checked on the way.
messages(N) ->
    Ref = py:spawn_call(bench_interop, sends, [self(), N], #{}, #{
        pool => python, timeout => infinity
    }),
    in_order(100000, 100000 + N),
    {ok, none} = py:await(Ref).

in_order(N, N) ->
    ok;
in_order(I, N) ->
    receive
        Number when is_integer(Number) -> I = Number
    end,
    in_order(I + 1, N).

%%% A port as erlport has it: a process that owns it, encodes and decodes.

erlport_style(Context) ->
    Priv = code:priv_dir(erlang_python),
    Program = filename:join(bench:source(Context), "bench_interop.py"),
    spawn(fun() ->
        Port = open_port({spawn_executable, os:getenv("ERLANG_PYTHON")}, [
            {packet, 4}, binary, {args, [Program, Priv]}, {env, [{"PYTHONPATH", Priv}]}
        ]),
        own(Port, 1, #{})
    end).

own(Port, Number, Asked) ->
    receive
        {ask, From, Name, Args} ->
            port_command(Port, term_to_binary({Number, Name, Args})),
            own(Port, Number + 1, Asked#{Number => From});
        {Port, {data, Data}} ->
            {Answered, Value} = binary_to_term(Data),
            {{Pid, Ref}, Rest} = maps:take(Answered, Asked),
            Pid ! {Ref, Value},
            own(Port, Number, Rest);
        stop ->
            port_close(Port)
    end.

ask(Pid, Name, Args) ->
    Ref = monitor(process, Pid),
    Pid ! {ask, {self(), Ref}, Name, Args},
    receive
        {Ref, Value} ->
            demonitor(Ref, [flush]),
            Value
    end.
