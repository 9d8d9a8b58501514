%% @doc Owners of streams, here and on other nodes: asleep, late, with other mail; nobody is forgotten on either side.
-module(py_owner_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(test_flow, [least/1, pulled/2, start_stream/4, stays/1]).
-import(test_stream_events, [all_values/1, label/0]).

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    no_timeout_while_the_owner_sleeps/1,
    timeout_of_a_generator_that_is_late/1,
    other_mail/1,
    an_owner_that_waits_for_something_else/1,
    an_owner_that_is_asleep_is_counted_once/1,
    one_count_at_a_time/1,
    two_streams_of_one_owner/1,
    owner_on_another_node/1,
    a_count_sends_no_mail_back/1,
    sleeping_owner_on_another_node/1,
    other_mail_on_another_node/1,
    the_other_node_goes_down/1
]).

-define(LONG, 20000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, Name} || {Name, _, _} <- groups()].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        no_timeout_while_the_owner_sleeps,
        timeout_of_a_generator_that_is_late,
        other_mail,
        an_owner_that_waits_for_something_else,
        an_owner_that_is_asleep_is_counted_once,
        one_count_at_a_time,
        two_streams_of_one_owner
    ],
    Nodes = [
        owner_on_another_node,
        a_count_sends_no_mail_back,
        sleeping_owner_on_another_node,
        other_mail_on_another_node,
        the_other_node_goes_down
    ],
    [{sync, [], Cases}, {async, [], Cases}, {nodes, [], Nodes}].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_group(nodes, Config) ->
    case test_other_node:distribution() of
        ok -> test_flow:start(sync, Config);
        Skip -> Skip
    end;
init_per_group(Group, Config) ->
    test_flow:start(Group, Config).

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    test_flow:stop().

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    test_flow:end_of_case().

