%% @doc How figures grow: with the number of streams, of workers, and with the
%% size of values.
-module(bench_growth).

-export([sections/0, run/2]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [streams, workers, sizes, crowd].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(streams, Context) ->
    N = bench:scale(400000, Context),
    [streams(Streams, N div Streams, Context#{x => Streams}) || Streams <- [1, 10, 100, 1000]],
    ok;
run(workers, Context) ->
    N = bench:scale(500000, Context),
    [workers(Workers, N, Context#{x => Workers}) || Workers <- [1, 2, 4]],
    ok;
run(sizes, Context) ->
    Sizes = [16, 256, 1024, 4096, 16384, 65536, 262144, 1048576],
    [sizes(Size, Context#{x => Size}) || Size <- Sizes],
    ok;
run(crowd, Context) ->
    [crowd(Idle, Context#{x => Idle}) || Idle <- [0, 10, 100, 1000]],
    ok.

%%% Streams at full speed on one worker, each with an owner of its own.

streams(Streams, Values, Context) ->
    Native = {credit, bench_rates:native_name(ints, 64, 2, Values div 64 * 64), []},
    bench:compare(streams, "events/s", [
        {native, fun() -> together(Native, Streams, Values div 64 * 64, native) end},
        {sync, fun() -> together({bench_values, ints, [Values]}, Streams, Values, python) end},
        {async, fun() -> together({bench_values, async_ints, [Values]}, Streams, Values, python) end}
    ], Context).

%% Values per second of all streams together.
together({M, F, Args}, Streams, Values, Pool) ->
    bench_pool:alone(fun() ->
        Start = bench_os:clock(),
        Owners = [
            spawn_monitor(fun() ->
                {ok, Ref} = py:stream_start(M, F, Args, #{pool => Pool}),
                Values = bench_pool:count(Ref),
                exit(counted)
            end)
         || _ <- lists:seq(1, Streams)
        ],
        [
            receive
                {'DOWN', Monitor, process, Pid, Reason} -> counted = Reason
            end
         || {Pid, Monitor} <- Owners
        ],
        Streams * Values * 1.0e9 / (bench_os:clock() - Start)
    end).

%% One stream at full speed on each worker; a call through the pool.
workers(Workers, N, Context) ->
    Opts = #{workers => Workers},
    Native = {credit, bench_rates:native_name(ints, 256, 2, N div 256 * 256), []},
    {ok, _} = bench_pool:start(several, Opts, Context),
    ok = py:stop_pool(native),
    {ok, _} = bench_pool:start(native, Opts, Context),
    bench:compare(workers, "events/s", [
        {native, fun() -> together(Native, Workers, N div 256 * 256, native) end},
        {python, fun() -> together({bench_values, ints, [N]}, Workers, N, several) end}
    ], Context),
    Sums = bench:scale(40000, Context),
    bench:compare(workers_computing, "events/s", [
        {python, fun() -> together({bench_values, sums, [Sums]}, Workers, Sums, several) end}
    ], Context),
    bench:compare(workers_calls, "us", [
        {echo, bench_latency:echo(1000, <<"0123456789">>, Context)},
        {python, bench_latency:timed(1000, fun() -> bench_pool:call(echo, [1], several, 5000) end)}
    ], Context),
    ok = py:stop_pool(several),
    ok = py:stop_pool(native),
    {ok, _} = bench_pool:start(native, #{}, Context).

%%% Binaries of one size: through a stream, and there and back in a call.

sizes(Size, Context) ->
    N = max(50, min(bench:scale(100000, Context), bench:scale(100000000, Context) div Size)),
    Run = max(1, min(256, 65536 div Size)),
    Frames = N div Run,
    {Sent, Name} =
        case Run of
            1 -> {N, io_lib:format("bytes~b_0_1_~b", [Size, N])};
            _ -> {Frames * Run, io_lib:format("bytes~b_~b_2_~b", [Size, Run, Frames])}
        end,
    Native = {credit, lists:flatten(Name), []},
    Bare = bench_rates:bare(["bytes", integer_to_list(Size)], N, Context),
    Python = {bench_values, blobs, [Size, N]},
    Megabytes = fun(Rate) -> Rate * Size / 1000000 end,
    bench:compare(sizes, "MB/s", [
        {bare_pipe, fun() -> Megabytes(Bare(fun(_) -> ok end)) end},
        {python, fun() -> Megabytes(bench_rates:stream(Python, N, python, #{})) end},
        {native, fun() -> Megabytes(bench_rates:stream(Native, Sent, native, #{})) end}
    ], Context),
    Data = binary:copy(<<"x">>, Size),
    Calls = max(20, min(500, bench:scale(100000000, Context) div Size)),
    Call = fun() -> bench_pool:call(echo, [{bytes, Data}], python, 5000) end,
    bench:compare(sizes_arguments, "us", [
        {echo, bench_latency:echo(Calls, Data, Context)},
        {python, bench_latency:timed(Calls, fun() -> bench_pool:call(size, [{bytes, Data}], python, 5000) end)}
    ], Context),
    bench:compare(sizes_calls, "us", [
        {echo, bench_latency:echo(Calls, Data, Context)},
        {python, bench_latency:timed(Calls, Call)}
    ], Context).

%%% A call, a new stream and a cancel on a worker that has many idle streams.

crowd(Idle, Context) ->
    bench_pool:with(crowd, #{}, Context, fun() ->
        Self = self(),
        Owner = spawn_link(fun() -> crowd_owner(Idle, Self) end),
        receive
            {Owner, ready} -> ok
        end,
        N = bench:scale(500, Context),
        bench:compare(crowd, "us", [
            {echo, bench_latency:echo(N, <<"0123456789">>, Context)},
            {call, bench_latency:timed(N, fun() -> bench_pool:call(echo, [1], crowd, 5000) end)},
            {first, bench_latency:times(N, fun() -> first(ints, [1]) end)},
            {cancel, bench_latency:times(N div 5, fun() -> cancel(endless, [0.001]) end)}
        ], Context),
        unlink(Owner),
        exit(Owner, kill)
    end).

first(F, Args) -> bench_latency:first(bench_values, F, Args, crowd).

cancel(F, Args) ->
    {Start, End} = bench_latency:cancelled(bench_values, F, Args, crowd),
    End - Start.

crowd_owner(Idle, Parent) ->
    Start = fun() -> py:stream_start(bench_values, async_idle, [], #{pool => crowd}) end,
    Started = [Start() || _ <- lists:seq(1, Idle)],
    [
        receive
            {py_stream, Ref, {data, 0}} -> ok
        end
     || {ok, Ref} <- Started
    ],
    Parent ! {self(), ready},
    timer:sleep(infinity).
