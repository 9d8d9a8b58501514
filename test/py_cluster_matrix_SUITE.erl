%% @doc Each function of `py' with each form of address, asked by nodes of each kind: one that runs
%% the application, one that has only its code, a hidden one, one that has nothing of it, and nodes of
%% other releases of Erlang/OTP.
-module(py_cluster_matrix_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([
    every_function_has_a_row/1,
    every_address/1,
    every_node_at_once/1,
    from_a_hidden_node/1,
    from_a_node_with_the_code/1,
    from_a_bare_node/1,
    handles/1,
    channels/1,
    a_channel_has_no_gap/1,
    what_is_seen_there/1,
    an_owner_of_another_node/1,
    what_crosses/1,
    a_pool_that_is_not_there/1,
    a_greeting_with_a_version/1,
    an_option_of_a_later_release/1,
    other_versions/1,
    other_releases/1
]).
%% Called in other nodes.
-export([failures/2, failed/2, bare/1, counted/2, record/0, recorded/0, trace/0, traced/0]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5}}].

-spec all() -> [atom()].
all() ->
    [
        every_function_has_a_row,
        every_address,
        every_node_at_once,
        from_a_hidden_node,
        from_a_node_with_the_code,
        from_a_bare_node,
        handles,
        channels,
        a_channel_has_no_gap,
        what_is_seen_there,
        an_owner_of_another_node,
        what_crosses,
        a_pool_that_is_not_there,
        a_greeting_with_a_version,
        an_option_of_a_later_release,
        other_versions,
        other_releases
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case test_cluster:start_this_node() of
        ok ->
            [{b, test_cluster:start(#{test => #{workers => 1, cluster => true}}, #{args => paths_args()})} | Config];
        Skip ->
            Skip
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(Config) ->
    test_cluster:stop(proplists:get_value(b, Config)),
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

b(Config) ->
    B = {_, Node} = proplists:get_value(b, Config),
    test_eventually:equal([Node], fun() ->
        _ = net_adm:ping(Node),
        py:nodes(test)
    end),
    {B, Node}.

%%% The table: what each function that takes a pool, or what it has made, does with that of an
%%% address. `started' rows need the application on the node that asks.

