%% @doc One honest end of what runs on another node, whatever dies, parts or is cancelled.
-module(py_cluster_ends_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    the_application_stops_here/1,
    the_nodes_part/1,
    the_other_node_is_killed/1,
    a_python_process_is_killed/1,
    the_relay_is_killed/1,
    new_code_there/1,
    the_owner_is_killed/1,
    a_caller_is_killed/1,
    cancelled/1,
    no_such_node/1
]).

-import(test_two_nodes, [b/1, ended/2]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        the_application_stops_here,
        the_nodes_part,
        the_other_node_is_killed,
        a_python_process_is_killed,
        the_relay_is_killed,
        new_code_there,
        the_owner_is_killed,
        a_caller_is_killed,
        cancelled,
        no_such_node
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
