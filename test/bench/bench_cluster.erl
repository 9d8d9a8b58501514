%% @doc Measures pools of other nodes, each figure beside what it is compared with in the same run, and
%% prints a table. script/cluster-bench starts it. This node is in between the two that are measured: it
%% delays what passes, as a user-space forwarder, because not every kernel has netem.
-module(bench_cluster).

-export([main/0]).
%% Called in the nodes that are measured.
-export([pong/1, rate/3, plain_rate/2, send_plain/3, first/2, calls/2, erpcs/2, asleep/2, large/2, restart/2]).

-define(LONG, 60000).

-spec main() -> no_return().
main() ->
    try
        _ = os:cmd("epmd -daemon"),
        test_eventually:true(fun() -> element(1, erl_epmd:names()) =:= ok end),
        {ok, _} = net_kernel:start([list_to_atom("bench_cluster" ++ os:getpid() ++ "@127.0.0.1"), longnames]),
        ok = logger:set_primary_config(level, critical),
        about(),
        row(["what", "figure", "beside", "ratio"]),
        row(["---", "---", "---", "---"]),
        loopback(),
        restarts(),
        two_machines(),
        io:format("~nLoad average at the end: ~ts~n", [load()]),
        halt(0)
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "~p:~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

about() ->
    io:format("OTP ~s, ~ts, ~b schedulers, ~ts~nLoad average at the start: ~ts~n~n", [
        erlang:system_info(otp_release),
        string:trim(os:cmd("$ERLANG_PYTHON --version")),
        erlang:system_info(schedulers_online),
        string:trim(os:cmd("uname -sr")),
        load()
    ]).

load() ->
    string:trim(os:cmd("cut -d' ' -f1-3 /proc/loadavg")).

row(Cells) ->
    io:format("| ~ts |~n", [lists:join(" | ", Cells)]).

figure(What, Figure, Beside, Ratio) ->
    row([What, Figure, Beside, io_lib:format("~.2f", [Ratio])]).

%% The members of a comparison in turns, and the median of each.
in_turns(Rounds, Funs) ->
    Taken = [[Fun() || Fun <- Funs] || _ <- lists:seq(1, Rounds)],
    [median([lists:nth(N, Round) || Round <- Taken]) || N <- lists:seq(1, length(Funs))].

median(Values) ->
    lists:nth((length(Values) + 1) div 2, lists:sort(Values)).

per_second(Rate) -> io_lib:format("~b values/s", [round(Rate)]).

micros(Micros) -> io_lib:format("~b us", [round(Micros)]).

call(Member, Function, Args) ->
    {Peer, _} = Member,
    peer:call(Peer, ?MODULE, Function, Args, infinity).

pools() -> #{test => #{workers => 1, cluster => true}}.

args() -> ["-pa", filename:dirname(code:which(?MODULE)), "-kernel", "logger_level", "critical"].

%%% One machine, no delay.