%% Time in which a generator may not go on, because its owner sleeps or has not asked, does
%% not count.
-spec no_timeout_while_the_owner_sleeps(ct_suite:ct_config()) -> ok.
no_timeout_while_the_owner_sleeps(Config) ->
    Cases = [
        {numbers, [label()], #{window => 3}, 3},
        {numbers, [label()], #{demand => 0}, 0},
        {numbers, [label()], #{demand => 2, window => 8}, 2},
        {sized, [label(), [500]], #{window_bytes => 300}, 1},
        {sized, [label(), [100, 700]], #{window_bytes => 900}, 1}
    ],
    Streams = [
        begin
            Owner = test_sleeper:start(),
            %% In that time a busy machine has made the first values, too.
            More = Opts#{owner => Owner, timeout => 2000},
            {ok, Ref} = start_stream(Function, Args, More, Config),
            {Owner, Ref, Out}
        end
     || {Function, Args, Opts, Out} <- Cases
    ],
    %% There is nothing to wait for but the time in which it should not happen.
    receive
    after 2500 -> ok
    end,
    [
        begin
            ?assertEqual(Out, length(test_sleeper:mail(Owner))),
            ?assertEqual(Out, length(test_sleeper:values(Owner, Ref))),
            _ = py:stream_demand(Ref, 20),
            ?assertEqual(20, length(test_sleeper:take(Owner, Ref, 20))),
            test_sleeper:stop(Owner)
        end
     || {Owner, Ref, Out} <- Streams
    ],
    ok.

%% A generator that may go on and does not is late, also one that was waited for before.
-spec timeout_of_a_generator_that_is_late(ct_suite:ct_config()) -> ok.
timeout_of_a_generator_that_is_late(Config) ->
    [
        begin
            {ok, Ref} = start_stream(then_wait, [[1, 1, 1]], Opts#{timeout => 500}, Config),
            ?assertEqual({[<<"v">>, <<"v">>, <<"v">>], {error, timeout}}, all_values(Ref))
        end
     || Opts <- [
            #{},
            #{window => 1},
            #{window => 3},
            #{demand => 4},
            #{window_bytes => 1},
            #{batch => 9}
        ]
    ],
    ok.

%% An owner whose mailbox holds ten thousand other messages gets its stream as any other, and
%% a window is still kept.
-spec other_mail(ct_suite:ct_config()) -> ok.
other_mail(Config) ->
    Owner = test_sleeper:start(),
    [Owner ! {other, N} || N <- lists:seq(1, 10000)],
    [
        begin
            {ok, Ref} = start_stream(count, [Count], Opts#{owner => Owner}, Config),
            ?assertEqual({lists:seq(0, Count - 1), done}, test_sleeper:take_all(Owner, Ref))
        end
     || {Count, Opts} <- [{30000, #{}}, {300, #{window => 10}}, {30000, #{batch => 100}}]
    ],
    Label = label(),
    {ok, Slow} = start_stream(numbers, [Label], #{owner => Owner, window => 100}, Config),
    test_eventually:equal(10100, fun() -> length(test_sleeper:mail(Owner)) end),
    stays(fun() -> length(test_sleeper:mail(Owner)) =:= 10100 end),
    ?assertEqual(100, pulled(Label, Config)),
    ?assertEqual([{data, N} || N <- lists:seq(0, 999)], test_sleeper:take(Owner, Slow, 1000)),
    test_sleeper:stop(Owner).

%% An owner that waits for a message of another kind, with its stream's events before it in
%% the mailbox, stops the generator; and is not stopped by it.
-spec an_owner_that_waits_for_something_else(ct_suite:ct_config()) -> ok.
an_owner_that_waits_for_something_else(Config) ->
    Self = self(),
    Label = label(),
    Owner = spawn_link(fun() ->
        receive
            {go, Ref} -> Self ! {self(), all_values(Ref)}
        end
    end),
    Opts = #{owner => Owner, window => 50, take => 5000},
    {ok, Ref} = start_stream(numbers, [Label], Opts, Config),
    test_eventually:equal(50, fun() -> length(test_sleeper:mail(Owner)) end),
    %% Other mail makes it run and search its mailbox, without finding anything.
    [Owner ! {other, N} || N <- lists:seq(1, 100)],
    stays(fun() -> length(test_sleeper:mail(Owner)) =:= 150 end),
    ?assertEqual(50, pulled(Label, Config)),
    Owner ! {go, Ref},
    receive
        {Owner, Events} -> ?assertEqual({lists:seq(0, 4999), done}, Events)
    after ?LONG -> error(stuck)
    end.

%% A count of the mail itself costs the owner reductions, and is no sign that it has run: neither
%% to the stream that wanted it, nor to the others.
-spec an_owner_that_is_asleep_is_counted_once(ct_suite:ct_config()) -> ok.
an_owner_that_is_asleep_is_counted_once(Config) ->
    Streams = 16,
    Owner = test_sleeper:start(),
    Refs = [
        begin
            {ok, Ref} = start_stream(numbers, [label()], #{owner => Owner, window => 100}, Config),
            Ref
        end
     || _ <- lists:seq(1, Streams)
    ],
    %% Nor does the length cost it any.
    Full = fun() -> process_info(Owner, message_queue_len) =:= {message_queue_len, Streams * 100} end,
    test_eventually:true(Full),
    %% Before that a count may be followed by another stream's events, and is made again.
    1 = erlang:trace(whereis(py_mail_counter), true, [procs]),
    Counts = counts_until_none(fun() -> [stays(Full) || _ <- lists:seq(1, 20)] end, 20),
    ?assert(lists:sum(Counts) =< Streams, Counts),
    1 = erlang:trace(whereis(py_mail_counter), false, [procs]),
    %% It is noticed when it wakes up.
    [?assertEqual(500, length(test_sleeper:take(Owner, Ref, 500))) || Ref <- Refs],
    test_sleeper:stop(Owner).

%% A count copies the mailbox, so there is one at a time, however many streams and owners need one.
-spec one_count_at_a_time(ct_suite:ct_config()) -> ok.
one_count_at_a_time(Config) ->
    Filler = lists:seq(1, 500),
    Busy = fun Loop() ->
        receive
            stop -> ok
        after 1 -> Loop()
        end
    end,
    Owners = [spawn_link(Busy), spawn_link(Busy)],
    [Owner ! {other, Filler} || Owner <- Owners, _ <- lists:seq(1, 2000)],
    Counter = whereis(py_mail_counter),
    1 = erlang:trace(Counter, true, [procs, set_on_spawn, monotonic_timestamp]),
    [{ok, _} = start_stream(numbers, [label()], #{owner => O}, Config) || O <- Owners, _ <- lists:seq(1, 8)],
    Counts = lists:sort(ended(10, #{})),
    1 = erlang:trace(Counter, false, [all]),
    lists:foldl(
        fun({Started, Ended}, Before) ->
            ?assert(Started >= Before),
            Ended
        end,
        element(1, hd(Counts)),
        Counts
    ),
    [Owner ! stop || Owner <- Owners],
    flush_trace().

%% An owner that takes one stream's events alone gets them all; the other stream waits in
%% its window, and comes afterwards.
-spec two_streams_of_one_owner(ct_suite:ct_config()) -> ok.
two_streams_of_one_owner(Config) ->
    {ok, Left} = start_stream(count, [5000], #{window => 2000}, Config),
    {ok, Right} = start_stream(count, [20000], #{window => 50}, Config),
    ?assertEqual({lists:seq(0, 19999), done}, all_values(Right)),
    ?assertEqual({lists:seq(0, 4999), done}, all_values(Left)).

%% An owner on a node that knows nothing of this application gets the same events.
-spec owner_on_another_node(ct_suite:ct_config()) -> ok.
owner_on_another_node(Config) ->
    with_node(fun(Node) ->
        ?assertMatch({error, _}, erpc:call(Node, code, ensure_loaded, [py])),
        Owner = test_sleeper:start(Node),
        [
            begin
                {ok, Ref} = start_stream(count, [Count], Opts#{owner => Owner}, Config),
                ?assertEqual({lists:seq(0, Count - 1), done}, test_sleeper:take_all(Owner, Ref))
            end
         || {Count, Opts} <- [
                {0, #{}},
                {20000, #{}},
                {500, #{window => 3}},
                {20000, #{batch => 99}}
            ]
        ],
        {ok, Failing} = start_stream(count, [none], #{owner => Owner}, Config),
        ?assertMatch({[], {error, {'TypeError', _}}}, test_sleeper:take_all(Owner, Failing)),
        %% Not decoded, see py_sink: also the first one.
        Large = [binary:copy(<<N>>, 100000) || N <- [1, 2]],
        {ok, LargeRef} = py:stream_start(builtins, iter, [Large], #{owner => Owner}),
        ?assertEqual({Large, done}, test_sleeper:take_all(Owner, LargeRef)),
        test_sleeper:stop(Owner)
    end).

%% A count on another node sends back numbers, and not the mail.
-spec a_count_sends_no_mail_back(ct_suite:ct_config()) -> ok.
a_count_sends_no_mail_back(Config) ->
    with_node(fun(Node) ->
        Owner = test_sleeper:start(Node),
        [Owner ! {other, N, lists:duplicate(1000, N)} || N <- lists:seq(1, 5000)],
        {Node, Port} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
        Received = fun() ->
            {ok, [{recv_oct, Bytes}]} = inet:getstat(Port, [recv_oct]),
            Bytes
        end,
        Before = Received(),
        {ok, Ref} = start_stream(count, [5000], #{owner => Owner, window => 500}, Config),
        ?assertEqual({lists:seq(0, 4999), done}, test_sleeper:take_all(Owner, Ref)),
        %% All of its mail would be more than five million bytes each time.
        ?assert(Received() - Before < 1000000),
        test_sleeper:stop(Owner)
    end).

%% A window holds for a sleeping owner on another node, and no timeout comes.
-spec sleeping_owner_on_another_node(ct_suite:ct_config()) -> ok.
sleeping_owner_on_another_node(Config) ->
    with_node(fun(Node) ->
        Owner = test_sleeper:start(Node),
        Label = label(),
        Opts = #{owner => Owner, window => 100, timeout => 2000},
        {ok, Ref} = start_stream(numbers, [Label], Opts, Config),
        test_eventually:equal(100, fun() -> length(test_sleeper:mail(Owner)) end),
        stays(fun() -> length(test_sleeper:mail(Owner)) =:= 100 end),
        receive
        after 2500 -> ok
        end,
        ?assertEqual(100, pulled(Label, Config)),
        ?assertEqual(3000, length(test_sleeper:take(Owner, Ref, 3000))),
        test_eventually:true(fun() -> length(test_sleeper:mail(Owner)) >= least(100) end),
        stays(fun() -> length(test_sleeper:mail(Owner)) =< 100 end),
        ok = py:stream_cancel(Ref),
        ?assertMatch({_, {error, cancelled}}, test_sleeper:take_all(Owner, Ref)),
        test_sleeper:stop(Owner)
    end).

%% Other mail starves an owner on another node no more than one on this node.
-spec other_mail_on_another_node(ct_suite:ct_config()) -> ok.
other_mail_on_another_node(Config) ->
    with_node(fun(Node) ->
        Owner = test_sleeper:start(Node),
        [Owner ! {other, N} || N <- lists:seq(1, 5000)],
        {ok, Ref} = start_stream(count, [5000], #{owner => Owner, window => 500}, Config),
        ?assertEqual({lists:seq(0, 4999), done}, test_sleeper:take_all(Owner, Ref)),
        test_sleeper:stop(Owner)
    end).

%% When the owner's node goes down its streams are cancelled.
-spec the_other_node_goes_down(ct_suite:ct_config()) -> ok.
the_other_node_goes_down(Config) ->
    with_node(fun(Node) ->
        Owner = test_sleeper:start(Node),
        {ok, _} = start_stream(numbers, [label()], #{owner => Owner}, Config),
        test_eventually:equal(1024, fun() -> length(test_sleeper:mail(Owner)) end)
    end),
    test_leftovers:none().

%%% Helpers.

%% How many there were in each round. There comes one without any, as there would not if the owner were
%% counted again and again.
counts_until_none(Round, Left) when Left > 0 ->
    _ = Round(),
    case length(spawned()) of
        0 -> [];
        N -> [N | counts_until_none(Round, Left - 1)]
    end.

spawned() ->
    receive
        {trace, _, spawn, Pid, _} -> [Pid | spawned()];
        Event when element(1, Event) =:= trace -> spawned()
    after 0 -> []
    end.

%% When the processes of `N' counts were started, and when they ended.
ended(0, _Started) ->
    [];
ended(N, Started) ->
    receive
        {trace_ts, _, spawn, Pid, _, At} ->
            ended(N, Started#{Pid => At});
        {trace_ts, Pid, exit, _, At} ->
            {Began, Rest} = maps:take(Pid, Started),
            [{Began, At} | ended(N - 1, Rest)];
        Event when element(1, Event) =:= trace_ts ->
            ended(N, Started)
    after ?LONG -> error({no_counts, N})
    end.

flush_trace() ->
    receive
        Event when element(1, Event) =:= trace_ts -> flush_trace()
    after 0 -> ok
    end.

with_node(Fun) ->
    {Peer, Node} = test_other_node:start([]),
    try
        Fun(Node)
    after
        peer:stop(Peer)
    end.
