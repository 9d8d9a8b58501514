%% @doc Channels: values that Erlang processes feed into a Python iterator.
-module(py_channel_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    all_values_arrive_in_order/1,
    what_was_sent_before_it_was_read_arrives/1,
    a_pipe_is_held_back_by_its_owner/1,
    a_reader_that_ends_is_seen/1,
    a_reader_that_waits_can_be_cancelled/1,
    the_end_of_its_owner_is_seen/1,
    there_is_one_end_whatever_dies/1,
    it_is_fast/1,
    the_window_holds/1,
    the_window_in_bytes_holds/1,
    what_is_sent_fast_travels_together/1,
    a_sender_waits_for_room/1,
    a_sender_may_give_up/1,
    python_closes_it/1,
    a_worker_that_is_killed_is_seen/1,
    a_channel_that_is_killed_is_seen/1,
    the_owner_is_notified_once_if_it_asks/1,
    nothing_is_accepted_once_the_end_is_known/1,
    one_worker_reads/1,
    readers_share_the_values/1,
    many_senders/1,
    values_arrive_as_the_options_say/1,
    a_value_that_cannot_be_read_costs_its_frame/1,
    it_arrives_anywhere_as_one_object/1,
    it_comes_back/1,
    the_loop_is_not_held_up/1,
    lines_become_rows/1,
    a_channel_of_another_node/1,
    a_wrong_option_is_refused/1
]).
%% For another node.
-export([watched/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom() | {group, atom()}].
all() ->
    [
        {group, sync},
        {group, async},
        the_window_holds,
        the_window_in_bytes_holds,
        what_is_sent_fast_travels_together,
        a_sender_waits_for_room,
        a_sender_may_give_up,
        python_closes_it,
        a_worker_that_is_killed_is_seen,
        a_channel_that_is_killed_is_seen,
        the_owner_is_notified_once_if_it_asks,
        nothing_is_accepted_once_the_end_is_known,
        one_worker_reads,
        readers_share_the_values,
        many_senders,
        values_arrive_as_the_options_say,
        a_value_that_cannot_be_read_costs_its_frame,
        it_arrives_anywhere_as_one_object,
        it_comes_back,
        the_loop_is_not_held_up,
        lines_become_rows,
        a_channel_of_another_node,
        a_wrong_option_is_refused
    ].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        all_values_arrive_in_order,
        what_was_sent_before_it_was_read_arrives,
        a_pipe_is_held_back_by_its_owner,
        a_reader_that_ends_is_seen,
        a_reader_that_waits_can_be_cancelled,
        the_end_of_its_owner_is_seen,
        there_is_one_end_whatever_dies,
        it_is_fast
    ],
    [{sync, [], Cases}, {async, [], Cases}].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Pool, other => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_group(sync | async, ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(Group, Config) ->
    [{twin, Group} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

%% Each case ends with no channel left, and nothing in its mailbox.
-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_eventually:equal([], fun channels/0).

%%% Of both sorts of reader.

%% More than a window of them, and then the end.
-spec all_values_arrive_in_order(ct_suite:ct_config()) -> ok.
all_values_arrive_in_order(Config) ->
    [
        begin
            {ok, In} = py:channel(#{window => Window}),
            {ok, Ref} = py:stream_start(readers, name(doubled, Config), [In]),
            feed(In, lists:seq(1, 3000)),
            ?assertEqual({ok, lists:seq(6000, 2, -2)}, all(Ref)),
            ?assertEqual({error, closed}, py:channel_send(In, 1)),
            ok = py:channel_close(In)
        end
     || Window <- [1, 2, 5, 1024, 5000]
    ],
    ok.

%% Up to a window of them, also when it was closed by then.
-spec what_was_sent_before_it_was_read_arrives(ct_suite:ct_config()) -> ok.
what_was_sent_before_it_was_read_arrives(Config) ->
    {ok, In} = py:channel(),
    [ok = py:channel_send(In, N) || N <- lists:seq(1, 1000)],
    ok = py:channel_close(In),
    ?assertEqual({error, closed}, py:channel_send(In, 1)),
    ?assertEqual({ok, 500500}, py:call(readers, name(total, Config), [In])),
    {ok, Empty} = py:channel(),
    ok = py:channel_close(Empty),
    ?assertEqual({ok, 0}, py:call(readers, name(total, Config), [Empty])).

%% Flow control goes through: an owner that takes nothing holds up whoever feeds the generator.
-spec a_pipe_is_held_back_by_its_owner(ct_suite:ct_config()) -> ok.
a_pipe_is_held_back_by_its_owner(Config) ->
    {ok, In} = py:channel(#{window => 8}),
    {ok, Ref} = py:stream_start(readers, name(doubled, Config), [In], #{window => 8}),
    Sent = send_numbers(In),
    %% Two windows, and the value that the generator has in hand.
    held_up(In, Sent, 16, 8 + 8 + 1),
    [?assertEqual({ok, 2 * N}, py:stream_next(Ref)) || N <- lists:seq(0, 7)],
    held_up(In, Sent, 16 + 8 - 2, 8 + 8 + 1 + 8),
    ok = py:channel_close(In),
    {ok, Rest} = all(Ref),
    ?assertEqual(lists:seq(16, 2 * counters:get(Sent, 1) - 2, 2), lists:reverse(Rest)).

%% One that leaves values unread: whoever sends gets to know, also while it waits.
-spec a_reader_that_ends_is_seen(ct_suite:ct_config()) -> ok.
a_reader_that_ends_is_seen(Config) ->
    {ok, In} = py:channel(#{window => 4}),
    {Sender, Monitor} = spawn_monitor(fun() -> exit({ended, send_until_closed(In, 0)}) end),
    ?assertEqual({ok, [0, 1, 2]}, py:call(readers, name(first, Config), [In, 3])),
    receive
        {'DOWN', Monitor, process, Sender, {ended, Count}} -> ?assert(Count =< 3 + 4, Count)
    end,
    ?assertEqual({error, closed}, py:channel_send(In, 1)).

%% Cancelled while there is nothing to read, its channel is closed.
-spec a_reader_that_waits_can_be_cancelled(ct_suite:ct_config()) -> ok.
a_reader_that_waits_can_be_cancelled(Config) ->
    {ok, In} = py:channel(),
    {ok, Ref} = py:stream_start(readers, name(doubled, Config), [In]),
    ok = py:channel_send(In, 1),
    {ok, 2} = py:stream_next(Ref),
    ok = py:stream_cancel(Ref, [flush]),
    closes(In),
    {ok, Other} = py:channel(),
    Caller = spawn(fun() -> py:call(readers, name(total, Config), [Other], #{}, infinity) end),
    test_eventually:equal(true, fun() -> [] =/= readers(Other) end),
    exit(Caller, kill),
    closes(Other).

%% A normal end is the end of the values; any other is an error, once.
-spec the_end_of_its_owner_is_seen(ct_suite:ct_config()) -> ok.
the_end_of_its_owner_is_seen(Config) ->
    Why = fun(Reason) ->
        Test = self(),
        Owner = spawn(fun() ->
            {ok, In} = py:channel(),
            Test ! {channel, In},
            ok = py:channel_send(In, 1),
            receive end_now -> exit(Reason) end
        end),
        receive {channel, Of} -> ok end,
        Ref = py:spawn_call(readers, name(why, Config), [Of]),
        test_eventually:equal(true, fun() -> [] =/= readers(Of) end),
        Owner ! end_now,
        Result = py:await(Ref),
        ?assertEqual({error, closed}, py:channel_send(Of, 1)),
        Result
    end,
    ?assertEqual({ok, {'end', 1}}, Why(normal)),
    Text = <<"the channel has ended before it was closed: {oh,[1]}">>,
    ?assertEqual({ok, {exit, <<"{oh,[1]}">>, Text, []}}, Why({oh, [1]})),
    ?assertMatch({ok, {exit, <<"shutdown">>, _, []}}, Why(shutdown)).

%% Amid values, after more and more of them, as far as these come: Python code, all that send and the owner see one end each.
-spec there_is_one_end_whatever_dies(ct_suite:ct_config()) -> ok.
there_is_one_end_whatever_dies(Config) ->
    [
        one_end(Victim, Count, name(why_after, Config))
     || Victim <- [owner, worker, channel, guard, sender], Count <- [0, 1, 2, 7, 40, 300]
    ],
    ok.

one_end(Victim, Count, Reader) ->
    Test = self(),
    Owner = spawn(fun() ->
        {ok, In} = py:channel(#{window => 8, notify => true}),
        Test ! {channel, In},
        (fun Forward() -> receive Message -> Test ! {owner_has, Message}, Forward() end end)()
    end),
    In = {py_channel, {Pid, _}} = receive {channel, Of} -> Of end,
    Senders = [Sender | _] = [element(1, spawn_monitor(fun() -> exit({ended, send_until_closed(In, 0)}) end)) || _ <- [1, 2]],
    Ref = py:spawn_call(readers, Reader, [In, Count, self()], #{}, #{pool => other}),
    receive reached -> ok end,
    test_eventually:equal(true, fun() -> [] =/= guards(Pid) end),
    case Victim of
        owner -> exit(Owner, oh);
        worker -> [ok = test_workers:kill(Worker) || Worker <- test_workers:ready(other)];
        channel -> exit(Pid, kill);
        guard -> exit(hd(guards(Pid)), kill);
        sender -> exit(Sender, kill), ok = py:channel_close(In)
    end,
    case py:await(Ref) of
        {ok, {exit, Why, _, []}} -> ?assertEqual(Why, maps:get(Victim, #{owner => <<"oh">>, channel => <<"killed">>, guard => <<"killed">>}));
        {ok, {'end', _}} -> ?assertEqual(sender, Victim);
        {error, {worker_exit, _}} -> ?assertEqual(worker, Victim)
    end,
    Ends = [receive {'DOWN', _, process, Process, End} -> {Process, End} end || Process <- Senders],
    [?assertMatch({ended, _}, End) || {Process, End} <- Ends, {Process, Victim} =/= {Sender, sender}],
    ?assertEqual({error, closed}, py:channel_send(In, 1)),
    test_eventually:equal(false, fun() -> is_process_alive(Pid) end),
    %% Whatever the owner got, it got before this.
    Owner ! last,
    Expected = maps:get(Victim, #{worker => [{py_channel, In, closed}, last], guard => [{py_channel, In, closed}, last], owner => []}, [last]),
    ?assertEqual(Expected, owner_has(Expected)),
    exit(Owner, kill),
    ?assertEqual({messages, []}, process_info(self(), messages)),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, #{pool => other}) end).

owner_has([]) ->
    receive {owner_has, Message} -> [Message] after 0 -> [] end;
owner_has(_) ->
    receive
        {owner_has, last} -> [last];
        {owner_has, Message} -> [Message | owner_has([last])]
    end.

%% Small integers, in one call.
-spec it_is_fast(ct_suite:ct_config()) -> {comment, string()}.
it_is_fast(Config) ->
    Numbers = lists:seq(1, 200000),
    {ok, In} = py:channel(),
    Ref = py:spawn_call(readers, name(total, Config), [In]),
    {Micros, {ok, 20000100000}} = timer:tc(fun() ->
        feed(In, Numbers),
        py:await(Ref)
    end),
    {comment, io_lib:format("~b values a second", [200000 * 1000000 div Micros])}.

%%% The window.

%% As many values as it says, and as many more as were taken; credit is for frames, which have a quarter
%% of the window at most.
-spec the_window_holds(ct_suite:ct_config()) -> ok.
the_window_holds(_Config) ->
    [
        begin
            {ok, In} = py:channel(#{window => Window}),
            Sent = send_numbers(In),
            held_up(In, Sent, Window, Window),
            {ok, Ref} = py:stream_start(readers, doubled, [In], #{demand => 0}),
            [
                begin
                    ok = py:stream_demand(Ref, 1),
                    ?assertEqual({ok, 2 * Taken - 2}, py:stream_next(Ref)),
                    held_up(In, Sent, Window + Taken - Window div 4, Window + Taken)
                end
             || Taken <- lists:seq(1, 5)
            ],
            ok = py:stream_cancel(Ref, [flush])
        end
     || Window <- [1, 3, 4, 9]
    ],
    ok.

%% As many bytes as the window has; but one value passes always, when nothing is under way.
-spec the_window_in_bytes_holds(ct_suite:ct_config()) -> ok.
the_window_in_bytes_holds(_Config) ->
    [Half, Large] = [binary:copy(<<"x">>, Size) || Size <- [500, 5000]],
    {ok, In} = py:channel(#{window_bytes => 1024}),
    [ok = py:channel_send(In, Half, 0) || _ <- [1, 2]],
    ?assertEqual({error, timeout}, py:channel_send(In, Half, 20)),
    Ref = py:spawn_call(readers, lengths, [In]),
    [ok = py:channel_send(In, Value) || Value <- [Large, Half, Large, 1]],
    ok = py:channel_close(In),
    ?assertEqual({ok, [500, 500, 5000, 500, 5000, 1]}, py:await(Ref)).

%% In frames of a quarter of the window, but for the first two: those leave at once.
-spec what_is_sent_fast_travels_together(ct_suite:ct_config()) -> ok.
what_is_sent_fast_travels_together(_Config) ->
    {ok, In = {py_channel, {Pid, _}}} = py:channel(#{window => 100}),
    1 = erlang:trace(Pid, true, [call]),
    1 = erlang:trace_pattern({py_frame, channel_values, 5}, true, []),
    [ok = py:channel_send(In, N) || N <- lists:seq(1, 100)],
    {ok, Ref} = py:stream_start(readers, doubled, [In]),
    [?assertEqual({ok, 2 * N}, py:stream_next(Ref)) || N <- lists:seq(1, 100)],
    ok = py:channel_send(In, 101),
    ?assertEqual({ok, 202}, py:stream_next(Ref)),
    _ = erlang:trace_pattern({py_frame, channel_values, 5}, false, []),
    Delivered = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Delivered} -> ok end,
    Counts = frames(Pid),
    ?assertEqual(101, lists:sum(Counts)),
    ?assert(lists:max(Counts) =< 25, Counts),
    %% Two at first, what fills up, a last one that is not full, and the one that came alone.
    ?assert(length(Counts) =< 2 + 4 + 1 + 1, Counts),
    ?assertEqual(1, lists:last(Counts)),
    ok = py:channel_close(In),
    done = py:stream_next(Ref),
    ok.

frames(Pid) ->
    receive
        {trace, Pid, call, {py_frame, channel_values, [_, _, Count | _]}} -> [Count | frames(Pid)]
    after 0 -> []
    end.

%% It returns when the value fits, not before.
-spec a_sender_waits_for_room(ct_suite:ct_config()) -> ok.
a_sender_waits_for_room(_Config) ->
    {ok, In} = py:channel(#{window => 2}),
    Test = self(),
    _ = spawn_link(fun() ->
        [begin ok = py:channel_send(In, N), Test ! {sent, N} end || N <- [1, 2, 3]],
        py:channel_close(In)
    end),
    receive {sent, 1} -> ok end,
    receive {sent, 2} -> ok end,
    test_eventually:equal(true, fun() -> [] =/= waiting(In) end),
    receive {sent, 3} -> error(no_room) after 0 -> ok end,
    ?assertEqual({ok, 6}, py:call(readers, total, [In])),
    receive {sent, 3} -> ok end.

%% What it gave up was not sent.
-spec a_sender_may_give_up(ct_suite:ct_config()) -> ok.
a_sender_may_give_up(_Config) ->
    {ok, In} = py:channel(#{window => 1}),
    ok = py:channel_send(In, 1, 0),
    ?assertEqual({error, timeout}, py:channel_send(In, 10, 0)),
    ?assertEqual({error, timeout}, py:channel_send(In, 100, 20)),
    ok = py:channel_close(In),
    ?assertEqual({error, closed}, py:channel_send(In, 1000, 0)),
    ?assertEqual({ok, 1}, py:call(readers, total, [In])),
    ?assertError({badopt, {timeout, soon}}, py:channel_send(In, 1, soon)).

%%% Ends.

%% Of itself, by an error, or as the end of a `with'.
-spec python_closes_it(ct_suite:ct_config()) -> ok.
python_closes_it(_Config) ->
    [
        begin
            {ok, In} = py:channel(),
            ok = py:channel_send(In, 1),
            ?assertEqual(Result, py:call(readers, Function, [In])),
            closes(In)
        end
     || {Function, Result} <- [
            {fail, {error, {'ValueError', <<"no more">>}}},
            {close, {ok, [[], <<"<erlang.Channel <erlang.">>]}},
            {within, {ok, {1, [], []}}},
            {no_such_function, {error, {'AttributeError', <<"module 'readers' has no attribute 'no_such_function'">>}}}
        ]
    ],
    ok.

%% Whoever sends gets to know, also while it waits.
-spec a_worker_that_is_killed_is_seen(ct_suite:ct_config()) -> ok.
a_worker_that_is_killed_is_seen(_Config) ->
    {ok, In} = py:channel(#{window => 3}),
    Ref = start_keep(In, other),
    Test = self(),
    _ = spawn_link(fun() -> Test ! {sent, send_until_closed(In, 0)} end),
    test_eventually:equal(true, fun() -> [] =/= waiting(In) end),
    [ok = test_workers:kill(Worker) || Worker <- test_workers:ready(other)],
    receive {sent, Count} -> ?assertEqual(3, Count) end,
    ?assertEqual({error, closed}, py:channel_send(In, 1)),
    ?assertMatch({error, {worker_exit, _}}, py:await(Ref)),
    release_all(),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, #{pool => other}) end).

%% The process between both: an error on either side.
-spec a_channel_that_is_killed_is_seen(ct_suite:ct_config()) -> ok.
a_channel_that_is_killed_is_seen(_Config) ->
    [
        begin
            {ok, In = {py_channel, {Pid, _}}} = py:channel(#{window => 2}),
            Ref = py:spawn_call(readers, Function, [In]),
            test_eventually:equal(true, fun() -> [] =/= readers(In) end),
            exit(Pid, kill),
            ?assertMatch({ok, {exit, <<"killed">>, _, []}}, py:await(Ref)),
            ?assert(send_until_closed(In, 0) =< 2),
            %% Nobody is left to say what became of it.
            ?assertMatch({ok, {exit, <<"noproc">>, _, []}}, py:call(readers, Function, [In]))
        end
     || Function <- [why, why_async]
    ],
    ok.

%% A message for owners that do not send at the moment.
-spec the_owner_is_notified_once_if_it_asks(ct_suite:ct_config()) -> ok.
the_owner_is_notified_once_if_it_asks(_Config) ->
    {ok, In} = py:channel(#{notify => true}),
    {ok, _} = py:call(readers, close, [In]),
    receive {py_channel, In, closed} -> ok end,
    {ok, Own} = py:channel(#{notify => true}),
    ok = py:channel_close(Own),
    {ok, 0} = py:call(readers, total, [Own]),
    {ok, Killed} = py:channel(#{notify => true}),
    Ref = start_keep(Killed, other),
    [ok = test_workers:kill(Worker) || Worker <- test_workers:ready(other)],
    receive {py_channel, Killed, closed} -> ok end,
    {error, {worker_exit, _}} = py:await(Ref),
    release_all(),
    test_eventually:equal([], fun channels/0),
    ?assertEqual({messages, []}, process_info(self(), messages)),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, #{pool => other}) end).

%% Whichever way it ends: the counters of its window are closed before the reader, or the owner, hears of it.
-spec nothing_is_accepted_once_the_end_is_known(ct_suite:ct_config()) -> ok.
nothing_is_accepted_once_the_end_is_known(_Config) ->
    {ok, Closed} = py:channel(#{notify => true}),
    ?assertEqual([shut, owner], steps(Closed, fun() -> {ok, _} = py:call(readers, close, [Closed]) end)),
    receive {py_channel, Closed, closed} -> ok end,
    Test = self(),
    Owner = spawn(fun() ->
        {ok, In} = py:channel(),
        Test ! {channel, In},
        receive end_now -> ok end
    end),
    receive {channel, Owned} -> ok end,
    Ref = py:spawn_call(readers, total, [Owned]),
    test_eventually:equal(true, fun() -> [] =/= readers(Owned) end),
    ?assertEqual([shut, reader], steps(Owned, fun() -> Owner ! end_now end)),
    ?assertEqual({ok, 0}, py:await(Ref)).

%% In which order a channel's process closes its counters and reports its end.
steps({py_channel, {Pid, Available}} = In, End) ->
    _ = erlang:trace_pattern({atomics, put, 3}, true, []),
    _ = erlang:trace_pattern({py_frame, channel_end, 2}, true, []),
    1 = erlang:trace(Pid, true, [call, send]),
    Monitor = monitor(process, Pid),
    End(),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end,
    Delivered = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Delivered} -> ok end,
    Step = fun
        ({trace, P, call, {atomics, put, [A, 1, _]}}) when P =:= Pid, A =:= Available -> {true, shut};
        ({trace, P, call, {py_frame, channel_end, _}}) when P =:= Pid -> {true, reader};
        ({trace, P, send, {py_channel, C, closed}, _}) when P =:= Pid, C =:= In -> {true, owner};
        (_) -> false
    end,
    lists:filtermap(Step, traced(Pid)).

traced(Pid) ->
    receive
        Trace when element(1, Trace) =:= trace, element(2, Trace) =:= Pid -> [Trace | traced(Pid)]
    after 0 -> []
    end.

%% Another one is refused by name, and the first reads on.
-spec one_worker_reads(ct_suite:ct_config()) -> ok.
one_worker_reads(_Config) ->
    {ok, In} = py:channel(),
    Ref = py:spawn_call(readers, total, [In]),
    test_eventually:equal(true, fun() -> [] =/= readers(In) end),
    {ok, {exit, <<"already_read_elsewhere">>, _, []}} = py:call(readers, why, [In], #{}, #{pool => other}),
    feed(In, [1, 2]),
    ?assertEqual({ok, 3}, py:await(Ref)).

%% Threads, or tasks, of one worker: each value goes to one of them.
-spec readers_share_the_values(ct_suite:ct_config()) -> ok.
readers_share_the_values(_Config) ->
    [
        begin
            {ok, In} = py:channel(#{window => 7}),
            Ref = py:spawn_call(readers, Function, [In]),
            feed(In, lists:seq(1, 2000)),
            ?assertEqual({ok, lists:seq(1, 2000)}, py:await(Ref))
        end
     || Function <- [read_side_by_side, read_in_tasks]
    ],
    ok.

%% From many processes, of each in its order, none lost, and no more under way than the window.
-spec many_senders(ct_suite:ct_config()) -> ok.
many_senders(_Config) ->
    {ok, In} = py:channel(#{window => 10}),
    {ok, Ref} = py:stream_start(readers, back, [In]),
    Senders = [
        spawn_monitor(fun() -> [ok = py:channel_send(In, {Sender, N}) || N <- lists:seq(1, 300)] end)
     || Sender <- lists:seq(1, 20)
    ],
    Got = [begin {ok, Value} = py:stream_next(Ref), Value end || _ <- lists:seq(1, 20 * 300)],
    [receive {'DOWN', Monitor, process, Pid, Why} -> normal = Why end || {Pid, Monitor} <- Senders],
    ok = py:channel_close(In),
    done = py:stream_next(Ref),
    [?assertEqual(lists:seq(1, 300), [N || {Of, N} <- Got, Of =:= Sender]) || Sender <- lists:seq(1, 20)],
    ok.

%%% Values.

-spec values_arrive_as_the_options_say(ct_suite:ct_config()) -> ok.
values_arrive_as_the_options_say(_Config) ->
    Types = fun(Opts) ->
        {ok, In} = py:channel(Opts),
        [ok = py:channel_send(In, Value) || Value <- [<<"a">>, ok, {1, #{b => <<"c">>}}, none, 1.5, [1, 2]]],
        ok = py:channel_close(In),
        {ok, Found} = py:call(readers, types, [In]),
        [Type || {Type, _} <- Found]
    end,
    ?assertEqual([<<"str">>, <<"Atom">>, <<"tuple">>, <<"NoneType">>, <<"float">>, <<"list">>], Types(#{})),
    ?assertEqual(
        [<<"bytes">>, <<"str">>, <<"tuple">>, <<"NoneType">>, <<"float">>, <<"list">>],
        Types([{binaries, bytes}, {atoms, str}])
    ).

%% The reader gets the error in its place, and may go on.
-spec a_value_that_cannot_be_read_costs_its_frame(ct_suite:ct_config()) -> ok.
a_value_that_cannot_be_read_costs_its_frame(_Config) ->
    {ok, In} = py:channel(#{window => 1}),
    Ref = py:spawn_call(readers, errors, [In]),
    feed(In, [1, <<255>>, {bytes, <<"x">>}, 3]),
    ?assertEqual({ok, [1, <<"error">>, <<"x">>, 3]}, py:await(Ref)).

%% At any depth, and the same one wherever it is.
-spec it_arrives_anywhere_as_one_object(ct_suite:ct_config()) -> ok.
it_arrives_anywhere_as_one_object(_Config) ->
    {ok, In} = py:channel(),
    ?assertEqual({ok, {true, true}}, py:call(readers, same, [In, {In, 1}], #{named => #{<<"deep">> => In}})),
    closes(In),
    {ok, Local} = py:channel(),
    ok = py:channel_send(Local, 4),
    ?assertEqual({ok, 5}, py:eval("next(values) + 1", #{values => Local})),
    closes(Local),
    {ok, Nested} = py:channel(),
    {ok, Outer} = py:channel(),
    feed(Nested, [1, 2]),
    feed(Outer, [Nested]),
    ?assertEqual({ok, 3}, py:eval("sum(next(outer))", #{outer => Outer})).

%% What Python gives back can be sent into; a pair that only looks like one is a pair.
-spec it_comes_back(ct_suite:ct_config()) -> ok.
it_comes_back(_Config) ->
    {ok, In} = py:channel(),
    ok = py:exec("kept = []"),
    {ok, none} = py:eval("kept.append(values)", #{values => In}),
    {ok, {py_channel, _} = Same} = py:eval("kept[0]"),
    ok = py:channel_send(Same, 5),
    ok = py:channel_close(Same),
    ?assertEqual({ok, [5]}, py:eval("list(kept.pop())")),
    [?assertEqual({ok, Pair}, py:call(readers, back, [Pair])) || Pair <- [{py_channel, 1}, {py_channel, {1, 2}}, {channel, {self(), 1}}]],
    ok.

%% On the event loop, which must not wait, the error says what to use.
-spec the_loop_is_not_held_up(ct_suite:ct_config()) -> ok.
the_loop_is_not_held_up(_Config) ->
    {ok, In} = py:channel(),
    {error, {'RuntimeError', Message}} = py:call(readers, on_the_loop, [In]),
    ?assertMatch({match, _}, re:run(Message, "async for")),
    closes(In).

%% A library that reads from an iterator reads what Erlang has.
-spec lines_become_rows(ct_suite:ct_config()) -> ok.
lines_become_rows(_Config) ->
    {ok, In} = py:channel(),
    {ok, Ref} = py:stream_start(readers, rows, [In]),
    feed(In, [<<"name,size">>, <<"a,1">>, <<"b,2">>]),
    ?assertEqual(
        {ok, [#{<<"name">> => <<"b">>, <<"size">> => <<"2">>}, #{<<"name">> => <<"a">>, <<"size">> => <<"1">>}]},
        all(Ref)
    ).

%% Values, flow control, the end and a failure pass between nodes.
-spec a_channel_of_another_node(ct_suite:ct_config()) -> ok | {skip, string()}.
a_channel_of_another_node(_Config) ->
    case test_other_node:distribution() of
        ok ->
            Paths = [filename:dirname(code:which(Module)) || Module <- [py, ?MODULE]],
            {Peer, Node} = test_other_node:start(Paths),
            try
                between_nodes(Peer, Node)
            after
                %% It may have stopped it itself.
                try peer:stop(Peer) catch _:_ -> ok end
            end;
        Skip ->
            Skip
    end.

between_nodes(Peer, Node) ->
    Test = self(),
    Feed = fun(Numbers, Reason) ->
        {ok, In} = py:channel(#{window => 5}),
        Test ! {channel, In},
        [ok = py:channel_send(In, N) || N <- Numbers],
        Reason =:= never andalso timer:sleep(infinity),
        exit(Reason)
    end,
    _ = spawn(Node, fun() -> Feed(lists:seq(1, 1000), normal) end),
    receive {channel, In} -> ok end,
    ?assertEqual({ok, {'end', 1000}}, py:call(readers, why, [In])),
    _ = spawn(Node, fun() -> Feed(lists:seq(1, 10), oh) end),
    receive {channel, Failing} -> ok end,
    ?assertMatch({ok, {exit, <<"oh">>, _, []}}, py:call(readers, why, [Failing])),
    %% One of this node is fed from there.
    {ok, Here} = py:channel(#{window => 3}),
    _ = spawn(Node, fun() ->
        [ok = py:channel_send(Here, N) || N <- lists:seq(1, 100)],
        py:channel_close(Here)
    end),
    ?assertEqual({ok, 5050}, py:call(readers, total, [Here])),
    %% Closed there, it takes no more here, although nobody has read yet.
    {ok, Unread} = py:channel(),
    ok = erpc:call(Node, py, channel_close, [Unread]),
    {py_channel, {Process, _}} = Unread,
    _ = sys:get_state(Process),
    ?assertEqual({error, closed}, py:channel_send(Unread, 1)),
    ?assertEqual({ok, 0}, py:call(readers, total, [Unread])),
    %% The node is gone.
    _ = spawn(Node, fun() -> Feed([1], never) end),
    receive {channel, Lost} -> ok end,
    Ref = py:spawn_call(readers, why, [Lost]),
    test_eventually:equal(true, fun() -> [] =/= erpc:call(Node, ?MODULE, watched, [Lost]) end),
    ok = peer:stop(Peer),
    ?assertMatch({ok, {exit, <<"noconnection">>, _, []}}, py:await(Ref)).

-spec a_wrong_option_is_refused(ct_suite:ct_config()) -> ok.
a_wrong_option_is_refused(_Config) ->
    ?assertError({badopt, {window, 0}}, py:channel(#{window => 0})),
    ?assertError({badopt, {pool, default}}, py:channel(#{pool => default})).

%%% What the cases share.

name(Function, Config) ->
    case ?config(twin, Config) of
        sync -> Function;
        async -> list_to_atom(lists:concat([Function, "_async"]))
    end.

feed(In, Values) ->
    _ = spawn_link(fun() ->
        [ok = py:channel_send(In, Value) || Value <- Values],
        ok = py:channel_close(In)
    end),
    ok.

all(Ref) ->
    py:stream_fold(fun(Value, Acc) -> {cont, [Value | Acc]} end, [], Ref).

%% Sends the numbers from 0 on until the channel is closed; counts those that were accepted.
send_numbers(In) ->
    Sent = counters:new(1, []),
    _ = spawn_link(fun() -> send_numbers(In, Sent) end),
    Sent.

send_numbers(In, Sent) ->
    case py:channel_send(In, counters:get(Sent, 1)) of
        ok ->
            counters:add(Sent, 1, 1),
            send_numbers(In, Sent);
        {error, closed} ->
            ok
    end.

%% The sender waits, and this number of values was accepted by then.
held_up(In, Sent, AtLeast, AtMost) ->
    test_eventually:equal(true, fun() -> counters:get(Sent, 1) >= AtLeast andalso [] =/= waiting(In) end),
    ?assert(counters:get(Sent, 1) =< AtMost, {counters:get(Sent, 1), AtMost}).

send_until_closed(In, N) ->
    case py:channel_send(In, N) of
        ok -> send_until_closed(In, N + 1);
        {error, closed} -> N
    end.

closes(In) ->
    test_eventually:equal({error, closed}, fun() -> py:channel_send(In, 1) end).

start_keep(In, Pool) ->
    ok = gate(),
    Ref = py:spawn_call(readers, keep, [In, self()], #{}, #{pool => Pool, timeout => infinity}),
    receive kept -> Ref end.

%% Calls of channel_may_go_on wait for the end of the case.
gate() ->
    ok = py:register_function(channel_may_go_on, fun([]) -> receive after infinity -> ok end end).

release_all() ->
    ok = py:unregister_function(channel_may_go_on).

%%% From the processes of channels.

%% With those that watch them for a worker.
channels() ->
    [Pid || Pid <- processes(), is_of_channel(Pid)].

is_of_channel(Pid) ->
    proc_lib:translate_initial_call(Pid) =:= {py_channel, enter, 1}.

%% The workers that a channel watches.
readers({py_channel, {Pid, _}}) ->
    {monitors, Monitors} = process_info(Pid, monitors),
    Workers = test_workers:ready(default) ++ test_workers:ready(other),
    [Worker || {process, Worker} <- Monitors, lists:member(Worker, Workers)].

%% The process that watches a channel for its reader's worker, once both know each other.
guards(Pid) ->
    {monitors, Monitors} = process_info(Pid, monitors),
    [Guard || {process, Guard} <- Monitors, is_of_channel(Guard)].

%% The processes of other nodes that a channel watches.
-spec watched(py_channel:channel()) -> [pid()].
watched({py_channel, {Pid, _}}) ->
    {monitors, Monitors} = process_info(Pid, monitors),
    [Other || {process, Other} <- Monitors, node(Other) =/= node()].

%% The processes that watch it since they wait for it.
waiting({py_channel, {Pid, _}}) ->
    {monitored_by, Watchers} = process_info(Pid, monitored_by),
    [Watcher || Watcher <- Watchers, is_pid(Watcher), {current_function, {py_channel, ask, 4}} =:= process_info(Watcher, current_function)].
