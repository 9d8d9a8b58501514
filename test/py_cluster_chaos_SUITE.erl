%% @doc Faults of every kind while streams and calls run on other nodes: each request has one end, the
%% last, no value is missing, doubled or late, and the other nodes are clean after each. script/cluster-chaos
%% runs more of them: the OS variable CLUSTER_FAULTS says how many, and CLUSTER_SEED which.
-module(py_cluster_chaos_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([faults/1, splits/1]).
%% Called in other nodes.
-export([open/2, started/2, stopped/1]).

-define(LONG, 15000).
%% Seconds until a dead connection is seen, about.
-define(TICKTIME, 2).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {seconds, 120 + 6 * count()}}].

-spec all() -> [atom()].
all() ->
    [faults, splits].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case test_cluster:start_this_node() of
        ok ->
            Config;
        Skip ->
            Skip
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

count() ->
    list_to_integer(os:getenv("CLUSTER_FAULTS", integer_to_list(length(kinds())))).

kinds() ->
    [
        part_here, part_there, part_and_meet, kill, kill_behind_a_dead_link, owner_node, split, split_as_long_as_the_ticks,
        short_split, python, relay, stop, drain, cancel
    ].

%% `b' is reached over a link that can be cut, and `c' is beside it for those that choose a node.
-spec faults(ct_suite:ct_config()) -> {comment, string()}.
faults(_Config) ->
    Seed = list_to_integer(os:getenv("CLUSTER_SEED", integer_to_list(erlang:system_time(second)))),
    _ = rand:seed(exsss, Seed),
    %% Each kind once, and then any.
    Faults = lists:sublist(shuffled(kinds()) ++ [any_of(kinds()) || _ <- lists:seq(1, count())], count()),
    Before = net_kernel:get_net_ticktime(),
    _ = net_kernel:set_net_ticktime(?TICKTIME, 0),
    C = test_cluster:start(pools(), #{args => arguments()}),
    Started = linked(#{c => C}),
    try
        {Last, Figures} = lists:foldl(fun fault/2, {Started, zero()}, Faults),
        test_cluster:stop(maps:get(b, Last)),
        test_link:stop(maps:get(link, Last)),
        Kinds = lists:foldl(fun(Kind, Counts) -> add(Kind, 1, Counts) end, #{}, Faults),
        Seen = lists:flatten(io_lib:format("seed ~b, faults ~0p, ~0p", [Seed, Kinds, Figures])),
        ct:pal("~ts", [Seen]),
        ?assertMatch(#{missing := 0, doubled := 0, late := 0, without_end := 0, other := []}, Figures),
        {comment, Seen}
    after
        _ = net_kernel:set_net_ticktime(Before, 0),
        test_cluster:stop(C)
    end.

zero() ->
    #{streams => 0, calls => 0, values => 0, missing => 0, doubled => 0, late => 0, without_end => 0, other => [], ends => #{}}.

add(Key, N, Counts) ->
    maps:update_with(Key, fun(Was) -> Was + N end, N, Counts).

any_of(List) -> lists:nth(rand:uniform(length(List)), List).

shuffled(List) -> [Item || {_, Item} <- lists:sort([{rand:uniform(), Item} || Item <- List])].

pools() -> #{faulty => #{workers => 2, cluster => true}}.

arguments() -> arguments(?TICKTIME).

arguments(Ticktime) ->
    Path = filename:dirname(code:which(?MODULE)),
    ["-pa", Path, "-kernel", "net_ticktime", integer_to_list(Ticktime), "-kernel", "logger_level", "critical"].

linked(Nodes) ->
    {B, Link} = test_link:member(pools(), #{}, arguments()),
    Nodes#{b => B, link => Link}.

fault(Kind, {Nodes = #{b := {_, Node}, c := C = {_, Third}}, Figures}) ->
    test_eventually:equal(lists:sort([Node, Third]), fun() ->
        _ = [net_adm:ping(N) || N <- [Node, Third]],
        py:nodes(faulty)
    end),
    Owners = [monitored(Owner) || Owner <- started([{faulty, Node}, {faulty, any}, {faulty, Third}], 6)],
    Waiting = [py:spawn_call(asyncio, sleep, [60], #{}, #{pool => Pool}) || Pool <- [{faulty, Node}, {faulty, any}]],
    Callers = [spawn_monitor(fun() -> calls(#{}) end) || _ <- [1, 2]],
    timer:sleep(rand:uniform(60)),
    NewNodes = #{b := NewB} = inflict(Kind, Nodes),
    %% What the fault does not concern goes on, and is ended here.
    timer:sleep(100),
    [Pid ! stop || {Pid, _} <- Owners ++ Callers],
    Ends = [ended(Owner) || Owner <- Owners],
    Called = lists:foldl(fun(Caller, Counts) -> merged(ended(Caller), Counts) end, #{}, Callers),
    Results = [py:await(Call, 0) || Call <- Waiting],
    %% Those that are drained away from one node run on the other.
    Kind =:= drain andalso ?assertEqual([{ok, none}], maps:keys(Called)),
    test_cluster:clean(NewB),
    test_cluster:clean(C),
    test_leftovers:none(),
    Left =
        receive
            Message -> [{left, Message}]
        after 0 -> []
        end,
    Counted = lists:foldl(fun count_end/2, Figures, [{stream, Kind, End} || End <- Ends]),
    Others = [{Kind, R} || R <- Results ++ maps:keys(Called), not is_expected(R)] ++ Left,
    Calls = length(Results) + lists:sum(maps:values(Called)),
    {NewNodes, (add(calls, Calls, Counted))#{other := Others ++ maps:get(other, Counted)}}.

merged(Counts, Others) when is_map(Counts) -> maps:fold(fun add/3, Others, Counts);
merged(Other, Others) -> add(Other, 1, Others).

%% What the result of a call may be here.
is_expected({ok, none}) -> true;
is_expected({error, timeout}) -> true;
is_expected({error, draining}) -> true;
is_expected({error, {Kind, _}}) -> lists:member(Kind, [nodedown, worker_exit, no_worker]);
is_expected(_) -> false.

count_end({stream, Kind, End}, Figures) ->
    Streams = add(streams, 1, Figures),
    case End of
        {end_of_stream, Reason, Values} ->
            Ends = maps:get(ends, Streams),
            add(values, Values, Streams#{ends := add(kind(Reason), 1, Ends)});
        {wrong, What, About} when What =:= missing; What =:= doubled; What =:= late ->
            ct:pal("~p in ~p: ~p", [What, Kind, About]),
            add(What, 1, Streams);
        without_end ->
            ct:pal("no end after ~p", [Kind]),
            add(without_end, 1, Streams);
        Other ->
            Streams#{other := [{Kind, Other} | maps:get(other, Streams)]}
    end.

kind({Kind, _}) -> Kind;
kind(Kind) -> Kind.

ended({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    after ?LONG ->
        exit(Pid, kill),
        receive
            {'DOWN', Monitor, process, Pid, _} -> without_end
        end
    end.

%%% The faults. Each returns the nodes that there are afterwards.

inflict(part_here, Nodes = #{b := B}) ->
    ok = test_cluster:part(B),
    Nodes;
inflict(part_there, Nodes = #{b := B}) ->
    _ = test_cluster:call(B, erlang, disconnect_node, [node()]),
    Nodes;
inflict(part_and_meet, Nodes = #{b := B = {_, Node}}) ->
    ok = test_cluster:part(B),
    _ = net_adm:ping(Node),
    Nodes;
inflict(kill, Nodes = #{b := B}) ->
    ok = test_cluster:kill(B),
    again(Nodes);
%% Nobody hears of its end but by the ticks.
inflict(kill_behind_a_dead_link, Nodes = #{b := B = {_, Node}, link := Link}) ->
    ok = test_link:set(Link, #{cut => true}),
    ok = test_cluster:kill(B),
    gone(Node),
    again(Nodes);
inflict(owner_node, Nodes = #{b := {_, Node}}) ->
    Owner = test_cluster:start(#{}, #{args => arguments()}),
    ok = test_cluster:call(Owner, ?MODULE, open, [Node, 3]),
    ok = test_cluster:kill(Owner),
    Nodes;
inflict(split, Nodes = #{b := {_, Node}, link := Link}) ->
    ok = test_link:set(Link, #{cut => true}),
    gone(Node),
    timer:sleep(1000),
    ok = test_link:set(Link, #{cut => false}),
    Nodes;
inflict(split_as_long_as_the_ticks, Nodes = #{link := Link}) ->
    ok = test_link:set(Link, #{cut => true}),
    timer:sleep(?TICKTIME * 750 + rand:uniform(?TICKTIME * 500)),
    ok = test_link:set(Link, #{cut => false}),
    timer:sleep(300),
    Nodes;
inflict(short_split, Nodes = #{link := Link}) ->
    ok = test_link:set(Link, #{cut => true}),
    timer:sleep(300),
    ok = test_link:set(Link, #{cut => false}),
    Nodes;
inflict(python, Nodes = #{b := B}) ->
    #{workers := Workers} = test_cluster:call(B, py, info, [faulty]),
    #{os_pid := Pid} = any_of(Workers),
    ok = test_os_process:kill(Pid),
    Nodes;
inflict(relay, Nodes = #{b := B}) ->
    [exit(Pid, kill) || {Pid, _, _} <- lists:sublist(test_cluster:call(B, ets, tab2list, [py_relays]), 2)],
    timer:sleep(50),
    %% The row of one that was killed goes when somebody counts.
    _ = test_cluster:call(B, py_relays, number, [faulty]),
    Nodes;
inflict(stop, Nodes = #{b := B}) ->
    ok = test_cluster:call(B, application, stop, [erlang_python]),
    {ok, _} = test_cluster:call(B, application, ensure_all_started, [erlang_python]),
    Nodes;
inflict(drain, Nodes = #{b := B}) ->
    %% Nothing may have come there yet.
    _ = test_cluster:call(B, py, drain, [faulty, 20]),
    timer:sleep(50),
    ok = test_cluster:call(B, py, resume, [faulty]),
    Nodes;
inflict(cancel, Nodes) ->
    Nodes.

again(Nodes = #{link := Link}) ->
    ok = test_link:set(Link, #{cut => false}),
    test_link:stop(Link),
    linked(Nodes).

gone(Node) ->
    test_eventually:true(fun() -> not lists:member(Node, nodes()) end).

%%% What runs.

%% @doc Streams of a node, as an owner that is killed with its own.
-spec open(node(), pos_integer()) -> ok.
open(Node, N) ->
    Self = self(),
    _ = spawn(fun() ->
        Refs = [element(2, {ok, _} = py:stream_start(itertools, count, [], #{pool => {faulty, Node}})) || _ <- lists:seq(1, N)],
        _ = [{ok, 0} = py:stream_next(Ref, ?LONG) || Ref <- Refs],
        Self ! {self(), open},
        timer:sleep(infinity)
    end),
    receive
        {_, open} -> ok
    end.

%% @doc Owners of streams of different kinds, each of which ends with what it saw.
-spec started([py_options:destination()], pos_integer()) -> [pid()].
started(Pools, N) ->
    [spawn(fun() -> own(lists:nth(1 + I rem length(Pools), Pools), I) end) || I <- lists:seq(1, N)].

%% @doc What each of them saw, those that have not ended by being cancelled.
-spec stopped([pid()]) -> [term()].
stopped(Pids) ->
    Owners = [monitored(Pid) || Pid <- Pids],
    [Pid ! stop || Pid <- Pids],
    [ended(Owner) || Owner <- Owners].

monitored(Pid) -> {Pid, monitor(process, Pid)}.

own(Pool, I) ->
    {Pause, Opts} = lists:nth(1 + I rem 4, [{0, #{}}, {0, #{batch => 7}}, {1, #{window => 16}}, {0, #{window => 64, batch => 16}}]),
    case py:stream_start(itertools, count, [], Opts#{pool => Pool}) of
        {ok, Ref} -> owned(Ref, 0, Pause);
        {error, Reason} -> after_end(make_ref(), {error, Reason}, 0)
    end.

owned(Ref, Next, Pause) ->
    Pause > 0 andalso timer:sleep(Pause),
    receive
        {py_stream, Ref, {data, Next}} -> owned(Ref, Next + 1, Pause);
        {py_stream, Ref, {data, Value}} -> wrong(Value, Next);
        {py_stream, Ref, {batch, Values}} -> owned(Ref, batch(Values, Next), Pause);
        {py_stream, Ref, End} -> after_end(Ref, End, Next);
        stop ->
            py:stream_cancel(Ref),
            self() ! stop,
            cancelled(Ref, Next)
    end.

%% What was sent before.
cancelled(Ref, Next) ->
    receive
        {py_stream, Ref, {data, Next}} -> cancelled(Ref, Next + 1);
        {py_stream, Ref, {data, Value}} -> wrong(Value, Next);
        {py_stream, Ref, {batch, Values}} -> cancelled(Ref, batch(Values, Next));
        {py_stream, Ref, End} -> after_end(Ref, End, Next)
    end.

batch([Next | Rest], Next) -> batch(Rest, Next + 1);
batch([], Next) -> Next;
batch([Value | _], Next) -> wrong(Value, Next).

-spec wrong(term(), integer()) -> no_return().
wrong(Value, Next) when Value < Next -> exit({wrong, doubled, {Value, Next}});
wrong(Value, Next) -> exit({wrong, missing, {Value, Next}}).

%% Nothing comes after the end.
after_end(Ref, End, Values) ->
    receive
        {py_stream, Ref, Late} -> exit({wrong, late, {End, Late}})
    after 200 ->
        Reason = case End of {error, R} -> R; done -> done end,
        %% Until somebody asks.
        receive
            stop -> exit({end_of_stream, Reason, Values})
        end
    end.

calls(Counts) ->
    receive
        stop -> exit(Counts)
    after 0 -> ok
    end,
    Result = py:call(time, sleep, [0.002], #{}, #{pool => {faulty, any}}),
    calls(add(Result, 1, Counts)).

%%% Two machines, as far as this one can be two.

%% A split in which packets vanish, healed before, at, and after the end of the ticks.
-spec splits(ct_suite:ct_config()) -> {comment, string()} | {skip, string()}.
splits(_Config) ->
    case test_netns:start(cable) of
        {ok, Net} ->
            try splits_of(Net) after test_netns:stop(Net) end;
        Skip ->
            Skip
    end.

splits_of(Net) ->
    B = {_, Node} = test_netns:node(b, Net, pools(), arguments(4)),
    A = test_netns:node(a, Net, #{}, arguments(4)),
    Seen = [
        begin
            test_eventually:true(
                fun() -> test_cluster:call(A, net_adm, ping, [Node]) =:= pong end, 30000
            ),
            Owners = test_cluster:call(A, ?MODULE, started, [[{faulty, Node}], 4]),
            test_eventually:equal(4, fun() -> test_cluster:call(B, ets, info, [py_relays, size]) end),
            timer:sleep(200),
            ok = test_netns:cut(Net),
            timer:sleep(Cut),
            ok = test_netns:join(Net),
            timer:sleep(1000),
            Ends = test_cluster:call(A, ?MODULE, stopped, [Owners]),
            test_cluster:clean(B),
            test_cluster:clean(A),
            [?assertMatch({end_of_stream, _, _}, End) || End <- Ends],
            {Cut, lists:usort([kind(Reason) || {_, Reason, _} <- Ends])}
        end
     || Cut <- [500, 3000, 3500, 4000, 7000]
    ],
    [test_cluster:stop(M) || M <- [A, B]],
    %% What was healed before went on, and what was not is one end.
    ?assertEqual([cancelled], proplists:get_value(500, Seen)),
    ?assertEqual([nodedown], proplists:get_value(7000, Seen)),
    {comment, lists:flatten(io_lib:format("milliseconds and ends: ~0p", [Seen]))}.