rows() ->
    [
        {{stream_start, 4}, started, fun(At) ->
            {ok, Ref} = py:stream_start(builtins, range, [3], At),
            [0, 1, 2] = test_stream_events:rest(Ref)
        end},
        {{stream_next, 1}, started, fun(At) ->
            {ok, Ref} = py:stream_start(builtins, range, [1], At),
            {ok, 0} = py:stream_next(Ref),
            done = py:stream_next(Ref)
        end},
        {{stream_next, 2}, started, fun(At) ->
            {ok, Ref} = py:stream_start(asyncio, sleep, [60], At#{timeout => infinity}),
            timeout = py:stream_next(Ref, 10),
            ok = py:stream_cancel(Ref, [flush])
        end},
        {{stream_cancel, 1}, started, fun(At) ->
            {ok, Ref} = py:stream_start(itertools, count, [], At#{demand => 0}),
            ok = py:stream_cancel(Ref),
            {error, cancelled} = py:stream_next(Ref, ?LONG)
        end},
        {{stream_cancel, 2}, started, fun(At) ->
            {ok, Ref} = py:stream_start(itertools, count, [], At),
            {ok, 0} = py:stream_next(Ref, ?LONG),
            ok = py:stream_cancel(Ref, [flush]),
            timeout = py:stream_next(Ref, 0)
        end},
        {{stream_demand, 2}, started, fun(At) ->
            {ok, Ref} = py:stream_start(itertools, count, [], At#{demand => 1}),
            {ok, 0} = py:stream_next(Ref, ?LONG),
            ok = py:stream_demand(Ref, 1),
            {ok, 1} = py:stream_next(Ref, ?LONG),
            ok = py:stream_cancel(Ref, [flush])
        end},
        {{stream_fold, 3}, started, fun(At) ->
            {ok, Ref} = py:stream_start(builtins, range, [10], At),
            {ok, 45} = py:stream_fold(fun(V, Sum) -> {cont, V + Sum} end, 0, Ref)
        end},
        {{stream, 5}, started, fun(At) ->
            {ok, [0, 1]} = py:stream(builtins, range, [2], #{}, At)
        end},
        {{stream_eval, 3}, started, fun(At) ->
            {ok, [1, 4]} = py:stream_eval("(x * x for x in xs)", #{xs => [1, 2]}, At)
        end},
        {{enumerable, 4}, started, fun(At) ->
            {done, 3} = (py:enumerable(builtins, range, [3], At))({cont, 0}, fun(_, N) -> {cont, N + 1} end)
        end},
        {{enumerable_eval, 3}, started, fun(At) ->
            {halted, 7} = (py:enumerable_eval("iter([n])", #{n => 7}, At))({cont, 0}, fun(V, _) -> {halt, V} end)
        end},
        {{foreach, 2}, started, fun(At) ->
            Self = self(),
            ok = py:foreach(fun(V) -> Self ! {each, V} end, py:enumerable(builtins, range, [1], At)),
            receive
                {each, 0} -> ok
            end
        end},
        {{channel, 1}, started, fun(At) ->
            {ok, In} = py:channel(#{window => 5}),
            Sum = py:spawn_call(builtins, sum, [In], #{}, At),
            [ok = py:channel_send(In, N) || N <- lists:seq(1, 20)],
            ok = py:channel_close(In),
            {ok, 210} = py:await(Sum, ?LONG)
        end},
        {{exec, 2}, loaded, fun(At) ->
            ok = py:exec("matrix = 1", At)
        end},
        {{eval, 3}, loaded, fun(At) ->
            {ok, 3} = py:eval("x + 1", #{x => 2}, At),
            {error, {'ZeroDivisionError', _}} = py:eval("1 / 0", #{}, At)
        end},
        {{call, 5}, loaded, fun(At) ->
            {ok, 3} = py:call(builtins, len, [[1, 2, 3]], #{}, At),
            {ok, [3, 2]} = py:call(builtins, sorted, [[2, 3]], #{reverse => true}, At#{timeout => ?LONG}),
            {error, timeout} = py:call(asyncio, sleep, [60], #{}, At#{timeout => 20})
        end},
        {{cast, 5}, started, fun(At) ->
            ok = py:cast(erlang, send, [self(), cast], #{}, At),
            receive
                <<"cast">> -> ok;
                cast -> ok
            end
        end},
        {{spawn_call, 5}, started, fun(At) ->
            Ref = py:spawn_call(builtins, len, [[1]], #{}, At),
            receive
                {Ref, {ok, 1}} -> true = erlang:demonitor(Ref, [flush])
            end
        end},
        {{await, 1}, started, fun(At) ->
            {ok, 1} = py:await(py:spawn_call(builtins, len, [[1]], #{}, At))
        end},
        {{await, 2}, started, fun(At) ->
            {error, timeout} = py:await(py:spawn_call(asyncio, sleep, [60], #{}, At), 20)
        end},
        {{release, 1}, started, fun(At) ->
            {ok, List} = py:eval("[1, 2]", #{}, At#{return => handle}),
            {ok, 1} = py:call(List, index, [2]),
            {ok, 2} = py:call(builtins, len, [List]),
            {ok, [1, 2]} = py:stream(List, '__iter__', []),
            ok = py:release(List),
            {error, {'ReferenceError', _}} = py:call(List, index, [2])
        end},
        {{version, 1}, loaded, fun(At) ->
            {ok, <<"3.", _/binary>>} = py:version(At)
        end},
        {{info, 1}, loaded, fun(#{pool := Pool}) ->
            #{workers := [#{pid := Pid}]} = py:info(Pool),
            true = is_pid(Pid)
        end},
        {{drain, 2}, loaded, fun
            (#{pool := Pool}) when is_pid(Pool) ->
                ok;
            (#{pool := {_, local_first}}) ->
                ok;
            (#{pool := Pool = {Name, To}}) ->
                #{workers := [#{pid := Pid}]} = py:info(Pool),
                At = {Name, node(Pid)},
                ok = py:drain(Pool, ?LONG),
                {error, draining} = py:call(builtins, len, [[]], #{}, #{pool => At}),
                ok = py:resume(At),
                To =:= any andalso to_come(Name, At)
        end},
        {{resume, 1}, loaded, fun(#{pool := Pool}) ->
            ok = py:resume(Pool)
        end},
        {{restart_workers, 1}, loaded, fun
            (#{pool := Pool}) when is_pid(Pool) ->
                ok;
            (#{pool := Pool}) ->
                #{workers := [#{pid := Old}]} = py:info(Pool),
                ok = py:restart_workers(Pool),
                #{workers := [#{pid := New}]} = py:info({test, node(Old)}),
                true = Old =/= New
        end}
    ].

%% The node is chosen again when its group is known here.
to_come(Name, {Name, Node}) ->
    test_eventually:true(fun() -> lists:member(Node, py:nodes(Name)) end).

%% Those that concern the default pool are the same function with fewer arguments.
shorter() ->
    [
        {stream_start, 3}, {stream, 3}, {stream, 4}, {stream_eval, 1}, {stream_eval, 2},
        {enumerable, 3}, {enumerable_eval, 1}, {enumerable_eval, 2}, {channel, 0},
        {exec, 1}, {eval, 1}, {eval, 2}, {call, 3}, {call, 4}, {cast, 3}, {cast, 4},
        {spawn_call, 3}, {spawn_call, 4}, {version, 0}, {start_worker, 1}, {start_worker, 2}, {info, 0}, {i, 0}
    ].

%% Those that have a test of their own here or in a py_cluster_*_SUITE.
elsewhere() ->
    [
        {channel_send, 2}, {channel_send, 3}, {channel_close, 1}, {start_worker, 3}, {stop_worker, 1}, {nodes, 1}, {i, 1},
        {stacks, 1}, {stack_traces, 1}
    ].

%% Those that are about this node alone.
of_this_node() ->
    [
        {register_function, 2}, {register_function, 3}, {unregister_function, 1}, {functions, 0}, {format_error, 1},
        {start_pool, 2}, {stop_pool, 1}, {stop_pool, 2}, {pool_spec, 2}, {child_spec, 1}, {child_spec, 2}
    ].

-spec every_function_has_a_row(ct_suite:ct_config()) -> ok.
every_function_has_a_row(_Config) ->
    Exports = [Export || Export = {Name, _} <- py:module_info(exports), Name =/= module_info],
    Rows = [Function || {Function, _, _} <- rows()],
    ?assertEqual(lists:sort(Exports), lists:sort(Rows ++ shorter() ++ elsewhere() ++ of_this_node())).

%% @doc The rows that fail with an address.
-spec failures(started | loaded, py_options:destination()) -> [{term(), term(), term()}].
failures(Needs, Address) ->
    lists:append([failed(F, Address) || {F, Needed, _} <- rows(), Needs =:= started orelse Needed =:= loaded]).

%% The same in another node, a question for each row.
failures_of(Member, Address) ->
    lists:append([test_cluster:call(Member, ?MODULE, failed, [F, Address]) || {F, _, _} <- rows()]).

%% @doc What is wrong with one row.
-spec failed({atom(), arity()}, py_options:destination()) -> [{term(), term(), term()}].
failed(Function, Address) ->
    {Function, _, Row} = lists:keyfind(Function, 1, rows()),
    %% In a process of its own: nothing is left for the next one.
    {Pid, Monitor} = spawn_monitor(fun() ->
        _ = Row(#{pool => Address}),
        receive
            Left -> exit({left, Left})
        after 0 -> ok
        end
    end),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> [];
        {'DOWN', Monitor, process, Pid, Reason} -> [{Function, Address, Reason}]
    after 20000 ->
        Where = process_info(Pid, current_stacktrace),
        exit(Pid, kill),
        [{Function, Address, {hangs, Where}}]
    end.

-spec every_address(ct_suite:ct_config()) -> ok.
every_address(Config) ->
    {B, Node} = b(Config),
    [?assertEqual([], failures(started, Address)) || Address <- [{test, Node}, {test, any}, {test, local_first}]],
    %% A worker of a pool takes requests, too.
    #{workers := [#{pid := Pid}]} = py:info({test, Node}),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, #{pool => Pid})),
    ?assertEqual({ok, [0]}, py:stream(builtins, range, [1], #{}, #{pool => Pid})),
    {ok, Own} = py:start_worker(#{}, link, Node),
    ?assertEqual([], failures(started, Own)),
    ok = py:stop_worker(Own),
    %% This node by its name is the pool of this node.
    {ok, _} = py:start_pool(test, #{workers => 1, cluster => true}),
    [?assertEqual([], failures(started, Address)) || Address <- [{test, node()}, {test, local_first}]],
    ok = py:stop_pool(test),
    test_cluster:clean(B),
    test_leftovers:none().

%% `{Name, all}' is for what has an answer for each node.
-spec every_node_at_once(ct_suite:ct_config()) -> ok.
every_node_at_once(Config) ->
    {_, Node} = b(Config),
    All = {test, all},
    ok = py:exec("all_of_them = 1", #{pool => All}),
    ?assertMatch(#{Node := #{pool := test}}, py:info(All)),
    ok = py:i(All),
    Opts = #{pool => All},
    [
        ?assertError({badopt, {pool, All}}, Fun())
     || Fun <- [
            fun() -> py:call(builtins, len, [[]], #{}, Opts) end,
            fun() -> py:cast(builtins, len, [[]], #{}, Opts) end,
            fun() -> py:spawn_call(builtins, len, [[]], #{}, Opts) end,
            fun() -> py:eval("1", #{}, Opts) end,
            fun() -> py:version(Opts) end,
            fun() -> py:stream_start(builtins, range, [1], Opts) end,
            fun() -> py:stream(builtins, range, [1], #{}, Opts) end,
            fun() -> py:stream_eval("[]", #{}, Opts) end,
            fun() -> py:enumerable(builtins, range, [1], Opts) end,
            fun() -> py:enumerable_eval("[]", #{}, Opts) end,
            fun() -> py:drain(All, 0) end,
            fun() -> py:resume(All) end,
            fun() -> py:restart_workers(All) end
        ]
    ],
    ok.

%%% Who asks.

paths() ->
    lists:usort([filename:dirname(code:which(Module)) || Module <- [py, ?MODULE, test_cluster]]).

%% It sees no groups, and names the node.
-spec from_a_hidden_node(ct_suite:ct_config()) -> ok.
from_a_hidden_node(Config) ->
    {B, Node} = b(Config),
    Hidden = test_cluster:start(#{}, #{args => ["-hidden" | paths_args()]}),
    _ = test_cluster:call(Hidden, net_adm, ping, [Node]),
    ?assertEqual([], failures_of(Hidden, {test, Node})),
    ?assertEqual([], test_cluster:call(Hidden, py, nodes, [test])),
    test_cluster:stop(Hidden),
    test_cluster:clean(B).

paths_args() ->
    lists:append([["-pa", Path] || Path <- paths()]).

%% Without the application what needs no process of it works, and all else says what is missing.
-spec from_a_node_with_the_code(ct_suite:ct_config()) -> ok.
from_a_node_with_the_code(Config) ->
    {B, Node} = b(Config),
    {Peer, Loaded} = test_other_node:start(paths()),
    ?assertEqual([], erpc:call(Loaded, ?MODULE, failures, [loaded, {test, Node}])),
    At = #{pool => {test, Node}},
    NotStarted = {error, {not_started, erlang_python}},
    [
        ?assertEqual({F, NotStarted}, {F, erpc:call(Loaded, py, F, Args)})
     || {F, Args} <- [
            {stream_start, [builtins, range, [3], At]},
            {stream, [builtins, range, [3], #{}, At]},
            {stream_eval, ["[]", #{}, At]},
            {eval, ["[]", #{}, At#{return => handle}]}
        ]
    ],
    peer:stop(Peer),
    test_cluster:clean(B).

%% Whoever has nothing of the library asks by `erpc', and names itself as the owner.
-spec from_a_bare_node(ct_suite:ct_config()) -> ok.
from_a_bare_node(Config) ->
    {B, Node} = b(Config),
    {Peer, Bare} = test_other_node:start([]),
    %% It gets this module alone.
    {Module, Binary, File} = code:get_object_code(?MODULE),
    {module, Module} = erpc:call(Bare, code, load_binary, [Module, File, Binary]),
    ?assertEqual(non_existing, erpc:call(Bare, code, which, [py])),
    ?assertEqual(ok, erpc:call(Bare, ?MODULE, bare, [Node])),
    peer:stop(Peer),
    test_cluster:clean(B).

-spec bare(node()) -> ok.
bare(Node) ->
    Ask = fun(F, Args) -> erpc:call(Node, py, F, Args) end,
    At = #{pool => test},
    {ok, 0} = Ask(call, [builtins, len, [[]], #{}, At]),
    {ok, 3} = Ask(eval, ["1 + 2", #{}, At]),
    ok = Ask(exec, ["bare = 1", At]),
    {ok, <<"3.", _/binary>>} = Ask(version, [At]),
    {ok, [0, 1]} = Ask(stream, [builtins, range, [2], #{}, At]),
    {ok, [1]} = Ask(stream_eval, ["[1]", #{}, At]),
    #{pool := test} = Ask(info, [test]),
    [Node] = Ask(nodes, [test]),
    ok = Ask(cast, [erlang, send, [self(), 7], #{}, At]),
    receive
        7 -> ok
    after ?LONG -> error(no_cast)
    end,
    {ok, Ref} = Ask(stream_start, [itertools, count, [], At#{owner => self(), demand => 1}]),
    0 = event(Ref),
    ok = Ask(stream_demand, [Ref, 1]),
    1 = event(Ref),
    ok = Ask(stream_cancel, [Ref]),
    {error, cancelled} = event(Ref),
    ok = Ask(drain, [test, ?LONG]),
    ok = Ask(resume, [test]).

event(Ref) ->
    receive
        {py_stream, Ref, {data, Value}} -> Value;
        {py_stream, Ref, End} -> End
    after ?LONG -> error(no_event)
    end.

%%% What stays there.

%% An object on another node goes with its owner, and with the connection.
-spec handles(ct_suite:ct_config()) -> ok.
handles(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {test, Node}},
    ok = py:exec(
        "import weakref\n"
        "class Thing: pass\n"
        "alive = weakref.WeakSet()\n"
        "def thing():\n"
        "    made = Thing()\n"
        "    alive.add(made)\n"
        "    return made\n",
        At
    ),
    Alive = fun() ->
        {ok, N} = test_cluster:call(B, py, eval, ["len(alive)", #{}, #{pool => test}]),
        N
    end,
    Make = fun(Pool) ->
        {ok, Handle} = py:call('__main__', thing, [], #{}, #{return => handle, pool => Pool}),
        Handle
    end,
    Released = Make({test, Node}),
    ?assertEqual(1, Alive()),
    ok = py:release(Released),
    test_eventually:equal(0, Alive),
    Self = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        Self ! {made, Make({test, any})},
        receive
            stop -> ok
        end
    end),
    receive
        {made, Owned} -> ?assertEqual({ok, true}, py:eval("t in alive", #{t => Owned}, #{pool => Owned}))
    end,
    Owner ! stop,
    receive
        {'DOWN', Monitor, process, Owner, normal} -> ok
    end,
    test_eventually:equal(0, Alive),
    %% The nodes part: both sides know.
    Lost = Make({test, Node}),
    ?assertEqual(1, Alive()),
    ok = test_cluster:part(B),
    test_eventually:equal(0, Alive),
    ?assertEqual({error, {nodedown, Node}}, py:call(Lost, '__repr__', [])),
    {B, Node} = b(Config),
    ?assertEqual({error, {nodedown, Node}}, py:call(Lost, '__repr__', [])),
    ok = py:release(Lost),
    %% The result of a call that was given up is not kept.
    ok = py:exec(
        "import time\n"
        "may_end = []\n"
        "def later():\n"
        "    made = thing()\n"
        "    while not may_end:\n"
        "        time.sleep(0.005)\n"
        "    return made\n",
        At
    ),
    ?assertEqual({error, timeout}, py:call('__main__', later, [], #{}, At#{return => handle, timeout => 20})),
    ok = py:exec("may_end.append(True)", At),
    test_cluster:clean(B),
    test_eventually:equal(0, Alive),
    %% And that of a worker that has died.
    Dead = Make({test, Node}),
    ?assertMatch({error, {worker_exit, 3}}, py:call(os, '_exit', [3], #{}, #{pool => Dead})),
    ?assertMatch({error, {worker_exit, 3}}, py:call(Dead, '__repr__', [])),
    ok = py:release(Dead),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, At) end),
    test_cluster:clean(B).

%% A channel of this node is read on another one, until the nodes part.
-spec channels(ct_suite:ct_config()) -> ok.
channels(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {test, Node}},
    {ok, Numbers} = py:channel(#{window => 10}),
    {ok, Echo} = py:stream_start(builtins, iter, [Numbers], At),
    [
        begin
            ok = py:channel_send(Numbers, N),
            ?assertEqual({ok, N}, py:stream_next(Echo, ?LONG))
        end
     || N <- lists:seq(1, 100)
    ],
    ok = test_cluster:part(B),
    ?assertEqual({error, {nodedown, Node}}, py:stream_next(Echo, ?LONG)),
    test_eventually:equal({error, closed}, fun() -> py:channel_send(Numbers, 1) end),
    _ = b(Config),
    test_cluster:clean(B).

%% A reader on another node gets a prefix of what was sent and then the end, though nodes that part
%% are connected again at once.
-spec a_channel_has_no_gap(ct_suite:ct_config()) -> term().
a_channel_has_no_gap(Config) ->
    Take =
        "taken, ended = [], []\n"
        "def take(numbers):\n"
        "    try:\n"
        "        taken.extend(numbers)\n"
        "    finally:\n"
        "        ended.append(True)\n",
    At = #{pool => test},
    [
        begin
            {B, Node} = b(Config),
            Eval = fun(Code) -> test_cluster:call(B, py, eval, [Code, #{}, At]) end,
            ok = test_cluster:call(B, py, exec, [Take, At#{replay => false}]),
            {ok, In} = py:channel(#{window => 1000}),
            ok = test_cluster:call(B, py, cast, ['__main__', take, [In], #{}, At]),
            {Sender, Monitor} = spawn_monitor(fun() -> feed(In, 0) end),
            test_eventually:true(fun() -> Eval("len(taken) > 0") =:= {ok, true} end),
            timer:sleep(rand:uniform(20)),
            ok = test_cluster:part(B),
            pong = net_adm:ping(Node),
            test_eventually:equal({ok, [true]}, fun() -> Eval("ended") end),
            ?assertEqual({ok, true}, Eval("taken == list(range(len(taken)))")),
            receive
                {'DOWN', Monitor, process, Sender, Reason} -> ?assertEqual(normal, Reason)
            end
        end
     || _ <- lists:seq(1, 20)
    ].

feed(In, N) ->
    case py:channel_send(In, N) of
        ok -> feed(In, N + 1);
        {error, closed} -> ok
    end.

%% The node that has the pool lists and counts the requests of others as its own.
-spec what_is_seen_there(ct_suite:ct_config()) -> ok.
what_is_seen_there(Config) ->
    {B, Node} = b(Config),
    {ok, Own} = py:start_worker(#{}, link, Node),
    At = #{pool => Own},
    Listed = fun() ->
        #{workers := [#{running := Requests}]} = py:info(Own),
        [{Kind, M, F} || #{kind := Kind, module := M, function := F} <- Requests]
    end,
    {ok, Ref} = py:stream_start(itertools, count, [], At#{demand => 3}),
    [{ok, N} = py:stream_next(Ref, ?LONG) || N <- [0, 1, 2]],
    Call = py:spawn_call(asyncio, sleep, [60], #{}, At),
    test_eventually:equal([{stream, <<"itertools">>, <<"count">>}, {call, <<"asyncio">>, <<"sleep">>}], Listed),
    {error, {'ValueError', _}} = py:call(builtins, int, [<<"x">>], #{}, At),
    {error, {'TypeError', _}} = py:stream(builtins, iter, [1], #{}, At),
    {ok, [0, 1, 2, 3, 4]} = py:stream(builtins, range, [5], #{}, At),
    {ok, Letters} = py:stream_eval("iter([1, 'a', 300, 2.5])", #{}, At),
    ?assertEqual(4, length(Letters)),
    ok = py:stream_cancel(Ref, [flush]),
    {error, timeout} = py:await(Call, 0),
    test_eventually:equal([], Listed),
    test_eventually:equal(
        #{values => 12, errors => #{'ValueError' => 1, 'TypeError' => 1}, cancels => 2},
        fun() -> maps:with([values, errors, cancels], maps:get(counters, py:info(Own))) end
    ),
    ok = py:stop_worker(Own),
    test_cluster:clean(B).

%% The nodes part and meet while values are sent to an owner there: what it has is a prefix, and nothing comes
%% from then on.
-spec an_owner_of_another_node(ct_suite:ct_config()) -> ok.
an_owner_of_another_node(Config) ->
    {ok, _} = py:start_pool(here, #{workers => 1}),
    [
        begin
            {B, Node} = b(Config),
            Owner = test_cluster:call(B, ?MODULE, record, []),
            {ok, _} = py:stream_start(itertools, count, [], #{pool => here, owner => Owner}),
            test_eventually:true(fun() -> element(2, test_cluster:call(B, ?MODULE, recorded, [])) > 0 end),
            timer:sleep(rand:uniform(20)),
            ok = test_cluster:part(B),
            pong = net_adm:ping(Node),
            test_leftovers:none(),
            ?assertMatch({no_gap, _}, test_cluster:call(B, ?MODULE, recorded, []))
        end
     || _ <- lists:seq(1, 20)
    ],
    ok = py:stop_pool(here).

%% @doc Starts an owner that counts, and says when a value is not the next one.
-spec record() -> pid().
record() ->
    Pid = spawn(fun() -> recording(no_gap, 0) end),
    _ = whereis(?MODULE) =:= undefined orelse unregister(?MODULE),
    register(?MODULE, Pid),
    Pid.

recording(Seen, Next) ->
    receive
        {py_stream, _, {data, Next}} ->
            recording(Seen, Next + 1);
        {py_stream, _, Other} ->
            recording({Other, in_place_of, Next}, Next);
        {recorded, From} ->
            From ! {recorded, {Seen, Next}},
            recording(Seen, Next)
    end.

%% @doc What it has seen.
-spec recorded() -> {term(), non_neg_integer()}.
recorded() ->
    ?MODULE ! {recorded, self()},
    receive
        {recorded, Seen} -> Seen
    end.

%% Nothing crosses for a stream but frames one way, and credit the other; the end is a frame, and a cancel is
%% the end of a process.
-spec what_crosses(ct_suite:ct_config()) -> ok.
what_crosses(Config) ->
    {B, Node} = b(Config),
    At = #{pool => {test, Node}},
    ok = trace(),
    ok = test_cluster:call(B, ?MODULE, trace, []),
    {ok, Sum} = py:stream_start(builtins, range, [20000], At),
    {ok, 20000} = py:stream_fold(fun(_, N) -> {cont, N + 1} end, 0, Sum),
    {ok, Ref} = py:stream_start(itertools, count, [], At),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    test_eventually:true(fun() -> element(2, process_info(self(), message_queue_len)) > 512 end),
    ok = py:stream_cancel(Ref, [flush]),
    test_cluster:clean(B),
    There = traced(),
    Back = test_cluster:call(B, ?MODULE, traced, []),
    ?assertEqual([py_credit], lists:usort(There)),
    ?assertEqual([{py_far, accepted}, {py_far, frame}, {py_far, last}], lists:usort(Back)),
    %% One message for many values.
    ?assert(length([Frame || Frame = {py_far, frame} <- Back]) < 5000),
    ?assert(length(There) < 1000).

%% @doc Watches what this node sends to others.
-spec trace() -> ok.
trace() ->
    Tracer = spawn(fun() -> tracer([]) end),
    true = register(crossing, Tracer),
    _ = erlang:trace(all, true, [send, {tracer, Tracer}]),
    ok.

tracer(Seen) ->
    receive
        {trace, _, send, Message, To} when is_pid(To), node(To) =/= node() -> tracer([kind(Message) | Seen]);
        {traced, From} -> From ! {traced, Seen};
        _ -> tracer(Seen)
    end.

kind({py_far, N, _, _}) when is_integer(N) -> {py_far, frame};
kind(Message) when element(1, Message) =:= py_far -> {py_far, element(2, Message)};
kind(Message) when is_tuple(Message) -> element(1, Message);
kind(Message) -> Message.

%% @doc What it has sent.
-spec traced() -> [term()].
traced() ->
    _ = erlang:trace(all, false, [send]),
    %% All that was traced has arrived there.
    Delivered = erlang:trace_delivered(all),
    receive
        {trace_delivered, all, Delivered} -> ok
    end,
    crossing ! {traced, self()},
    receive
        {traced, Seen} -> Seen
    end.

%% A node that is still shown and has no such pool refuses, and the next one runs it, once.
-spec a_pool_that_is_not_there(ct_suite:ct_config()) -> ok.
a_pool_that_is_not_there(Config) ->
    {B, Node} = b(Config),
    {ok, _} = py:start_pool(gone, #{workers => 1, cluster => true}),
    Shown = test_cluster:call(B, erlang, whereis, [py_sup]),
    ok = test_cluster:call(B, pg, join, [erlang_python, {1, gone}, Shown]),
    test_eventually:equal(lists:sort([node(), Node]), fun() -> py:nodes(gone) end),
    Any = #{pool => {gone, any}},
    File = list_to_binary(filename:join(proplists:get_value(priv_dir, Config), "gone")),
    Code = "open(p, 'a').write('x')",
    [?assertEqual({ok, 1}, py:eval(Code, #{p => File}, Any)) || _ <- lists:seq(1, 10)],
    [?assertEqual({ok, [1]}, py:stream_eval(["[", Code, "]"], #{p => File}, Any)) || _ <- lists:seq(1, 10)],
    ?assertEqual({ok, binary:copy(<<"x">>, 20)}, file:read_file(File)),
    ok = py:stop_pool(gone),
    test_eventually:equal([Node], fun() -> py:nodes(gone) end),
    ?assertEqual({error, {no_pool, gone}}, py:call(builtins, len, [[]], #{}, Any)),
    ok = test_cluster:call(B, pg, leave, [erlang_python, {1, gone}, Shown]),
    test_cluster:clean(B).

%%% Other versions.

%% The groups of a newer release of OTP greet with a version of theirs.
-spec a_greeting_with_a_version(ct_suite:ct_config()) -> ok.
a_greeting_with_a_version(Config) ->
    {B, Node} = b(Config),
    Groups = test_cluster:call(B, erlang, whereis, [erlang_python]),
    Groups ! {discover, self(), 1},
    receive
        {'$gen_cast', {sync, Groups, Shown}} -> ?assertMatch({{1, test}, [_]}, lists:keyfind({1, test}, 1, Shown));
        %% The answer of one to another.
        {'$gen_cast', {local_data, Groups, 1, Shown}} -> ?assertMatch(#{{1, test} := [_]}, Shown)
    after ?LONG -> error(no_answer)
    end,
    ?assertEqual(Groups, test_cluster:call(B, erlang, whereis, [erlang_python])),
    ?assertEqual([Node], py:nodes(test)).

%% What this release does not know of a request that another node has checked is for a node that does.
-spec an_option_of_a_later_release(ct_suite:ct_config()) -> ok.
an_option_of_a_later_release(Config) ->
    {B, Node} = b(Config),
    Request = #{from => self(), pool => test, target => py_call:function(builtins, len, [[]], #{}), opts => #{later => 1}},
    [
        begin
            {Pid, Monitor} = erlang:spawn_opt(Node, py_relay, Kind, [1, Given], [monitor]),
            receive
                {py_far, refused, Reason, _Load} -> ?assertEqual({not_supported, Node}, Reason)
            after ?LONG -> error(no_answer)
            end,
            receive
                {'DOWN', Monitor, process, Pid, Ended} -> ?assertEqual(normal, Ended)
            end
        end
     || {Kind, Given} <- [{call, Request}, {stream, Request#{ref => make_ref(), owner => self()}}]
    ],
    test_cluster:clean(B).

%% A node of a version that this one does not speak is no member: `any' never asks it.
-spec other_versions(ct_suite:ct_config()) -> ok.
other_versions(Config) ->
    {B, Node} = b(Config),
    {Peer, Other} = test_other_node:start([]),
    {ok, _} = erpc:call(Other, pg, start, [erlang_python]),
    Member = erpc:call(Other, erlang, whereis, [init]),
    [ok = erpc:call(Other, pg, join, [erlang_python, {Version, Name}, Member]) || Version <- [0, 2], Name <- [test, theirs]],
    test_eventually:equal(4, fun() ->
        length([G || G = {V, _} <- pg:which_groups(erlang_python), V =/= 1])
    end),
    ?assertEqual([Node], py:nodes(test)),
    ?assertEqual([], py:nodes(theirs)),
    ?assertEqual({error, {no_pool, theirs}}, py:call(builtins, len, [[]], #{}, #{pool => {theirs, any}})),
    [?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, #{pool => {test, any}})) || _ <- lists:seq(1, 10)],
    ?assertEqual({error, {not_supported, Other}}, py:call(builtins, len, [[]], #{}, #{pool => {test, Other}})),
    %% It offers the pool in this version, and cannot run it: the next one is asked, once.
    ok = erpc:call(Other, pg, join, [erlang_python, {1, test}, Member]),
    test_eventually:equal(2, fun() -> length(py:nodes(test)) end),
    [?assertEqual({ok, [0]}, py:stream(builtins, range, [1], #{}, #{pool => {test, any}})) || _ <- lists:seq(1, 10)],
    peer:stop(Peer),
    test_cluster:clean(B).

%% Nodes of other releases, each as an own system below a folder: see script/cluster-mixed.
-spec other_releases(ct_suite:ct_config()) -> ok | {skip, string()} | {comment, string()}.
other_releases(Config) ->
    case string:lexemes(os:getenv("OTHER_RELEASES", ""), " ") of
        [] -> {skip, "OTHER_RELEASES names no system with another Erlang/OTP: script/cluster-mixed does"};
        Commands -> mixed(Commands, Config)
    end.

mixed(Commands, Config) ->
    {B, Node} = b(Config),
    Here = {erlang:system_info(otp_release), B, Node},
    Others = [
        begin
            Member = {_, Other} = test_cluster:start(#{test => #{workers => 1, cluster => true}}, #{
                exec => {Command, ["erl"]}, args => paths_args(), env => [{"ERLANG_PYTHON", "python3"}]
            }),
            {test_cluster:call(Member, erlang, system_info, [otp_release]), Member, Other}
        end
     || Command <- Commands
    ],
    All = [Here | Others],
    Asked = [
        begin
            _ = test_cluster:call(From, net_adm, ping, [At]),
            %% Each function, a long stream, a call, and one end when they part.
            ?assertEqual([], failures_of(From, {test, At})),
            ?assertEqual({100000, {nodedown, At}}, test_cluster:call(From, ?MODULE, counted, [At, 100000])),
            test_cluster:clean(To),
            lists:concat([A, " asks ", Z])
        end
     || {A, From, _} <- All, {Z, To, At} <- All, From =/= To
    ],
    [test_cluster:stop(Member) || {_, Member, _} <- Others],
    {comment, lists:flatten(lists:join(", ", Asked))}.

%% Values in order, a call beside them, and the end when the connection is lost.
-spec counted(node(), pos_integer()) -> {pos_integer(), term()}.
counted(Node, N) ->
    At = #{pool => {test, Node}},
    {ok, Ref} = py:stream_start(itertools, count, [], At),
    [{ok, I} = py:stream_next(Ref, ?LONG) || I <- lists:seq(0, N - 1)],
    {ok, 0} = py:call(builtins, len, [[]], #{}, At),
    true = erlang:disconnect_node(Node),
    {N, ended(Ref, N)}.

ended(Ref, N) ->
    case py:stream_next(Ref, ?LONG) of
        {ok, N} -> ended(Ref, N + 1);
        {error, Reason} -> Reason
    end.
