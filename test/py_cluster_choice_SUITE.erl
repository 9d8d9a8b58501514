%% @doc The choice of a node: by load, this one first, all of them, those that are drained or restarted left alone.
-module(py_cluster_choice_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    any_node/1,
    a_node_that_has_gone/1,
    this_node_first/1,
    nothing_runs_twice/1,
    all_nodes/1,
    drained/1,
    a_rolling_restart/1,
    the_groups_are_restarted/1
]).

-import(test_two_nodes, [b/1]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        any_node,
        a_node_that_has_gone,
        this_node_first,
        nothing_runs_twice,
        all_nodes,
        drained,
        a_rolling_restart,
        the_groups_are_restarted
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    test_two_nodes:start(Config).

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(Config) ->
    test_two_nodes:stop(Config).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, Config) ->
    test_two_nodes:end_of_case(Config).

%% `any' spreads requests by load, and finds nodes as they come and go.
-spec any_node(ct_suite:ct_config()) -> ok.
any_node(Config) ->
    {B, Node} = b(Config),
    Any = #{pool => {test, any}},
    ?assertEqual([Node], members(1)),
    ?assertEqual({ok, 1}, py:call(builtins, len, [[1]], #{}, Any)),
    C = {_, Third} = test_cluster:start(#{test => #{workers => 2, cluster => true}, alone => #{workers => 1}}),
    pong = net_adm:ping(Third),
    ?assertEqual(lists:sort([Node, Third]), members(2)),
    %% Four streams that stay go two and two.
    Refs = [
        begin
            {ok, Ref} = py:stream_start(itertools, count, [], Any#{demand => 1}),
            {ok, 0} = py:stream_next(Ref, ?LONG),
            Ref
        end
     || _ <- lists:seq(1, 4)
    ],
    ?assertEqual([{2, 2}, {2, 2}], [test_cluster:call(M, py_pool, pool_load, [test]) || M <- [B, C]]),
    [py:stream_cancel(Ref, [flush]) || Ref <- Refs],
    test_cluster:clean(C),
    test_cluster:stop(C),
    ?assertEqual([Node], members(1)),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2], #{}, Any)),
    test_cluster:clean(B).

%% Whoever has heard that a node has gone is not sent there any more, although the groups, which hear of it by a
%% message of their own, still have it.
-spec a_node_that_has_gone(ct_suite:ct_config()) -> ok.
a_node_that_has_gone(Config) ->
    {B, Node} = b(Config),
    C = {_, Third} = test_cluster:start(#{test => #{workers => 2, cluster => true}}),
    pong = net_adm:ping(Third),
    ?assertEqual(lists:sort([Node, Third]), members(2)),
    true = monitor_node(Third, true),
    ok = sys:suspend(erlang_python),
    test_cluster:stop(C),
    receive
        {nodedown, Third} -> ok
    after ?LONG -> error(no_nodedown)
    end,
    Answers = [py:call(builtins, len, [[1]], #{}, #{pool => {test, any}}) || _ <- lists:seq(1, 20)],
    Nodes = py:nodes(test),
    ok = sys:resume(erlang_python),
    ?assertEqual([{ok, 1}], lists:usort(Answers)),
    ?assertEqual([Node], Nodes),
    test_cluster:clean(B).

-spec this_node_first(ct_suite:ct_config()) -> ok.
this_node_first(Config) ->
    {B, Node} = b(Config),
    First = #{pool => {test, local_first}},
    Where = fun() -> {ok, Pid} = py:call(erlang, whereis, [py_sup], #{}, First), node(Pid) end,
    ?assertEqual(Node, Where()),
    {ok, _} = py:start_pool(test, #{workers => 1}),
    ?assertEqual(node(), Where()),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2], #{}, First)),
    {ok, Ref} = py:stream_start(builtins, range, [3], First#{demand => 1}),
    ok = py:stream_demand(Ref, 3),
    ?assertEqual([0, 1, 2], test_stream_events:rest(Ref)),
    %% It is the only pool that is not offered: `any' leaves it alone.
    ?assertEqual([Node], py:nodes(test)),
    ok = py:drain(test, ?LONG),
    ?assertEqual(Node, Where()),
    ok = py:resume(test),
    ?assertEqual(node(), Where()),
    %% A killed caller takes its call along on this node as well.
    Caller = spawn(fun() -> py:call(asyncio, sleep, [60], #{}, First#{timeout => infinity}) end),
    test_eventually:equal({1, 1}, fun() -> py_pool:pool_load(test) end),
    exit(Caller, kill),
    test_eventually:equal({0, 1}, fun() -> py_pool:pool_load(test) end),
    ok = py:stop_pool(test),
    test_cluster:clean(B).

%% What was refused before it was written is tried elsewhere, once a node, and runs once.
-spec nothing_runs_twice(ct_suite:ct_config()) -> ok.
nothing_runs_twice(Config) ->
    {B, Node} = b(Config),
    {ok, _} = py:start_pool(test, #{workers => 1, cluster => true, max_streams => 1}),
    File = list_to_binary(filename:join(proplists:get_value(priv_dir, Config), "ran")),
    Code = "(f.write('x') for f in [open(p, 'a')] for _ in range(1))",
    ?assertEqual(2, length(members(2))),
    {ok, Held} = py:stream_start(itertools, count, [], #{pool => test, demand => 0}),
    %% This node is full: each stream of `any' runs on the other one.
    [?assertEqual({ok, [1]}, py:stream_eval(Code, #{p => File}, #{pool => {test, any}})) || _ <- lists:seq(1, 5)],
    ?assertEqual({ok, <<"xxxxx">>}, file:read_file(File)),
    %% Every node refuses: the last reason counts.
    ok = py:drain({test, Node}, ?LONG),
    ?assertEqual({error, overloaded}, py:stream_eval(Code, #{p => File}, #{pool => {test, any}})),
    ok = py:resume({test, Node}),
    %% It was written when the worker died: it is not repeated.
    ok = py:stop_pool(test),
    ?assertEqual([Node], members(1)),
    ?assertEqual(
        {error, {worker_exit, 4}},
        py:eval("[open(p, 'a').write('y'), __import__('os')._exit(4)]", #{p => File}, #{pool => {test, any}})
    ),
    {ok, <<"xxxxx", Written/binary>>} = file:read_file(File),
    ?assert(byte_size(Written) =< 1),
    py:stream_cancel(Held, [flush]),
    test_eventually:equal(2, fun() -> length(maps:get(workers, py:info({test, Node}))) end),
    test_cluster:clean(B).

-spec all_nodes(ct_suite:ct_config()) -> ok.
all_nodes(Config) ->
    {_, Node} = b(Config),
    C = {_, Third} = test_cluster:start(#{test => #{workers => 1, cluster => true}}),
    pong = net_adm:ping(Third),
    2 = length(members(2)),
    ?assertEqual(ok, py:exec("everywhere = 1", #{pool => {test, all}})),
    [?assertEqual({ok, 1}, py:eval("everywhere", #{}, #{pool => {test, N}})) || N <- [Node, Third]],
    ?assertMatch(#{Node := #{size := 2}, Third := #{size := 1}}, py:info({test, all})),
    {error, Errors} = py:exec("1 / 0", #{pool => {test, all}}),
    ?assertMatch([{_, {'ZeroDivisionError', _}}, {_, {'ZeroDivisionError', _}}], Errors),
    ?assertEqual(lists:sort([Node, Third]), lists:sort([N || {N, _} <- Errors])),
    ok = py:drain({test, Third}, ?LONG),
    ?assertMatch(#{Third := #{draining := true}}, py:info({test, all})),
    ct:capture_start(),
    ok = py:i({test, all}),
    ct:capture_stop(),
    Printed = lists:flatten(ct:capture_get()),
    [
        ?assertNotEqual(nomatch, string:find(Printed, Text), {Text, Printed})
     || Text <- ["node ", "draining", atom_to_list(Node), atom_to_list(Third)]
    ],
    test_cluster:stop(C),
    [Node] = members(1),
    ok.

%% A node that is drained is left alone by `any', and says so to who names it.
-spec drained(ct_suite:ct_config()) -> ok.
drained(Config) ->
    {B, Node} = b(Config),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {test, Node}, demand => 1}),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    ?assertEqual({error, {busy, 1}}, py:drain({test, Node}, 50)),
    ?assertEqual([], members(0)),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, #{pool => {test, Node}})),
    ?assertEqual({error, draining}, py:stream(builtins, range, [3], #{}, #{pool => {test, Node}})),
    ?assertEqual({error, {no_pool, test}}, py:call(builtins, len, [[]], #{}, #{pool => {test, any}})),
    ok = py:stream_demand(Ref, 1),
    {ok, 1} = py:stream_next(Ref, ?LONG),
    ok = py:stream_cancel(Ref, [flush]),
    ok = py:drain({test, Node}, ?LONG),
    ok = py:resume({test, Node}),
    [Node] = members(1),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, #{pool => {test, any}})),
    test_cluster:clean(B).

%% Three nodes are restarted one after the other, by drain, under load: no request fails.
-spec a_rolling_restart(ct_suite:ct_config()) -> ok.
a_rolling_restart(Config) ->
    {B, Node} = b(Config),
    [C = {_, Third}, D = {_, Fourth}] = [test_cluster:start(#{test => #{workers => 1, cluster => true}}) || _ <- [1, 2]],
    [pong = net_adm:ping(N) || N <- [Node, Third, Fourth]],
    3 = length(members(3)),
    Running = [spawn_monitor(fun() -> load(N, 0) end) || N <- lists:seq(1, 16)],
    [
        begin
            ok = py:drain({test, N}, ?LONG),
            ok = test_cluster:call(Member, application, stop, [erlang_python]),
            {ok, _} = test_cluster:call(Member, application, ensure_all_started, [erlang_python]),
            3 = length(members(3))
        end
     || {Member, N} <- [{B, Node}, {C, Third}, {D, Fourth}]
    ],
    [Pid ! stop || {Pid, _} <- Running],
    Counts = [
        receive
            {'DOWN', Monitor, process, Pid, Reason} ->
                ?assertMatch({stopped, _}, Reason),
                element(2, Reason)
        end
     || {Pid, Monitor} <- Running
    ],
    ct:pal("requests: ~p", [lists:sum(Counts)]),
    ?assert(lists:min(Counts) > 0),
    [test_cluster:stop(Member) || Member <- [C, D]],
    [Node] = members(1),
    test_cluster:clean(B).

%% The process of the groups is killed on the other node: its pools join the next one.
-spec the_groups_are_restarted(ct_suite:ct_config()) -> ok.
the_groups_are_restarted(Config) ->
    {B, Node} = b(Config),
    Pg = test_cluster:call(B, erlang, whereis, [erlang_python]),
    exit(Pg, kill),
    test_eventually:equal(true, fun() ->
        test_cluster:call(B, erlang, whereis, [erlang_python]) =/= Pg andalso py:nodes(test) =:= [Node]
    end),
    test_eventually:equal({ok, 0}, fun() -> py:call(builtins, len, [[]], #{}, #{pool => {test, any}}) end),
    test_cluster:clean(B).

%%% Helpers.

members(N) ->
    test_eventually:equal(N, fun() -> length(py:nodes(test)) end),
    py:nodes(test).

load(Kind, N) ->
    receive
        stop -> exit({stopped, N})
    after 0 -> ok
    end,
    Any = #{pool => {test, any}},
    Result =
        case Kind rem 2 of
            0 -> py:call(time, sleep, [0.005], #{}, Any) =:= {ok, none};
            1 -> py:stream(builtins, range, [50], #{}, Any) =:= {ok, lists:seq(0, 49)}
        end,
    case Result of
        true -> load(Kind, N + 1);
        _ -> exit({failed, Kind, N})
    end.
