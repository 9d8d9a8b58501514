%% @doc Pools of other nodes: one honest end, whatever happens to them; the choice of a node; and
%% nothing on the link but what must be.
-module(py_cluster_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    calls/1,
    output_comes_here/1,
    streams/1,
    options_are_checked_here/1,
    a_worker_of_another_node/1,
    the_pool_itself_refuses/1,
    a_full_port_there/1,
    the_application_stops_here/1,
    the_nodes_part/1,
    the_other_node_is_killed/1,
    a_python_process_is_killed/1,
    the_relay_is_killed/1,
    new_code_there/1,
    the_owner_is_killed/1,
    a_caller_is_killed/1,
    cancelled/1,
    no_such_node/1,
    no_release_there/1,
    any_node/1,
    this_node_first/1,
    nothing_runs_twice/1,
    all_nodes/1,
    drained/1,
    a_rolling_restart/1,
    a_sleeping_owner_costs_nothing/1,
    the_window_grows/1,
    a_fixed_window/1,
    a_cable_is_out/1,
    a_call_does_not_wait_for_a_cable/1,
    large_values_on_a_thin_way/1,
    the_groups_are_restarted/1,
    functions_of_the_callers_node/1,
    loaded_only/1,
    hidden/1,
    the_demo/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        calls,
        output_comes_here,
        streams,
        options_are_checked_here,
        a_worker_of_another_node,
        the_pool_itself_refuses,
        a_full_port_there,
        the_application_stops_here,
        the_nodes_part,
        the_other_node_is_killed,
        a_python_process_is_killed,
        the_relay_is_killed,
        new_code_there,
        the_owner_is_killed,
        a_caller_is_killed,
        cancelled,
        no_such_node,
        no_release_there,
        any_node,
        this_node_first,
        nothing_runs_twice,
        all_nodes,
        drained,
        a_rolling_restart,
        a_sleeping_owner_costs_nothing,
        the_window_grows,
        a_fixed_window,
        a_cable_is_out,
        a_call_does_not_wait_for_a_cable,
        large_values_on_a_thin_way,
        the_groups_are_restarted,
        functions_of_the_callers_node,
        loaded_only,
        hidden,
        the_demo
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case test_cluster:start_this_node() of
        ok ->
            B = test_cluster:start(#{test => #{workers => 2, cluster => true}, alone => #{workers => 1}}),
            [{b, B} | Config];
        Skip ->
            Skip
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(Config) ->
    test_cluster:stop(proplists:get_value(b, Config)),
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, Config) ->
    _ = py:stop_pool(test),
    {B, Node} = b(Config),
    test_eventually:equal(pong, fun() -> net_adm:ping(Node) end),
    _ = [test_cluster:call(B, py, resume, [Pool]) || Pool <- [test, alone]],
    ok.

b(Config) ->
    B = {_, Node} = proplists:get_value(b, Config),
    {B, Node}.

%% Every function that makes a request takes a pool of another node, which need not offer it.
-spec calls(ct_suite:ct_config()) -> ok.
calls(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    ?assertEqual({ok, 3}, py:call(builtins, len, [[1, 2, 3]], #{}, At)),
    ?assertEqual({ok, [3, 2]}, py:call(builtins, sorted, [[2, 3]], #{reverse => true}, At)),
    ?assertEqual({ok, 7}, py:eval("x + 4", #{x => 3}, At)),
    ?assertMatch({error, {'ZeroDivisionError', _}}, py:eval("1 / 0", #{}, At)),
    ?assertMatch({error, {'ZeroDivisionError', _, <<"Trace", _/binary>>}}, py:eval("1 / 0", #{}, At#{traceback => true})),
    ?assertEqual({ok, <<"bytes">>}, py:eval("type(x).__name__", #{x => <<"a">>}, At#{binaries => bytes})),
    ?assertEqual(ok, py:exec("import os; far = 5", At)),
    ?assertEqual({ok, 5}, py:eval("far", #{}, At)),
    ?assertEqual({ok, 1}, py:await(py:spawn_call(builtins, len, [[1]], #{}, At))),
    ?assertEqual(ok, py:cast(os, putenv, ["CAST", "1"], #{}, At)),
    ?assertEqual(py:version(At), test_cluster:call(B, py, call, [platform, python_version, [], #{}, #{pool => alone}])),
    ?assertMatch({ok, _}, py:version(At)),
    ?assertMatch(#{pool := alone, draining := false}, py:info({alone, Node})),
    Large = binary:copy(<<"large">>, 1000000),
    ?assertEqual({ok, Large}, py:call(operator, add, [Large, <<>>], #{}, At)),
    Ref = make_ref(),
    ?assertEqual({ok, {self(), Ref}}, py:call(builtins, tuple, [[self(), Ref]], #{}, At)),
    test_cluster:clean(B).


%% What code prints there comes to the caller's group leader here, and its stacks can be read.
-spec output_comes_here(ct_suite:ct_config()) -> ok.
output_comes_here(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}, output => caller},
    ct:capture_start(),
    ?assertEqual({ok, none}, py:call(builtins, print, [<<"a call">>], #{}, At)),
    ?assertEqual({ok, [none]}, py:stream_eval("(print('a stream') for _ in [1])", #{}, At)),
    ?assertEqual(ok, py:exec("print('code')", At#{replay => false})),
    ?assertEqual({ok, none}, py:await(py:spawn_call(builtins, print, [<<"spawned">>], #{}, At))),
    ?assertEqual(ok, py:stacks({alone, Node})),
    test_eventually:true(fun() ->
        Text = iolist_to_binary(ct:capture_get([no_flush])),
        lists:all(fun(Line) -> binary:match(Text, Line) =/= nomatch end, [
            <<"a call\n">>, <<"a stream\n">>, <<"code\n">>, <<"spawned\n">>, <<"--- worker">>
        ])
    end),
    ct:capture_stop(),
    test_cluster:clean(B).

%% Streams of another node are as those of this one.
-spec streams(ct_suite:ct_config()) -> ok.
streams(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    {ok, Ref} = py:stream_start(builtins, range, [100000], At),
    ?assertEqual({ok, {100000, 4999950000}}, py:stream_fold(fun(V, {N, Sum}) -> {cont, {N + 1, Sum + V}} end, {0, 0}, Ref)),
    ?assertEqual({ok, lists:seq(0, 99999)}, py:stream(builtins, range, [100000], #{}, At)),
    ?assertEqual({ok, [1, 4]}, py:stream_eval("(x * x for x in xs)", #{xs => [1, 2]}, At)),
    {ok, Batches} = py:stream_start(builtins, range, [5], At#{batch => 2, take => 3}),
    ?assertEqual([0, 1, 2], lists:append(test_stream_events:rest(Batches))),
    {ok, Pull} = py:stream_start(itertools, count, [], At#{demand => 0}),
    ?assertEqual(timeout, py:stream_next(Pull, 100)),
    ok = py:stream_demand(Pull, 2),
    ?assertEqual([{ok, 0}, {ok, 1}, timeout], [py:stream_next(Pull, Ms) || Ms <- [?LONG, ?LONG, 100]]),
    ok = py:stream_cancel(Pull, [flush]),
    {ok, Early} = py:stream_start(itertools, count, [], At#{demand => 0}),
    %% Asked for before the other node has accepted the stream.
    ok = py:stream_demand(Early, 1),
    ?assertEqual({ok, 0}, py:stream_next(Early, ?LONG)),
    ok = py:stream_cancel(Early, [flush]),
    {ok, Slow} = py:stream_start(builtins, map, [], At#{kwargs => #{}}),
    ?assertMatch({error, {'TypeError', _}}, py:stream_next(Slow, ?LONG)),
    {ok, Late} = py:stream_start(time, sleep, [1], At#{timeout => 50}),
    ?assertEqual({error, timeout}, py:stream_next(Late, ?LONG)),
    Large = binary:copy(<<"x">>, 3000000),
    {ok, Values} = py:stream(itertools, repeat, [Large, 4], #{}, At),
    ?assertEqual([Large, Large, Large, Large], Values),
    {ok, Json} = py:stream_start(builtins, iter, [[1, [2]]], At#{format => json}),
    ?assertEqual([<<"1">>, <<"[2]">>], test_stream_events:rest(Json)),
    ?assertEqual({done, [2, 1, 0]}, (py:enumerable(builtins, range, [3], At))({cont, []}, fun(V, Acc) -> {cont, [V | Acc]} end)),
    test_cluster:clean(B),
    test_leftovers:none().

-spec options_are_checked_here(ct_suite:ct_config()) -> ok.
options_are_checked_here(_Config) ->
    At = #{pool => {alone, 'nobody@127.0.0.1'}},
    ?assertError({badopt, {window, 0}}, py:stream_start(builtins, range, [3], At#{window => 0})),
    ?assertError({badopt, {timeout, soon}}, py:call(builtins, len, [[]], #{}, At#{timeout => soon})),
    ?assertError({badopt, {args, none}}, py:call(builtins, len, none, #{}, At)),
    ?assertError({badopt, {pool, {alone, all}}}, py:call(builtins, len, [[]], #{}, #{pool => {alone, all}})),
    ?assertError({badopt, {pool, {"alone", any}}}, py:call(builtins, len, [[]], #{}, #{pool => {"alone", any}})),
    ?assertError({badopt, {replay, no}}, py:exec("1", At#{replay => no})).

%% A worker of one's own on another node ends with who started it.
-spec a_worker_of_another_node(ct_suite:ct_config()) -> ok.
a_worker_of_another_node(Config) ->
    {B, Node} = b(Config),
    {ok, Pid} = py:start_worker(#{}, link, Node),
    ?assertEqual(Node, node(Pid)),
    ok = py:exec("x = 3", #{pool => Pid}),
    ?assertEqual({ok, 3}, py:eval("x", #{}, #{pool => Pid})),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2], #{}, #{pool => Pid})),
    ?assertMatch(#{workers := [_]}, py:info(Pid)),
    ok = py:stop_worker(Pid),
    {Starter, Monitor} = spawn_monitor(fun() ->
        {ok, {Own, _}} = py:start_worker(#{}, monitor, Node),
        exit({started, Own})
    end),
    receive
        {'DOWN', Monitor, process, Starter, {started, Own}} ->
            test_eventually:equal(false, fun() -> test_cluster:call(B, erlang, is_process_alive, [Own]) end)
    end,
    ?assertError({badopt, {workers, 2}}, py:start_worker(#{workers => 2}, link, Node)),
    ?assertMatch({error, {python_not_found, _}}, py:start_worker(#{python => "/no/python"}, link, Node)),
    test_cluster:clean(B).

-spec the_pool_itself_refuses(ct_suite:ct_config()) -> ok.
the_pool_itself_refuses(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {none_such, Node}},
    ?assertEqual({error, {no_pool, none_such}}, py:call(builtins, len, [[]], #{}, At)),
    ?assertEqual({error, {no_pool, none_such}}, py:exec("1", At)),
    ?assertEqual({error, {no_pool, none_such}}, py:stream(builtins, range, [3], #{}, At)),
    ?assertEqual({error, {no_pool, none_such}}, py:info({none_such, Node})),
    ?assertEqual({error, {no_pool, none_such}}, py:stream_start(builtins, range, [3], #{pool => {none_such, any}})),
    ?assertEqual({error, {no_pool, none_such}}, py:call(builtins, len, [[]], #{}, #{pool => {none_such, any}})),
    ?assertEqual({error, {no_pool, none_such}}, py:exec("1", #{pool => {none_such, all}})),
    test_cluster:clean(B).

%% Streams of another node's pool end with the application, as those of this one's do.
-spec the_application_stops_here(ct_suite:ct_config()) -> ok.
the_application_stops_here(Config) ->
    {B, Node} = b(Config),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {alone, Node}, window => 2}),
    {ok, 0} = py:stream_next(Ref),
    Monitor = monitor(process, py_stream_guard),
    ok = application:stop(erlang_python),
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason)
    end,
    Last = fun Last(Event) ->
        case Event of
            {ok, _} -> Last(py:stream_next(Ref));
            _ -> Event
        end
    end,
    ?assertEqual({error, {worker_exit, stopped}}, Last(py:stream_next(Ref))),
    ?assertEqual(timeout, py:stream_next(Ref, 0)),
    {ok, _} = application:ensure_all_started(erlang_python),
    test_cluster:clean(B).

%% What is large waits for room in the port of the other node's worker, for no longer than it is wanted.
-spec a_full_port_there(ct_suite:ct_config()) -> ok.
a_full_port_there(Config) ->
    {B, Node} = b(Config),
    #{workers := [#{os_pid := OsPid}]} = py:info({alone, Node}),
    {ok, Worker} = test_cluster:call(B, py_pool, choose, [alone]),
    Load = fun() -> test_cluster:call(B, py_pool, pool_load, [alone]) end,
    Large = binary:copy(<<"x">>, 1 bsl 20),
    Called = fun(Timeout) ->
        py:spawn_call(builtins, len, [Large], #{}, #{pool => {alone, Node}, timeout => Timeout})
    end,
    Started = fun(Timeout) ->
        At = #{pool => {alone, Node}, timeout => Timeout},
        {ok, Ref} = py:stream_start(itertools, islice, [Large, 1], At),
        Ref
    end,
    _ = os:cmd("kill -STOP " ++ integer_to_list(OsPid)),
    {Filling, Call, Stream} =
        try
            %% More than its port has room for.
            Fill = [Called(infinity) || _ <- lists:seq(1, 20)],
            test_eventually:true(fun() -> test_cluster:call(B, py_port, is_full, [Worker]) end),
            test_eventually:equal({20, 1}, Load),
            Late = {error, timeout},
            ?assertEqual(Late, py:await(Called(100))),
            ?assertEqual(Late, py:stream_next(Started(100))),
            Cancelled = Started(infinity),
            ok = py:stream_cancel(Cancelled),
            ?assertEqual({error, cancelled}, py:stream_next(Cancelled)),
            ?assertEqual(Late, py:await(Called(infinity), 50)),
            test_eventually:equal({20, 1}, Load),
            {Fill, Called(infinity), Started(infinity)}
        after
            os:cmd("kill -CONT " ++ integer_to_list(OsPid))
        end,
    [?assertEqual({ok, byte_size(Large)}, py:await(Ref)) || Ref <- [Call | Filling]],
    ?assertEqual([{ok, <<"x">>}, done], [py:stream_next(Stream) || _ <- [value, last]]),
    test_cluster:clean(B).

%% The connection is lost: values are a prefix, the end is one and the last, and the other node
%% closes the generator. Nothing comes when the nodes find each other again.
-spec the_nodes_part(ct_suite:ct_config()) -> ok.
the_nodes_part(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    {ok, Ref} = py:stream_start(itertools, count, [], At),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    Call = py:spawn_call(asyncio, sleep, [30], #{}, At),
    test_eventually:equal(2, fun() -> test_cluster:call(B, ets, info, [py_relays, size]) end),
    ok = test_cluster:part(B),
    ?assertEqual({error, {nodedown, Node}}, py:await(Call, ?LONG)),
    ?assertEqual({nodedown, Node}, ended(Ref, 1)),
    ?assertEqual(pong, net_adm:ping(Node)),
    test_cluster:clean(B),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% Values from N on, without a gap, and the reason of the end.
ended(Ref, N) ->
    case py:stream_next(Ref, ?LONG) of
        {ok, N} -> ended(Ref, N + 1);
        {error, Reason} -> Reason
    end.

-spec the_other_node_is_killed(ct_suite:ct_config()) -> ok.
the_other_node_is_killed(_Config) ->
    C = {_, Node} = test_cluster:start(#{test => #{workers => 1}}),
    At = #{pool => {test, Node}},
    {ok, Ref} = py:stream_start(itertools, count, [], At),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    Call = py:spawn_call(asyncio, sleep, [30], #{}, At),
    test_eventually:equal(2, fun() -> test_cluster:call(C, ets, info, [py_relays, size]) end),
    ok = test_cluster:kill(C),
    ?assertEqual({error, {nodedown, Node}}, py:await(Call, ?LONG)),
    ?assertEqual({nodedown, Node}, ended(Ref, 1)),
    ?assertEqual({error, {nodedown, Node}}, py:call(builtins, len, [[]], #{}, At)),
    test_leftovers:none().

-spec a_python_process_is_killed(ct_suite:ct_config()) -> ok.
a_python_process_is_killed(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    {ok, Ref} = py:stream_start(itertools, count, [], At),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    ?assertEqual({error, {worker_exit, 3}}, py:call(os, '_exit', [3], #{}, At)),
    ?assertEqual({worker_exit, 3}, ended(Ref, 1)),
    test_eventually:equal({ok, 0}, fun() -> py:call(builtins, len, [[]], #{}, At) end),
    test_cluster:clean(B).

-spec the_relay_is_killed(ct_suite:ct_config()) -> ok.
the_relay_is_killed(Config) ->
    {B, Node} = b(Config),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {alone, Node}}),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    [{Relay, alone, _}] = test_cluster:call(B, ets, tab2list, [py_relays]),
    exit(Relay, kill),
    ?assertEqual({worker_exit, killed}, ended(Ref, 1)),
    %% Its row goes when somebody counts.
    test_eventually:equal(0, fun() -> test_cluster:call(B, py_relays, number, [alone]) end),
    test_cluster:clean(B).

%% What runs there goes on when code is loaded there twice, also if it has nothing to say meanwhile.
-spec new_code_there(ct_suite:ct_config()) -> ok.
new_code_there(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    {ok, Idle} = py:stream_start(itertools, count, [], At#{demand => 1}),
    {ok, Busy} = py:stream_start(itertools, count, [], At),
    [{ok, 0} = py:stream_next(Ref, ?LONG) || Ref <- [Idle, Busy]],
    Call = py:spawn_call(time, sleep, [1], #{}, At),
    test_eventually:equal(3, fun() -> test_cluster:call(B, ets, info, [py_relays, size]) end),
    Relays = lists:sort(test_cluster:call(B, ets, tab2list, [py_relays])),
    ok = test_cluster:call(B, test_code, load_twice, []),
    ?assertEqual(Relays, lists:sort(test_cluster:call(B, ets, tab2list, [py_relays]))),
    ok = py:stream_demand(Idle, 1),
    ?assertEqual({ok, 1}, py:stream_next(Idle, ?LONG)),
    [{ok, N} = py:stream_next(Busy, ?LONG) || N <- lists:seq(1, 5000)],
    ?assertEqual({ok, none}, py:await(Call, ?LONG)),
    [ok = py:stream_cancel(Ref, [flush]) || Ref <- [Idle, Busy]],
    test_cluster:clean(B).

-spec the_owner_is_killed(ct_suite:ct_config()) -> ok.
the_owner_is_killed(Config) ->
    {B, Node} = b(Config),
    Owner = spawn(fun() ->
        receive
            stop -> ok
        end
    end),
    {ok, _} = py:stream_start(itertools, count, [], #{pool => {test, Node}, owner => Owner}),
    test_eventually:equal(1, fun() -> test_cluster:call(B, ets, info, [py_relays, size]) end),
    exit(Owner, kill),
    test_cluster:clean(B),
    test_leftovers:none().

%% The code of a call ends with its caller.
-spec a_caller_is_killed(ct_suite:ct_config()) -> ok.
a_caller_is_killed(Config) ->
    {B, Node} = b(Config),
    [
        begin
            Caller = spawn(fun() -> py:call(asyncio, sleep, [60], #{}, #{pool => Pool, timeout => infinity}) end),
            test_eventually:equal(1, fun() -> test_cluster:call(B, ets, info, [py_relays, size]) end),
            exit(Caller, kill),
            test_cluster:clean(B)
        end
     || Pool <- [{test, Node}, {test, any}]
    ],
    ?assertEqual({error, timeout}, py:call(asyncio, sleep, [60], #{}, #{pool => {test, Node}, timeout => 50})),
    ?assertEqual({error, timeout}, py:await(py:spawn_call(asyncio, sleep, [60], #{}, #{pool => {test, Node}}), 50)),
    test_cluster:clean(B).

-spec cancelled(ct_suite:ct_config()) -> ok.
cancelled(Config) ->
    {B, Node} = b(Config),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {test, Node}}),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    ok = py:stream_cancel(Ref),
    ?assertEqual(cancelled, ended(Ref, 1)),
    {ok, Flushed} = py:stream_start(itertools, count, [], #{pool => {test, Node}}),
    {ok, 0} = py:stream_next(Flushed, ?LONG),
    ok = py:stream_cancel(Flushed, [flush]),
    %% Also one that the other node has not even heard of.
    {ok, Early} = py:stream_start(itertools, count, [], #{pool => {test, Node}}),
    ok = py:stream_cancel(Early, [flush]),
    test_cluster:clean(B),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% Nobody waits for a node that is not there.
-spec no_such_node(ct_suite:ct_config()) -> ok.
no_such_node(_Config) ->
    Node = 'nobody@127.0.0.1',
    {Micros, {ok, Ref}} = timer:tc(fun() -> py:stream_start(itertools, count, [], #{pool => {test, Node}}) end),
    ?assert(Micros < 50000, Micros),
    ?assertEqual({nodedown, Node}, ended(Ref, 0)),
    ?assertEqual({error, {nodedown, Node}}, py:call(builtins, len, [[]], #{}, #{pool => {test, Node}})),
    ?assertEqual({error, {nodedown, Node}}, py:exec("1", #{pool => {test, Node}})),
    ?assertEqual({error, {nodedown, Node}}, py:drain({test, Node}, 0)),
    ?assertEqual({error, {nodedown, Node}}, py:start_worker(#{}, link, Node)),
    %% A host that does not answer at all: the packets are for an address that nobody has.
    Nowhere = 'nobody@192.0.2.1',
    {Waited, Result} = timer:tc(fun() -> py:call(builtins, len, [[]], #{}, #{pool => {test, Nowhere}, timeout => 200}) end),
    ?assert(lists:member(Result, [{error, timeout}, {error, {nodedown, Nowhere}}]), Result),
    ?assert(Waited < 2000000, Waited).

%% A node without the library, and one whose library knows no version that this one speaks.
-spec no_release_there(ct_suite:ct_config()) -> ok.
no_release_there(Config) ->
    {Peer, Node} = test_other_node:start([]),
    At = #{pool => {test, Node}},
    ?assertEqual({error, {not_supported, Node}}, py:call(builtins, len, [[]], #{}, At)),
    ?assertEqual({error, {not_supported, Node}}, py:stream(builtins, range, [3], #{}, At)),
    ?assertEqual({error, {not_supported, Node}}, py:exec("1", At)),
    ?assertNotEqual(nomatch, string:find(py:format_error({not_supported, Node}), atom_to_list(Node))),
    peer:stop(Peer),
    {_, B} = b(Config),
    [
        begin
            {Pid, Monitor} = erlang:spawn_opt(B, py_relay, Function, [0, #{}], [monitor]),
            receive
                {'DOWN', Monitor, process, Pid, Reason} ->
                    ?assertMatch({function_clause, [{py_relay, Function, _, _} | _]}, Reason)
            end
        end
     || Function <- [stream, call]
    ],
    test_leftovers:none().

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

members(N) ->
    test_eventually:equal(N, fun() -> length(py:nodes(test)) end),
    py:nodes(test).

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

%% No message crosses for an owner that sleeps.
-spec a_sleeping_owner_costs_nothing(ct_suite:ct_config()) -> ok.
a_sleeping_owner_costs_nothing(Config) ->
    {B, Node} = b(Config),
    Refs = [element(2, {ok, _} = py:stream_start(itertools, count, [], #{pool => {test, Node}})) || _ <- lists:seq(1, 20)],
    test_eventually:equal(true, fun() ->
        {messages, Messages} = process_info(self(), messages),
        length(Messages) >= 20 * 1024
    end),
    %% Quiet means that nothing but the ticks of the connection passes, in a second.
    Channel = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    {Node, Port} = Channel,
    Sent = fun() -> {ok, Stats} = inet:getstat(Port, [send_oct, recv_oct]), lists:sum([V || {_, V} <- Stats]) end,
    test_eventually:equal(true, fun() ->
        Before = Sent(),
        timer:sleep(1000),
        Sent() - Before < 64
    end),
    [py:stream_cancel(Ref, [flush]) || Ref <- Refs],
    test_cluster:clean(B).

%% The window of a long way grows until it has room for what the way holds: an owner that falls asleep then
%% has ten times as much in its mailbox as one with a fixed window ever has, and never more than its bytes.
-spec the_window_grows(ct_suite:ct_config()) -> ok.
the_window_grows(_Config) ->
    {Member = {_, Node}, Link} = test_link:member(#{test => #{workers => 1}}, #{delay => 10}, []),
    At = #{pool => {test, Node}},
    {ok, Auto} = py:stream_start(itertools, count, [], At),
    Taken = grown(Auto, 10 * 1024, 0),
    ct:pal("the window is ten times as large after ~b values", [Taken]),
    ok = py:stream_cancel(Auto, [flush]),
    %% In batches it is values that are counted, too, and not messages.
    {ok, Batches} = py:stream_start(itertools, count, [], At#{batch => 50}),
    _ = grown(Batches, 10 * 1024, 0),
    still(fun() -> waiting(Batches) end),
    ?assert(waiting(Batches) =< 64 * 1024),
    ok = py:stream_cancel(Batches, [flush]),
    {ok, Fixed} = py:stream_start(itertools, count, [], At#{window => 1024}),
    [{ok, N} = py:stream_next(Fixed, ?LONG) || N <- lists:seq(0, 20000)],
    test_eventually:true(fun() -> waiting(Fixed) > 512 end),
    ?assert(waiting(Fixed) =< 1024),
    ok = py:stream_cancel(Fixed, [flush]),
    {ok, Ref} = py:stream_start(itertools, repeat, [binary:copy(<<"x">>, 1000)], At#{window_bytes => 1024 * 1024}),
    [{ok, _} = py:stream_next(Ref, ?LONG) || _ <- lists:seq(1, 20000)],
    still(fun() -> waiting(Ref) end),
    ?assert(waiting(Ref) =< 1048576 div 1000 + 1),
    ok = py:stream_cancel(Ref, [flush]),
    test_cluster:stop(Member),
    test_link:stop(Link).

%% Takes values at full speed, and sleeps in between, until this number comes while it sleeps.
grown(Ref, Want, N) ->
    Next = taken(Ref, N, N + 20000),
    case arrives(Ref, Want, 50) of
        true -> Next;
        false -> grown(Ref, Want, Next)
    end.

taken(_Ref, N, Last) when N >= Last ->
    N;
taken(Ref, N, Last) ->
    case py:stream_next(Ref, ?LONG) of
        {ok, N} ->
            taken(Ref, N + 1, Last);
        {ok, Values} ->
            ?assertEqual(lists:seq(N, N + length(Values) - 1), Values),
            taken(Ref, N + length(Values), Last)
    end.

arrives(_Ref, _Want, 0) ->
    false;
arrives(Ref, Want, Times) ->
    case waiting(Ref) >= Want of
        true ->
            true;
        false ->
            timer:sleep(10),
            arrives(Ref, Want, Times - 1)
    end.

%% Values of a stream in this mailbox.
waiting(Ref) ->
    {messages, Messages} = process_info(self(), messages),
    lists:sum([values(Event) || {py_stream, R, Event} <- Messages, R =:= Ref]).

values({batch, Values}) -> length(Values);
values({data, _}) -> 1.

%% Waits until a number stays what it is.
still(Fun) ->
    test_eventually:equal(true, fun() ->
        Before = Fun(),
        timer:sleep(300),
        Fun() =:= Before
    end).

-spec a_fixed_window(ct_suite:ct_config()) -> ok.
a_fixed_window(Config) ->
    {B, Node} = b(Config),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {test, Node}, window => 64}),
    [{ok, N} = py:stream_next(Ref, ?LONG) || N <- lists:seq(0, 999)],
    Length = fun() -> element(2, process_info(self(), message_queue_len)) end,
    still(Length),
    ?assert(Length() =< 64, Length()),
    py:stream_cancel(Ref, [flush]),
    test_cluster:clean(B).

%% A cable is out for a while: what ends before the ticks do is not noticed, what does not is one
%% `{nodedown, Node}' on this side and a closed generator on the other.
-spec a_cable_is_out(ct_suite:ct_config()) -> ok.
a_cable_is_out(_Config) ->
    _ = net_kernel:set_net_ticktime(4, 0),
    {Member = {_, Node}, Link} = test_link:member(#{test => #{workers => 1}}, #{}, ["-kernel", "net_ticktime", "4"]),
    try
        {ok, Ref} = py:stream_start(itertools, count, [], #{pool => {test, Node}}),
        [{ok, N} = py:stream_next(Ref, ?LONG) || N <- lists:seq(0, 5000)],
        ok = test_link:set(Link, #{cut => true}),
        timer:sleep(1500),
        ok = test_link:set(Link, #{cut => false}),
        [{ok, N} = py:stream_next(Ref, ?LONG) || N <- lists:seq(5001, 20000)],
        Call = py:spawn_call(asyncio, sleep, [60], #{}, #{pool => {test, Node}, timeout => infinity}),
        test_eventually:equal(2, fun() -> test_cluster:call(Member, ets, info, [py_relays, size]) end),
        ok = test_link:set(Link, #{cut => true}),
        {Micros, Reason} = timer:tc(fun() -> ended(Ref, 20001) end),
        ?assertEqual({nodedown, Node}, Reason),
        ct:pal("seen after ~p ms", [Micros div 1000]),
        ?assert(Micros < 8000000),
        ?assertEqual({error, {nodedown, Node}}, py:await(Call, ?LONG)),
        test_cluster:clean(Member),
        ok = test_link:set(Link, #{cut => false}),
        test_eventually:equal({ok, 0}, fun() -> py:call(builtins, len, [[]], #{}, #{pool => {test, Node}}) end),
        %% Nothing of what was in the cable comes late.
        ?assertEqual({messages, []}, process_info(self(), messages))
    after
        _ = net_kernel:set_net_ticktime(60, 0),
        test_cluster:stop(Member),
        test_link:stop(Link)
    end.

-spec a_call_does_not_wait_for_a_cable(ct_suite:ct_config()) -> ok.
a_call_does_not_wait_for_a_cable(_Config) ->
    {Member = {_, Node}, Link} = test_link:member(#{test => #{workers => 1}}, #{cut => true}, []),
    At = #{pool => {test, Node}, timeout => 300},
    %% The connection is being made: it does not come about.
    {Micros, Result} = timer:tc(fun() -> py:call(builtins, len, [[]], #{}, At) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Micros < 1500000, Micros),
    {Started, {ok, Ref}} = timer:tc(fun() -> py:stream_start(builtins, range, [3], At) end),
    ?assert(Started < 100000, Started),
    ?assertEqual({error, timeout}, py:stream_next(Ref, ?LONG)),
    ok = test_link:set(Link, #{cut => false}),
    test_eventually:equal({ok, 0}, fun() -> py:call(builtins, len, [[]], #{}, At) end),
    ?assertEqual({messages, []}, process_info(self(), messages)),
    test_cluster:stop(Member),
    test_link:stop(Link).

%% Large values take their time, and neither end the connection nor hold up another stream.
-spec large_values_on_a_thin_way(ct_suite:ct_config()) -> ok.
large_values_on_a_thin_way(_Config) ->
    _ = net_kernel:set_net_ticktime(4, 0),
    %% The kernel's own buffer would hold half a second of such a way.
    Args = ["-kernel", "net_ticktime", "4", "-kernel", "inet_dist_listen_options", "[{sndbuf,262144}]"],
    {Member = {_, Node}, Link} = test_link:member(#{test => #{workers => 1}}, #{}, Args),
    try
        At = #{pool => {test, Node}},
        {ok, Small} = py:stream_start(itertools, count, [], At#{window => 4}),
        {ok, 0} = py:stream_next(Small, ?LONG),
        ok = test_link:set(Link, #{rate => 10000000}),
        Bytes = 16 * 1024 * 1024,
        ok = py:exec(["def large():\n    for _ in range(2):\n        yield b'x' * ", integer_to_list(Bytes)], At),
        Self = self(),
        Reader = spawn_link(fun() ->
            {ok, Ref} = py:stream_start('__main__', large, [], At),
            Self ! {self(), [byte_size(V) || V <- test_stream_events:rest(Ref)]}
        end),
        {Beside, Sizes} = beside(Small, Reader, 1),
        ct:pal("~b values of the other stream meanwhile", [Beside]),
        ?assertEqual([Bytes, Bytes], Sizes),
        %% Had each of the two values held it up, one window would have come with each, and one before.
        ?assert(Beside > 6 * 4),
        ok = py:stream_cancel(Small, [flush])
    after
        _ = net_kernel:set_net_ticktime(60, 0),
        test_cluster:stop(Member),
        test_link:stop(Link)
    end.

%% How many values of a stream come until the reader has all of its own.
beside(Ref, Reader, N) ->
    receive
        {Reader, Sizes} -> {N, Sizes}
    after 0 ->
        {ok, N} = py:stream_next(Ref, ?LONG),
        beside(Ref, Reader, N + 1)
    end.

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

%% Python code finds the functions of the node that asked for it, unless its own has one of that
%% name, so that it need not know where it runs.
-spec functions_of_the_callers_node(ct_suite:ct_config()) -> ok.
functions_of_the_callers_node(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {alone, Node}},
    Here = fun(Args) -> {node(), Args} end,
    Ask = "__import__('erlang').call('where', 1, 'two')",
    try
        {error, {_, Missing}} = py:eval(Ask, #{}, At),
        ?assertNotEqual(nomatch, string:find(Missing, "not_registered")),
        ok = py:register_function(where, Here),
        Answer = {node(), [1, <<"two">>]},
        ?assertEqual({ok, Answer}, py:eval(Ask, #{}, At)),
        ?assertEqual({ok, [Answer]}, py:stream_eval("(" ++ Ask ++ " for _ in range(1))", #{}, At)),
        %% An exception is that of this node's function.
        ok = py:register_function(fails, fun(_) -> error(no_way) end),
        {error, {_, Failed}} = py:eval("__import__('erlang').call('fails')", #{}, At),
        ?assertNotEqual(nomatch, string:find(Failed, "no_way")),
        %% A request of that node itself asks nobody else.
        ?assertMatch({error, {_, _}}, test_cluster:call(B, py, eval, [Ask, #{}, #{pool => alone}])),
        ok = test_cluster:call(B, py, register_function, [where, erlang, hd]),
        ?assertEqual({ok, 1}, py:eval(Ask, #{}, At)),
        ok = test_cluster:call(B, py, unregister_function, [where]),
        {ok, Own} = py:start_worker(#{caller_functions => false}, link, Node),
        ?assertMatch({error, {_, _}}, py:eval(Ask, #{}, #{pool => Own})),
        ok = py:stop_worker(Own)
    after
        py:unregister_function(where),
        py:unregister_function(fails)
    end,
    test_cluster:clean(B).

%% A node that has the code and does not run the application can call, and says of all else what is
%% missing.
-spec loaded_only(ct_suite:ct_config()) -> ok.
loaded_only(Config) ->
    {_, Node} = b(Config),
    {Peer, Bare} = test_other_node:start([filename:dirname(code:which(py))]),
    At = #{pool => {alone, Node}},
    ?assertEqual({ok, 0}, erpc:call(Bare, py, call, [builtins, len, [[]], #{}, At])),
    ?assertMatch(#{pool := alone}, erpc:call(Bare, py, info, [{alone, Node}])),
    NotStarted = {error, {not_started, erlang_python}},
    ?assertEqual(NotStarted, erpc:call(Bare, py, stream_start, [builtins, range, [3], At])),
    ?assertEqual(NotStarted, erpc:call(Bare, py, stream, [builtins, range, [3], #{}, At])),
    ?assertEqual([], erpc:call(Bare, py, nodes, [test])),
    ?assertEqual({error, {no_pool, test}}, erpc:call(Bare, py, call, [builtins, len, [[]], #{}, #{pool => {test, any}}])),
    peer:stop(Peer),
    ok.

%% A hidden node names the node: it sees no groups.
-spec hidden(ct_suite:ct_config()) -> ok.
hidden(Config) ->
    {B, Node} = b(Config),
    Hidden = test_cluster:start(#{}, #{args => ["-hidden"]}),
    ?assertEqual(pong, test_cluster:call(Hidden, net_adm, ping, [Node])),
    Ask = fun(F, Args) -> test_cluster:call(Hidden, py, F, Args) end,
    ?assertEqual({ok, 0}, Ask(call, [builtins, len, [[]], #{}, #{pool => {test, Node}}])),
    ?assertEqual({ok, [0, 1]}, Ask(stream, [builtins, range, [2], #{}, #{pool => {test, Node}}])),
    ?assertEqual({error, {no_pool, test}}, Ask(call, [builtins, len, [[]], #{}, #{pool => {test, any}}])),
    test_cluster:stop(Hidden),
    test_cluster:clean(B).

%% What script/cluster-demo shows.
-spec the_demo(ct_suite:ct_config()) -> ok.
the_demo(_Config) ->
    Lib = filename:dirname(code:lib_dir(erlang_python)),
    Demo = filename:join(test_program:root(), "examples/cluster_demo.escript"),
    {Status, Output} = test_program:run(os:find_executable("escript"), [Demo], #{env => [{"ERL_LIBS", Lib}]}),
    ?assertEqual(0, Status, Output),
    [
        ?assertMatch({match, _}, re:run(Output, Text), {Text, Output})
     || Text <- ["nodedown,'one", "error,draining", "py:drain is ok", "had one end"]
    ],
    ok.
