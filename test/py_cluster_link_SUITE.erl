%% @doc Nothing on the link between nodes but what must be, and what is slow, thin or cut holds up nothing else.
-module(py_cluster_link_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    a_sleeping_owner_costs_nothing/1,
    the_window_grows/1,
    a_fixed_window/1,
    a_cable_is_out/1,
    a_call_does_not_wait_for_a_cable/1,
    large_values_on_a_thin_way/1
]).

-import(test_two_nodes, [b/1, ended/2]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        a_sleeping_owner_costs_nothing,
        the_window_grows,
        a_fixed_window,
        a_cable_is_out,
        a_call_does_not_wait_for_a_cable,
        large_values_on_a_thin_way
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

%%% Helpers.

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

%% How many values of a stream come until the reader has all of its own.
beside(Ref, Reader, N) ->
    receive
        {Reader, Sizes} -> {N, Sizes}
    after 0 ->
        {ok, N} = py:stream_next(Ref, ?LONG),
        beside(Ref, Reader, N + 1)
    end.
