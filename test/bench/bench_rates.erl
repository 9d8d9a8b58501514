%% @doc How fast one stream is, for values of several kinds, beside the native
%% writer in the same loop, the bare pipe, and one frame for each event.
-module(bench_rates).

-export([sections/0, run/2, bare/3, native_name/4, stream/4]).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [ints, strings, rows, dicts, batch, bytes].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(ints, Context) ->
    N = bench:scale(2000000, Context),
    More = [{one_frame_each, events(N div 4, Context)}, {messages_alone, messages(N)}],
    values(ints, N, More, Context);
run(Kind, Context) when Kind =:= strings; Kind =:= rows; Kind =:= dicts ->
    values(Kind, bench:scale(1000000, Context), [], Context);
run(batch, Context) ->
    N = bench:scale(4000000, Context),
    Opts = #{batch => 256},
    Series = [{native, native(credit, ints, N, Opts)}, {python, python(ints, [N], N, Opts)}],
    bench:compare(batch, "events/s", Series ++ python_alone(ints, N), Context);
run(bytes, Context) ->
    bytes(bytes_64k, 65536, bench:scale(8000, Context), Context),
    bytes(bytes_1m, 1048576, bench:scale(500, Context), Context).

values(Kind, N, More, Context) ->
    Series = [
        {native, native(credit, Kind, N, #{})},
        {python, python(Kind, [N], N, #{})},
        {native_no_window, native(free, Kind, N, #{})}
    ],
    bench:compare(Kind, "events/s", Series ++ python_alone(Kind, N div 2) ++ More, Context).

bytes(Name, Size, N, Context) ->
    Megabytes = fun(Rate) -> fun() -> Rate() * Size / 1000000 end end,
    Bare = bare(["bytes", integer_to_list(Size)], N, Context),
    Native = "bytes" ++ integer_to_list(Size) ++ "_0_1_" ++ integer_to_list(N),
    Series = [
        {bare_pipe, fun() -> Bare(fun(_) -> ok end) end},
        {python, python(blobs, [Size, N], N, #{})},
        {native, fun() -> stream({credit, Native, []}, N, native, #{}) end}
    ],
    bench:compare(Name, "MB/s", [{S, Megabytes(Rate)} || {S, Rate} <- Series], Context).

%%% Series: each is a function that returns values per second.

python(F, Args, N, Opts) ->
    fun() -> stream({bench_values, F, Args}, N, python, Opts) end.

native(Module, Kind, N, Opts) ->
    Target = {Module, native_name(Kind, 256, 2, N), []},
    fun() -> stream(Target, N div 256 * 256, native, Opts) end.

%% @doc What the native writer is to yield: `N' values in runs. Four runs of 256
%% fill the default window; with two in one write the next are on their way while
%% these are taken.
-spec native_name(atom(), pos_integer(), pos_integer(), pos_integer()) -> string().
native_name(Kind, Run, InOneWrite, N) ->
    lists:flatten(io_lib:format("~s_~b_~b_~b", [Kind, Run, InOneWrite, N div Run])).

%% What Python can do without a port: bounds that nothing on this side moves.
python_alone(Kind, N) ->
    [
        {generator_alone, fun() -> alone(Kind, N, false) end},
        {generator_and_erlpack, fun() -> alone(Kind, N, true) end}
    ].

alone(Kind, N, Encodes) ->
    bench_pool:call(alone, [atom_to_binary(Kind), N, Encodes], python, 60000).

%% @doc Runs a stream whose owner only counts; returns values per second.
-spec stream({py_name:name(), py_name:name(), [term()]}, pos_integer(), atom(), map()) ->
    float().
stream({M, F, Args}, N, Pool, Opts) ->
    bench_pool:alone(fun() ->
        Start = erlang:monotonic_time(),
        {ok, Ref} = py:stream_start(M, F, Args, Opts#{pool => Pool}),
        N = bench_pool:count(Ref),
        per_second(N, Start)
    end).

%% One frame for each event, decoded by the port's owner, without flow control.
events(N, Context) ->
    Bare = bare(["events"], N, Context),
    fun() -> Bare(fun erlang:binary_to_term/1) end.

%% The same messages from one Erlang process to another, without port and Python: what
%% it costs that every value is a message of its own. 1,024 are on their way at most.
messages(N) ->
    Runs = N div 256,
    fun() ->
        bench_pool:alone(fun() ->
            Owner = self(),
            Ref = make_ref(),
            Start = erlang:monotonic_time(),
            Sender = spawn_link(fun() -> send_runs(Runs, lists:seq(100000, 100255), Ref, Owner, 4) end),
            ok = take_runs(Runs, Ref, Sender),
            per_second(Runs * 256, Start)
        end)
    end.

send_runs(0, _Run, _Ref, _Owner, _Credit) ->
    ok;
send_runs(Runs, Run, Ref, Owner, 0) ->
    receive
        taken -> send_runs(Runs, Run, Ref, Owner, 1)
    end;
send_runs(Runs, Run, Ref, Owner, Credit) ->
    _ = [Owner ! {py_stream, Ref, {data, Value}} || Value <- Run],
    send_runs(Runs - 1, Run, Ref, Owner, Credit - 1).

take_runs(0, _Ref, _Sender) ->
    ok;
take_runs(Runs, Ref, Sender) ->
    ok = take_values(256, Ref),
    Sender ! taken,
    take_runs(Runs - 1, Ref, Sender).

take_values(0, _Ref) ->
    ok;
take_values(N, Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> take_values(N - 1, Ref)
    end.

%% @doc A plain port, whose owner takes each of `N' frames; frames per second.
-spec bare([string()], pos_integer(), bench:context()) -> fun((fun((binary()) -> term())) -> float()).
bare(Args, N, Context) ->
    fun(Take) ->
        bench_pool:alone(fun() ->
            Port = bench_pool:port(Args ++ [integer_to_list(N)], Context),
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

per_second(N, Start) ->
    N * erlang:convert_time_unit(1, second, native) / max(1, erlang:monotonic_time() - Start).
