%% @doc What streams cost in memory: one whose owner sleeps, a very long one, and
%% many that have nothing to do.
-module(bench_memory).

-export([sections/0, run/2]).

-define(MIB, 1048576).
%% The default of the option window_bytes.
-define(WINDOW_BYTES, 4 * ?MIB).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [asleep, long, idle].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(asleep, Context) -> asleep(Context);
run(long, Context) -> long(Context);
run(idle, Context) ->
    [
        bench:compare(idle, "bytes", [
            {Name, idle(F, N, Context)}
         || {Name, F, Most} <- [{async, async_idle, 10000}, {sync, idle, 1000}], N =< Most
        ], Context#{warm => false, x => N})
     || N <- [10, 100, 1000, 10000]
    ],
    ok.

%%% Owners that sleep.

%% All pairs at once, each with a worker of its own: five of each for as long as
%% one. What the node grows by is shared out among them.
asleep(Context) ->
    Seconds = bench:scale(30, Context),
    Targets = [{integers, {endless, [0]}}, {blobs_1m, {endless_blobs, [?MIB]}}],
    Streams = [
        asleep_start(Name, Target, N, Context)
     || N <- lists:seq(1, bench:rounds(Context)), {Name, Target} <- Targets
    ],
    Before = node_memory(),
    Beginnings = [asleep_open(Stream) || Stream <- Streams],
    erlang:garbage_collect(),
    io:format("   growth in MiB with owners asleep, of ~b streams~n", [length(Streams)]),
    asleep_watch(0, Seconds, Before, Beginnings, Context),
    [py:stop_pool(Pool) || {_, Pool, _} <- Streams],
    ok.

asleep_start(Name, Target, N, Context) ->
    Pool = list_to_atom(lists:concat([Name, N])),
    {ok, _} = bench_pool:start(Pool, #{}, Context),
    {Name, Pool, Target}.

asleep_open({Name, Pool, {F, Args}}) ->
    Pid = bench_os:worker_pid(Pool),
    Before = {Name, Pid, bench_os:rss(Pid), bench_os:cpu_ms(Pid)},
    Self = self(),
    Owner = spawn_link(fun() ->
        {ok, _} = py:stream_start(bench_values, F, Args, #{pool => Pool}),
        Self ! {self(), started},
        timer:sleep(infinity)
    end),
    receive
        {Owner, started} -> Before
    end.

node_memory() ->
    {bench_os:node_rss(), erlang:memory(total), bench_os:cpu_ms(os:getpid())}.

asleep_watch(At, Until, Before, Beginnings, Context) ->
    Step = max(1, Until div 6),
    timer:sleep(1000 * Step),
    Now = At + Step,
    {Rss0, Memory0, Cpu0} = Before,
    {Rss, Memory, Cpu} = node_memory(),
    %% What the windows may hold is not growth; those of integers hold next to nothing.
    Windows = ?WINDOW_BYTES * length([Pid || {blobs_1m, Pid, _, _} <- Beginnings]),
    Python = [
        {Name, (bench_os:rss(Pid) - R) / ?MIB, (bench_os:cpu_ms(Pid) - C) / (Now * 10)}
     || {Name, Pid, R, C} <- Beginnings
    ],
    Figures =
        [
            {node, "MiB", (Rss - Rss0) / ?MIB},
            {node_past_windows, "MiB", (Rss - Rss0 - Windows) / ?MIB},
            {node_memory_function, "MiB", (Memory - Memory0) / ?MIB},
            {node_cpu_each_stream, "% of a core", (Cpu - Cpu0) / (Now * 10) / length(Beginnings)},
            {python_cpu, "% of a core", bench:percentile(50, [Percent || {_, _, Percent} <- Python])}
        ] ++ [{Name, "MiB", Growth} || {Name, Growth, _} <- Python],
    [
        bench:report(asleep, Series, #{unit => Unit, x => Now}, Value, Context)
     || {Series, Unit, Value} <- Figures
    ],
    Now >= Until andalso
        [io:format("~-24s ~8.2f ~s~n", [Name, float(V), Unit]) || {Name, Unit, V} <- Figures],
    Now >= Until orelse asleep_watch(Now, Until, Before, Beginnings, Context).

%%% A long stream: is it as fast, and as small, at its end as at its start?

long(Context) ->
    N = bench:scale(10000000, Context),
    Native = bench_rates:native_name(ints, 256, 2, N),
    Cold = Context#{warm => false},
    bench:compare(long, "events/s", [
        {native, fun() -> long(credit, Native, [], N div 256 * 256, native, Context) end},
        {python, fun() -> long(bench_values, ints, [N], N, python, Context) end}
    ], Cold).

long(M, F, Args, N, Pool, Context) ->
    Pid = bench_os:worker_pid(Pool),
    Marks = bench_pool:alone(fun() ->
        {ok, Ref} = py:stream_start(M, F, Args, #{pool => Pool}),
        marks(Ref, Pid, N div 10, N div 10, 0, [mark(Pid)])
    end),
    Tenths = [
        per_second(N div 10, End - Begin)
     || {{Begin, _, _}, {End, _, _}} <- lists:zip(lists:droplast(Marks), tl(Marks))
    ],
    [
        bench:report(long_tenths, Pool, #{unit => "events/s", x => X}, Rate, Context)
     || {X, Rate} <- lists:zip(lists:seq(1, 10), Tenths)
    ],
    [First, Second | _] = Tenths,
    {Time1, Node1, Python1} = lists:nth(2, Marks),
    {Time2, Node2, Python2} = Last = lists:last(Marks),
    Last = lists:nth(11, Marks),
    [
        {"events/s", per_second(N div 10 * 9, Time2 - Time1)},
        {"last of first tenth", lists:last(Tenths) / First},
        {"last of second tenth", lists:last(Tenths) / Second},
        {"MiB node", (Node2 - Node1) / ?MIB},
        {"MiB writer", (Python2 - Python1) / ?MIB}
    ].

%% Growth counts from the end of the first tenth, when buffers have their size.
marks(Ref, Pid, Next, Step, N, Marks) ->
    receive
        {py_stream, Ref, {data, _}} when N + 1 =:= Next ->
            marks(Ref, Pid, Next + Step, Step, N + 1, [mark(Pid) | Marks]);
        {py_stream, Ref, {data, _}} ->
            marks(Ref, Pid, Next, Step, N + 1, Marks);
        {py_stream, Ref, done} ->
            lists:reverse(Marks);
        {py_stream, Ref, Terminal} ->
            error(Terminal)
    end.

mark(Pid) -> {bench_os:clock(), bench_os:node_rss(), bench_os:rss(Pid)}.

per_second(N, Nanoseconds) -> N * 1.0e9 / max(1, Nanoseconds).

%%% Streams that have sent one value and wait.

idle(F, Streams, Context) ->
    fun() ->
        bench_pool:with(idle, #{max_streams => Streams + 1}, Context, fun() ->
            Pid = bench_os:worker_pid(idle),
            bench_pool:alone(fun() ->
                _ = idle_start(F),
                Node0 = node_bytes(),
                Python0 = bench_os:rss(Pid),
                [idle_start(F) || _ <- lists:seq(1, Streams)],
                [
                    {"MiB worker", Python0 / ?MIB},
                    {"bytes node", (node_bytes() - Node0) / Streams},
                    {"bytes Python", (bench_os:rss(Pid) - Python0) / Streams}
                ]
            end)
        end)
    end.

idle_start(F) ->
    {ok, Ref} = py:stream_start(bench_values, F, [], #{pool => idle}),
    receive
        {py_stream, Ref, {data, 0}} -> Ref;
        {py_stream, Ref, Terminal} -> error(Terminal)
    end.

node_bytes() ->
    erlang:garbage_collect(),
    erlang:memory(total).
