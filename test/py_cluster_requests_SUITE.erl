%% @doc Requests to pools of other nodes: as those of this node, with its options, output and functions; and what
%% nodes without the library, or without the application, say.
-module(py_cluster_requests_SUITE).

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
    no_release_there/1,
    functions_of_the_callers_node/1,
    loaded_only/1,
    hidden/1,
    the_demo/1
]).

-import(test_two_nodes, [b/1]).

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
        no_release_there,
        functions_of_the_callers_node,
        loaded_only,
        hidden,
        the_demo
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
    ok = test_os_process:stop(OsPid),
    {Filling, Call, Stream} =
        try
            %% More than its port has room for.
            Fill = [Called(infinity) || _ <- lists:seq(1, 20)],
            %% None of them has an answer before there is room.
            test_eventually:equal({true, []}, fun() ->
                {messages, Answers} = process_info(self(), messages),
                {test_cluster:call(B, py_port, is_full, [Worker]), Answers}
            end),
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
