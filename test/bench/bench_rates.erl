%% @doc How fast one stream is, for values of several kinds, beside the native
%% writer in the same loop, the bare pipe, and one frame for each event.
-module(bench_rates).

-export([sections/0, run/2, stream/4, count/1]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [ints, strings, rows, dicts, batch, bytes].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(ints, Context) ->
    N = bench:scale(2000000, Context),
    values(ints, N, [{one_frame_each, events(N div 4, Context)}], Context);
run(Kind, Context) when Kind =:= strings; Kind =:= rows; Kind =:= dicts ->
    values(Kind, bench:scale(1000000, Context), [], Context);
run(batch, Context) ->
    N = bench:scale(4000000, Context),
    Opts = #{batch => 256},
    bench:compare(batch, "events/s", [
        {native, native(credit, ints, 256, N, Opts)},
        {python, python(ints, N, Opts)}
    ], Context);
run(bytes, Context) ->
    [bytes(Name, Size, bench:scale(Total, Context), Context)
     || {Name, Size, Total} <- [{bytes_64k, 65536, 12000}, {bytes_1m, 1048576, 800}]],
    ok.

values(Kind, N, More, Context) ->
    bench:compare(Kind, "events/s", [
        {native, native(credit, Kind, 256, N, #{})},
        {python, python(Kind, N, #{})},
        {native_no_window, native(free, Kind, 256, N, #{})}
        | More
    ], Context).

bytes(Name, Size, N, Context) ->
    Megabytes = fun(Rate) -> fun() -> Rate() * Size / 1000000 end end,
    bench:compare(Name, "MB/s", [
        {bare_pipe, Megabytes(bare(["bytes", integer_to_list(Size)], N, fun drop/1, Context))},
        {python, Megabytes(python(blobs, [Size, N], N, #{}))},
        {native, Megabytes(native(credit, "bytes" ++ integer_to_list(Size), 0, N, #{}))}
    ], Context).

%%% Series: each is a function that returns values per second.

python(Kind, N, Opts) ->
    python(Kind, [N], N, Opts).

python(Kind, Args, N, Opts) ->
    fun() -> stream({bench_values, Kind, Args}, N, python, Opts) end.

%% Four runs fill the default window, so two go into a write: one is on its way
%% while the other is taken.
native(Module, Kind, Run, N, Opts) ->
    Frames = N div max(1, Run),
    Name = lists:flatten(io_lib:format("~s_~b_~b_~b", [Kind, Run, 2, Frames])),
    fun() -> stream({Module, Name, []}, Frames * max(1, Run), native, Opts) end.

%% @doc Runs a stream whose owner only counts; returns values per second.
-spec stream({py_options:name(), py_options:name(), [term()]}, pos_integer(), atom(), map()) ->
    float().
stream({M, F, Args}, N, Pool, Opts) ->
    alone(fun() ->
        Start = erlang:monotonic_time(),
        {ok, Ref} = py:stream_start(M, F, Args, Opts#{pool => Pool}),
        N = count(Ref),
        per_second(N, Start)
    end).

%% @doc Takes all events of a stream; returns how many values there were.
-spec count(reference()) -> non_neg_integer().
count(Ref) -> count(Ref, 0).

count(Ref, N) ->
    receive
        {py_stream, Ref, {data, _}} -> count(Ref, N + 1);
        {py_stream, Ref, {batch, Values}} -> count(Ref, N + length(Values));
        {py_stream, Ref, done} -> N
    end.

%% One frame for each event, decoded by the port's owner, without flow control.
events(N, Context) ->
    bare(["events"], N, fun binary_to_term/1, Context).

drop(_) -> ok.

%% A plain port, whose owner takes each frame.
bare(Args, N, Take, Context) ->
    fun() ->
        alone(fun() ->
            Port = open_port({spawn_executable, bench:build(Context) ++ "/pipe"}, [
                {packet, 4}, binary, {args, Args ++ [integer_to_list(N)]}
            ]),
            Start = erlang:monotonic_time(),
            port_command(Port, <<"go">>),
            frames(Port, Take, N),
            Rate = per_second(N, Start),
            port_close(Port),
            Rate
        end)
    end.

frames(_Port, _Take, 0) ->
    ok;
frames(Port, Take, N) ->
    receive
        {Port, {data, Data}} ->
            _ = Take(Data),
            frames(Port, Take, N - 1)
    end.

%% A process of its own, so that no figure depends on the heap of the one before.
alone(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({ok, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {ok, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

per_second(N, Start) ->
    N * erlang:convert_time_unit(1, second, native) / max(1, erlang:monotonic_time() - Start).