loopback() ->
    A = test_cluster:start(pools(), #{args => args()}),
    B = {_, Node} = test_cluster:start(pools(), #{args => args()}),
    pong = call(A, pong, [Node]),
    Near = #{pool => test},
    Far = #{pool => {test, Node}},
    [_ = call(A, rate, [At, #{}, 100000]) || At <- [Near, Far]],
    N = 1000000,
    [Local, Remote, Plain] = in_turns(5, [
        fun() -> call(A, rate, [Near, #{}, N]) end,
        fun() -> call(A, rate, [Far, #{}, N]) end,
        fun() -> call(A, plain_rate, [Node, N div 4]) end
    ]),
    figure("integers from another node, loopback; the same on one node", per_second(Remote), per_second(Local), Remote / Local),
    figure("the same; a message for each value", per_second(Remote), per_second(Plain), Remote / Plain),
    latencies("loopback", A, Node, 300),
    [FirstNear, CallNear] = in_turns(3, [fun() -> call(A, first, [Near, 100]) end, fun() -> call(A, calls, [Near, 100]) end]),
    row(["first event and call on one node, for comparison", micros(FirstNear), micros(CallNear), ""]),
    [test_cluster:stop(M) || M <- [A, B]],
    ok.

latencies(Way, A, Node, N) ->
    At = #{pool => {test, Node}},
    Few = max(1, N div 3),
    [First, Call, Bare] = in_turns(3, [
        fun() -> call(A, first, [At, Few]) end,
        fun() -> call(A, calls, [At, Few]) end,
        fun() -> call(A, erpcs, [Node, Few]) end
    ]),
    figure("first event, " ++ Way ++ "; a bare erpc:call", micros(First), micros(Bare), First / Bare),
    figure("call, " ++ Way ++ "; a bare erpc:call", micros(Call), micros(Bare), Call / Bare).

%%% A rolling restart of three nodes.

restarts() ->
    A = test_cluster:start(#{}, #{args => args()}),
    Members = [test_cluster:start(pools(), #{args => args()}) || _ <- [1, 2, 3]],
    Nodes = [Node || {_, Node} <- Members],
    [pong = call(From, pong, [Node]) || From <- [A | Members], Node <- Nodes],
    {Calls, Streams, Errors} = call(A, restart, [Nodes, 16]),
    row([
        "rolling restart of three nodes by drain, 12 callers, 4 streams",
        io_lib:format("~b errors", [length(Errors)]),
        io_lib:format("~b calls, ~b streams", [Calls, Streams]),
        ""
    ]),
    [test_cluster:stop(M) || M <- [A | Members]],
    ok.

%%% Two machines.

two_machines() ->
    case test_netns:start(link) of
        {ok, Net} ->
            try two_machines(Net) after test_netns:stop(Net) end;
        {skip, Reason} ->
            io:format("~nThe rest was left out: ~ts~n", [Reason])
    end.

two_machines(Net) ->
    Link = test_netns:link(Net),
    %% The kernel's own buffer would hold half a second of a thin way.
    Args = args() ++ ["-kernel", "net_ticktime", "4", "-kernel", "inet_dist_listen_options", "[{sndbuf,262144}]"],
    B = {_, Node} = test_netns:node(b, Net, pools(), Args),
    A = test_netns:node(a, Net, #{}, Args),
    pong = call(A, pong, [Node]),
    At = #{pool => {test, Node}},
    _ = call(A, rate, [At, #{}, 100000]),
    ok = test_link:set(Link, #{delay => 5}),
    [Auto, Fixed, Plain] = in_turns(5, [
        fun() -> call(A, rate, [At, #{}, 1000000]) end,
        fun() -> call(A, rate, [At, #{window => 1024}, 50000]) end,
        fun() -> call(A, plain_rate, [Node, 100000]) end
    ]),
    figure("integers at 10 ms round trip, auto; window 1024", per_second(Auto), per_second(Fixed), Auto / Fixed),
    figure("the same; a message for each value", per_second(Auto), per_second(Plain), Auto / Plain),
    latencies("10 ms round trip", A, Node, 90),
    asleep(A, Node, Net),
    ok = test_link:set(Link, #{delay => 0, rate => 10000000}),
    {Gap, End, Ms} = call(A, large, [At, 64 * 1024 * 1024]),
    row([
        "two values of 64 MiB at 10 MB/s, net_ticktime 4; the longest gap of another stream",
        io_lib:format("~ts in ~.1f s", [End, Ms / 1000]),
        io_lib:format("~b ms", [Gap]),
        ""
    ]),
    [test_cluster:stop(M) || M <- [A, B]],
    ok.

%% The ticks of net_ticktime 4 pass with streams and without.
asleep(A, Node, Net) ->
    Idle = passing(Net),
    Owners = call(A, asleep, [Node, 200]),
    Asleep = passing(Net),
    row(["200 sleeping owners, all that passes the interface; no stream at all", Asleep, Idle, ""]),
    [exit(Pid, kill) || Pid <- Owners],
    ok.

passing(Net) ->
    Seconds = 15,
    {Bytes, Packets} = settled(Net),
    timer:sleep(Seconds * 1000),
    {BytesNow, PacketsNow} = test_netns:traffic(Net),
    io_lib:format("~b bytes/s, ~.1f packets/s", [round((BytesNow - Bytes) / Seconds), (PacketsNow - Packets) / Seconds]).

%% When the windows are full nothing but ticks passes.
settled(Net) ->
    {Before, _} = test_netns:traffic(Net),
    timer:sleep(1000),
    case test_netns:traffic(Net) of
        Now = {Bytes, _} when Bytes - Before < 2000 -> Now;
        _ -> settled(Net)
    end.

%%% In the node that asks.

-spec pong(node()) -> pong | pang.
pong(Node) ->
    net_adm:ping(Node).

%% @doc Values a second that an owner counts.
-spec rate(map(), map(), pos_integer()) -> float().
rate(At, Opts, N) ->
    {ok, Ref} = py:stream_start(builtins, range, [N + 1], maps:merge(At, Opts)),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    Started = erlang:monotonic_time(),
    N = counted(Ref, 0),
    seconds(Started, N).

counted(Ref, N) ->
    receive
        {py_stream, Ref, {data, _}} -> counted(Ref, N + 1);
        {py_stream, Ref, done} -> N
    end.

seconds(Started, N) ->
    N * 1.0e9 / erlang:convert_time_unit(erlang:monotonic_time() - Started, native, nanosecond).

%% @doc The same of messages that a process there sends, one for each value.
-spec plain_rate(node(), pos_integer()) -> float().
plain_rate(Node, N) ->
    Ref = make_ref(),
    Started = erlang:monotonic_time(),
    _ = spawn(Node, ?MODULE, send_plain, [self(), Ref, N]),
    N = counted(Ref, 0),
    seconds(Started, N).

-spec send_plain(pid(), reference(), pos_integer()) -> term().
send_plain(Owner, Ref, N) ->
    [Owner ! {py_stream, Ref, {data, I}} || I <- lists:seq(1, N)],
    Owner ! {py_stream, Ref, done}.

%% @doc Median microseconds to the first event of a stream.
-spec first(map(), pos_integer()) -> non_neg_integer().
first(At, N) ->
    timed(N, fun() ->
        {ok, Ref} = py:stream_start(builtins, range, [1], At),
        {ok, 0} = py:stream_next(Ref, ?LONG),
        Ref
    end, fun(Ref) -> done = py:stream_next(Ref, ?LONG) end).

%% @doc The same of a call.
-spec calls(map(), pos_integer()) -> non_neg_integer().
calls(At, N) ->
    timed(N, fun() -> {ok, 0} = py:call(builtins, len, [[]], #{}, At) end, fun(_) -> ok end).

%% @doc And of a call of Erlang.
-spec erpcs(node(), pos_integer()) -> non_neg_integer().
erpcs(Node, N) ->
    timed(N, fun() -> 0 = erpc:call(Node, erlang, length, [[]]) end, fun(_) -> ok end).

timed(N, Fun, After) ->
    median([
        begin
            {Micros, Result} = timer:tc(Fun),
            _ = After(Result),
            Micros
        end
     || _ <- lists:seq(1, N)
    ]).

%% @doc Owners that sleep, each with a stream that does not end.
-spec asleep(node(), pos_integer()) -> [pid()].
asleep(Node, N) ->
    [
        spawn(fun() ->
            {ok, _} = py:stream_start(itertools, count, [], #{pool => {test, Node}}),
            timer:sleep(infinity)
        end)
     || _ <- lists:seq(1, N)
    ].

%% @doc Two large values, and meanwhile the longest pause of another stream.
-spec large(map(), pos_integer()) -> {non_neg_integer(), string(), non_neg_integer()}.
large(At, Size) ->
    ok = py:exec(["def large():\n    for _ in range(2):\n        yield b'x' * ", integer_to_list(Size)], At),
    {ok, Small} = py:stream_start(itertools, count, [], At#{window => 4}),
    {ok, 0} = py:stream_next(Small, ?LONG),
    {Reader, Monitor} = spawn_monitor(fun() ->
        exit(py:stream('__main__', large, [], #{}, At#{timeout => infinity}))
    end),
    Started = erlang:monotonic_time(millisecond),
    {Gap, Result} = gaps(Small, Reader, Monitor, Started, 0),
    Ms = erlang:monotonic_time(millisecond) - Started,
    ok = py:stream_cancel(Small, [flush]),
    case Result of
        {ok, [<<_:Size/binary>>, <<_:Size/binary>>]} -> {Gap, "no nodedown", Ms};
        {error, Reason} -> {Gap, lists:flatten(io_lib:format("~p", [Reason])), Ms}
    end.

gaps(Ref, Reader, Monitor, Last, Longest) ->
    receive
        {py_stream, Ref, {data, _}} ->
            Now = erlang:monotonic_time(millisecond),
            gaps(Ref, Reader, Monitor, Now, max(Longest, Now - Last));
        {py_stream, Ref, {error, Reason}} ->
            {Longest, {error, Reason}};
        {'DOWN', Monitor, process, Reader, Result} ->
            {Longest, Result}
    end.

%% @doc Drains, stops and starts each node while requests run through `any'.
-spec restart([node()], pos_integer()) -> {non_neg_integer(), non_neg_integer(), [term()]}.
restart(Nodes, Running) ->
    members(Nodes),
    Runs = [spawn_monitor(fun() -> request(N rem 4, 0) end) || N <- lists:seq(1, Running)],
    [
        begin
            ok = py:drain({test, Node}, ?LONG),
            ok = erpc:call(Node, application, stop, [erlang_python]),
            {ok, _} = erpc:call(Node, application, ensure_all_started, [erlang_python]),
            members(Nodes)
        end
     || Node <- Nodes
    ],
    [Pid ! stop || {Pid, _} <- Runs],
    Ends = [
        receive
            {'DOWN', Monitor, process, Pid, End} -> End
        end
     || {Pid, Monitor} <- Runs
    ],
    {
        lists:sum([N || {stopped, Kind, N} <- Ends, Kind =/= 0]),
        lists:sum([N || {stopped, 0, N} <- Ends]),
        [End || End <- Ends, element(1, End) =/= stopped]
    }.

members(Nodes) ->
    test_eventually:equal(lists:sort(Nodes), fun() -> py:nodes(test) end).

request(Kind, N) ->
    receive
        stop -> exit({stopped, Kind, N})
    after 0 -> ok
    end,
    Any = #{pool => {test, any}},
    Result =
        case Kind of
            0 -> {py:stream(builtins, range, [2000], #{}, Any), {ok, lists:seq(0, 1999)}};
            _ -> {py:call(time, sleep, [0.005], #{}, Any), {ok, none}}
        end,
    case Result of
        {Same, Same} -> request(Kind, N + 1);
        {Other, _} -> exit({failed, Other})
    end.
