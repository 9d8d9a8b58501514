%% @doc Python code that uses the node: messages, calls of registered functions, and what it
%% may know of the stream or the call that it runs for.
-module(py_callback_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([times/1]).
-export([
    send/1,
    send_to_every_kind_of_address/1,
    send_to_nobody/1,
    send_what_is_no_message/1,
    send_to_another_node/1,
    messages_come_in_order/1,
    messages_come_before_the_reply/1,
    messages_of_tasks_and_threads/1,
    messages_of_any_size/1,
    a_flood_waits_for_the_node/1,
    a_flood_on_the_loop_is_refused/1,
    a_stream_may_send/1,
    finalizers_may_send/1,
    call/1,
    call_from_everywhere/1,
    call_what_is_not_registered/1,
    functions_that_fail/1,
    functions_that_are_killed/1,
    functions_that_take_too_long/1,
    an_interrupt_ends_the_wait/1,
    many_calls_at_once/1,
    calls_are_bounded_in_number/1,
    to_and_fro/1,
    to_and_fro_past_every_bound/1,
    preloaded_code_may_call/1,
    whereis/1,
    about_streams/1,
    a_forked_child_has_no_node/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        send,
        send_to_every_kind_of_address,
        send_to_nobody,
        send_what_is_no_message,
        send_to_another_node,
        messages_come_in_order,
        messages_come_before_the_reply,
        messages_of_tasks_and_threads,
        messages_of_any_size,
        a_flood_waits_for_the_node,
        a_flood_on_the_loop_is_refused,
        a_stream_may_send,
        finalizers_may_send,
        call,
        call_from_everywhere,
        call_what_is_not_registered,
        functions_that_fail,
        functions_that_are_killed,
        functions_that_take_too_long,
        an_interrupt_ends_the_wait,
        many_calls_at_once,
        calls_are_bounded_in_number,
        to_and_fro,
        to_and_fro_past_every_bound,
        preloaded_code_may_call,
        whereis,
        about_streams,
        a_forked_child_has_no_node
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Own = #{python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Own#{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:register_function(plus, fun([A, B]) -> A + B end),
    {ok, 3} = py:call(caller, imported, []),
    [{own, Own} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, max_callbacks),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    try
        [ok = py:unregister_function(Name) || Name <- py:functions(), Name =/= <<"plus">>],
        test_leftovers:none(),
        ?assertEqual({message_queue_len, 0}, process_info(self(), message_queue_len)),
        ok
    catch
        error:Reason -> {fail, Reason}
    end.

%%% Messages.

%% What Python code sends is a message.
-spec send(ct_suite:ct_config()) -> ok.
send(_Config) ->
    {ok, <<"sent">>} = py:call(caller, send, [self(), 1, <<"two">>, [3.0], #{4 => {five}}]),
    [?assertEqual(Term, next()) || Term <- [1, <<"two">>, [3.0], #{4 => {five}}]],
    {ok, none} = py:call(caller, send_values, [self()]),
    [
        ?assertEqual(Term, next())
     || Term <- [#{<<"as">> => <<"a map">>}, an_atom, none, <<"not sent">>]
    ],
    ok.

%% A message goes to a pid, an alias, a name (an atom or a string), or a name and a node.
-spec send_to_every_kind_of_address(ct_suite:ct_config()) -> ok.
send_to_every_kind_of_address(_Config) ->
    Alias = erlang:alias(),
    true = register(somebody, self()),
    Node = atom_to_binary(node()),
    {ok, _} = py:call(caller, send, [self(), 1]),
    {ok, _} = py:call(caller, send, [Alias, 2]),
    {ok, _} = py:call(caller, send, [somebody, 3]),
    {ok, _} = py:call(caller, send, [<<"somebody">>, 4]),
    {ok, _} = py:call(caller, send_to_name, [<<"somebody">>, Node, 5]),
    {ok, _} = py:call(caller, send_to_name, [somebody, node(), 6]),
    erlang:unalias(Alias),
    {ok, _} = py:call(caller, send, [Alias, 7]),
    unregister(somebody),
    [?assertEqual(N, next()) || N <- lists:seq(1, 6)],
    ok.

%% A message without a receiver is dropped and does no harm; no atom is made of a name.
-spec send_to_nobody(ct_suite:ct_config()) -> ok.
send_to_nobody(_Config) ->
    Gone = spawn(fun() -> ok end),
    [
        ?assertEqual({ok, <<"sent">>}, py:call(caller, send, [To, 1]))
     || To <- [Gone, nobody_here, <<"nobody with such a name">>]
    ],
    {ok, _} = py:call(caller, send, [self(), still_alive]),
    ?assertEqual(still_alive, next()),
    ?assertError(badarg, binary_to_existing_atom(<<"nobody with such a name">>)).

%% What is no address is an error where it is used.
-spec send_what_is_no_message(ct_suite:ct_config()) -> ok.
send_what_is_no_message(_Config) ->
    [
        ?assertMatch({error, {'TypeError', _}}, py:call(caller, send_to, [To, 1]))
     || To <- [<<"1">>, <<"None">>, <<"('a', 'b', 'c')">>, <<"('a', 1)">>, <<"[]">>, <<"b'name'">>]
    ],
    ok.

%% Processes on other nodes are reached by pid and by name, in order, while messages to one
%% that cannot be reached keep nobody waiting.
-spec send_to_another_node(ct_suite:ct_config()) -> ok | {skip, string()}.
send_to_another_node(_Config) ->
    case test_other_node:distribution() of
        ok ->
            {Peer, Node} = test_other_node:start([filename:dirname(code:which(?MODULE))]),
            Self = self(),
            Far = spawn(Node, fun() -> forward(Self) end),
            true = rpc:call(Node, erlang, register, [far, Far]),
            {ok, _} = py:call(caller, count_to, [Far, 2000]),
            {ok, none} = py:call(caller, send_to_name, [far, Node, last]),
            {ok, none} = py:call(caller, send_to_name, [far, 'nobody@127.0.0.99', lost]),
            {ok, _} = py:call(caller, send, [Self, near]),
            [?assertEqual({far, N}, next_from(far)) || N <- lists:seq(0, 1999)],
            ?assertEqual({far, last}, next_from(far)),
            ?assertEqual(near, next()),
            peer:stop(Peer);
        Skip ->
            Skip
    end.

forward(To) ->
    receive
        Message -> To ! {far, Message}
    end,
    forward(To).

next_from(Tag) ->
    receive
        Message when element(1, Message) =:= Tag -> Message
    end.

%% Messages of one thread come in the order in which they were sent, fast or slow.
-spec messages_come_in_order(ct_suite:ct_config()) -> ok.
messages_come_in_order(_Config) ->
    N = 20000,
    {ok, _} = py:call(caller, count_to, [self(), N]),
    ?assertEqual(lists:seq(0, N - 1), [next() || _ <- lists:seq(1, N)]),
    {ok, _} = py:call(caller, slowly, [self(), 50]),
    ?assertEqual(lists:seq(0, 49), [next() || _ <- lists:seq(1, 50)]).

%% What a call sent is in the mailbox when its result is.
-spec messages_come_before_the_reply(ct_suite:ct_config()) -> ok.
messages_come_before_the_reply(_Config) ->
    [
        begin
            {ok, _} = py:call(caller, count_to, [self(), N]),
            ?assertEqual({message_queue_len, N}, process_info(self(), message_queue_len)),
            [next() || _ <- lists:seq(1, N)]
        end
     || N <- [1, 2, 3, 4, 5, 10, 100, 255, 256, 257, 1000], _ <- [1, 2, 3]
    ],
    {ok, _} = py:call(caller, count_in_tasks, [self(), 10, 20]),
    ?assertEqual({message_queue_len, 200}, process_info(self(), message_queue_len)),
    [next() || _ <- lists:seq(1, 200)],
    ok.

%% Each task and each thread keeps its order.
-spec messages_of_tasks_and_threads(ct_suite:ct_config()) -> ok.
messages_of_tasks_and_threads(_Config) ->
    [
        begin
            {ok, _} = py:call(caller, Function, [self(), 8, 500]),
            All = [next() || _ <- lists:seq(1, 8 * 500)],
            [
                ?assertEqual(lists:seq(0, 499), [N || {Of, N} <- All, Of =:= Name])
             || Name <- lists:seq(0, 7)
            ]
        end
     || Function <- [count_in_tasks, count_in_threads]
    ],
    ok.

%% Messages on both sides of every buffer arrive whole.
-spec messages_of_any_size(ct_suite:ct_config()) -> ok.
messages_of_any_size(_Config) ->
    Sizes = [0, 1, 4095, 4096, 65535, 65536, 65537, 1, 1 bsl 20, 2, 1 bsl 24, 3],
    {ok, none} = py:call(caller, sizes, [self(), Sizes]),
    ?assertEqual(Sizes, [byte_size(next()) || _ <- Sizes]).

%% Where the node does not take messages, 8 MiB of them are under way and no more: the
%% thread waits. The worker answers others meanwhile.
-spec a_flood_waits_for_the_node(ct_suite:ct_config()) -> ok.
a_flood_waits_for_the_node(_Config) ->
    MiB = 1024 * 1024,
    Sender = sender(),
    true = erlang:suspend_process(Sender),
    Flood = py:spawn_call(caller, flood, [flood, self(), 40, MiB]),
    test_eventually:equal({ok, 8}, fun() -> py:call(caller, note, [flood]) end),
    %% Nothing goes on while it waits.
    [?assertEqual({ok, 8}, py:call(caller, note, [flood])) || _ <- lists:seq(1, 20)],
    true = erlang:resume_process(Sender),
    ?assertEqual({ok, <<"through">>}, py:await(Flood)),
    [?assertEqual(MiB, byte_size(next())) || _ <- lists:seq(1, 40)],
    ok.

%% The event loop never waits: past the bound it gets an error, and may await `drain'.
-spec a_flood_on_the_loop_is_refused(ct_suite:ct_config()) -> ok.
a_flood_on_the_loop_is_refused(_Config) ->
    MiB = 1024 * 1024,
    Sender = sender(),
    true = erlang:suspend_process(Sender),
    Refused = py:spawn_call(caller, flood_the_loop, [refused, self(), 40, MiB]),
    test_eventually:equal({ok, 8}, fun() -> py:call(caller, note, [refused]) end),
    Draining = py:spawn_call(caller, flood_and_drain, [self(), 40, MiB]),
    true = erlang:resume_process(Sender),
    ?assertEqual({ok, 8}, py:await(Refused)),
    ?assertEqual({ok, <<"through">>}, py:await(Draining)),
    test_eventually:equal({message_queue_len, 48}, fun() -> process_info(self(), message_queue_len) end),
    [?assertEqual(MiB, byte_size(next())) || _ <- lists:seq(1, 48)],
    ok.

%% The one process that delivers a worker's messages.
sender() ->
    #{workers := [#{pid := Worker}]} = py:info(default),
    {monitors, Monitors} = process_info(Worker, monitors),
    [Sender] = [
        Pid
     || {process, Pid} <- Monitors,
        {py_delivery, _, _} <- [proc_lib:translate_initial_call(Pid)]
    ],
    Sender.

%% A generator may send while it streams.
-spec a_stream_may_send(ct_suite:ct_config()) -> ok.
a_stream_may_send(_Config) ->
    N = 3000,
    {ok, Ref} = py:stream_start(caller, reports, [self(), N]),
    Values = stream_values(Ref),
    ?assertEqual(lists:seq(0, N - 1), Values),
    Sent = [{<<"about to yield">>, I} || I <- lists:seq(0, N - 1)],
    ?assertEqual(Sent, [next() || _ <- lists:seq(1, N)]).

stream_values(Ref) ->
    {ok, Values} = py:stream_fold(fun(V, Acc) -> {cont, [V | Acc]} end, [], Ref),
    lists:reverse(Values).

%% A finalizer may send, in the middle of whatever its thread does.
-spec finalizers_may_send(ct_suite:ct_config()) -> ok.
finalizers_may_send(_Config) ->
    {ok, none} = py:call(caller, finalizers, [self(), 500]),
    Both = [next() || _ <- lists:seq(1, 1000)],
    ?assertEqual({500, 500}, {
        length([x || <<"sent">> <- Both]), length([x || <<"finalized">> <- Both])
    }).

%%% Calls of Erlang functions.

%% A registered function is called with the list of arguments, whatever they are.
-spec call(ct_suite:ct_config()) -> ok.
call(_Config) ->
    ok = py:register_function("echo", fun(Args) -> Args end),
    ok = py:register_function(times, ?MODULE, times),
    ?assertEqual({ok, 3}, py:call(caller, call, [plus, 1, 2])),
    ?assertEqual({ok, 6}, py:call(caller, call, [times, 2, 3])),
    ?assertEqual({ok, []}, py:call(caller, call, [echo])),
    Blob = binary:copy(<<"x">>, 5 bsl 20),
    [
        ?assertEqual({ok, [Term]}, py:call(caller, call, [echo, Term]))
     || Term <- [a, 1 bsl 80, 2.5, [], {}, #{}, <<"ö"/utf8>>, self(), make_ref(), Blob, lists:seq(1, 70000)]
    ],
    ?assertEqual([<<"echo">>, <<"plus">>, <<"times">>], py:functions()),
    ok = py:register_function(echo, fun(_) -> another end),
    ?assertEqual({ok, another}, py:call(caller, call, [echo])),
    ?assertError({badopt, {function, _}}, py:register_function(echo, fun() -> ok end)),
    ?assertError({invalid_python_identifier, _}, py:register_function("a b", fun(_) -> ok end)).

%% @doc A function that is registered by module and name.
-spec times([number()]) -> number().
times([A, B]) -> A * B.

%% From a thread of its own, from any event loop, by attribute and by import.
-spec call_from_everywhere(ct_suite:ct_config()) -> ok.
call_from_everywhere(_Config) ->
    ?assertEqual({ok, 3}, py:call(caller, acall, [plus, 1, 2])),
    ?assertEqual({ok, 3}, py:call(caller, by_attribute, [1, 2])),
    ?assertEqual({ok, {3, <<"<Erlang function plus>">>}}, py:call(caller, by_import, [1, 2])),
    ?assertEqual({ok, 3}, py:call(caller, in_a_thread, [1, 2])),
    ?assertEqual({ok, 3}, py:call(caller, in_a_loop_of_its_own, [1, 2])),
    ok = py:exec("import erlang"),
    ?assertEqual({ok, 3}, py:eval("erlang.plus(1, 2)")),
    ?assertMatch(
        {error, {'RuntimeError', <<"erlang.call would hold up the event loop", _/binary>>}},
        py:call(caller, call_of_the_loop, [])
    ).

%% A name that is not registered is an error that names it.
-spec call_what_is_not_registered(ct_suite:ct_config()) -> ok.
call_what_is_not_registered(_Config) ->
    {ok, Failure} = py:call(caller, failure, [<<"nowhere">>]),
    ?assertMatch(#{<<"kind">> := error, <<"reason">> := {not_registered, <<"nowhere">>}}, Failure),
    ok = py:register_function(soon_gone, fun(_) -> here end),
    ?assertEqual({ok, here}, py:call(caller, call, [soon_gone])),
    ok = py:unregister_function(soon_gone),
    ok = py:unregister_function(soon_gone),
    {error, {<<"ErlangError">>, Text}} = py:call(caller, call, [soon_gone]),
    ?assertNotEqual(nomatch, string:find(Text, "soon_gone")).

%% What a function raises is an exception with class, reason and stack trace.
-spec functions_that_fail(ct_suite:ct_config()) -> ok.
functions_that_fail(_Config) ->
    ok = py:register_function(fails, fun
        ([error]) -> lists:nth(3, [1]);
        ([exit]) -> exit({because, <<"text">>});
        ([throw]) -> throw(thrown);
        ([normal]) -> exit(normal);
        ([strange]) -> error({<<255>>, self()})
    end),
    {ok, Error} = py:call(caller, failure, [fails, error]),
    #{<<"kind">> := error, <<"reason">> := function_clause, <<"stacktrace">> := Stack} = Error,
    %% The function or its helper, by release of OTP.
    ?assertMatch([{lists, _, 2, {_, _}} | _], Stack),
    ?assertEqual(false, lists:keymember(py_callback, 1, Stack)),
    ?assertNotEqual(nomatch, string:find(maps:get(<<"text">>, Error), "lists:nth")),
    ?assertMatch(
        {ok, #{<<"kind">> := exit, <<"reason">> := {because, <<"text">>}}},
        py:call(caller, failure, [fails, exit])
    ),
    ?assertMatch(
        {ok, #{<<"kind">> := throw, <<"reason">> := thrown}}, py:call(caller, failure, [fails, throw])
    ),
    ?assertMatch(
        {ok, #{<<"kind">> := exit, <<"reason">> := normal}}, py:call(caller, failure, [fails, normal])
    ),
    ?assertMatch(
        {ok, #{<<"reason">> := {<<255>>, _}}}, py:call(caller, failure, [fails, strange])
    ),
    %% Arguments that no clause takes.
    ?assertMatch(
        {ok, #{<<"reason">> := function_clause}}, py:call(caller, failure, [fails, other])
    ).

%% A function whose process is killed is an error, too, and not a wait for good.
-spec functions_that_are_killed(ct_suite:ct_config()) -> ok.
functions_that_are_killed(_Config) ->
    ok = py:register_function(killed, fun(_) -> exit(self(), kill) end),
    ?assertMatch(
        {ok, #{<<"kind">> := exit, <<"reason">> := killed}}, py:call(caller, failure, [killed])
    ).

%% Python code waits for as long as it says, and gets no answer later.
-spec functions_that_take_too_long(ct_suite:ct_config()) -> ok.
functions_that_take_too_long(_Config) ->
    Self = self(),
    ok = py:register_function(slow, fun([]) ->
        Self ! {slow, self()},
        receive
            go_on -> done
        end
    end),
    {ok, {<<"too late">>, Text}} = py:call(caller, call_with_timeout, [slow, 0.02]),
    ?assertEqual(<<"slow has not answered within 0.02 s">>, Text),
    {ok, <<"too late">>} = py:call(caller, impatient, [slow]),
    [
        receive
            {slow, Pid} -> Pid ! go_on
        end
     || _ <- [1, 2]
    ],
    ?assertEqual({ok, 3}, py:call(caller, call, [plus, 1, 2])).

%% A call that times out while it waits for Erlang is interrupted there.
-spec an_interrupt_ends_the_wait(ct_suite:ct_config()) -> ok.
an_interrupt_ends_the_wait(_Config) ->
    Self = self(),
    ok = py:register_function(never, fun([]) ->
        Self ! {never, self()},
        receive
            go_on -> done
        end
    end),
    ?assertEqual({error, timeout}, py:call(caller, stuck_in_a_call, [stuck, never], #{}, 30)),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(caller, note, [stuck]) end),
    receive
        {never, Pid} -> Pid ! go_on
    end,
    ok.

%% Thousands of calls wait at the same time, each for a process of its own.
-spec many_calls_at_once(ct_suite:ct_config()) -> ok.
many_calls_at_once(_Config) ->
    ok = py:register_function(same, fun([N]) -> N end),
    N = 5000,
    ?assertEqual({ok, N * (N - 1) div 2}, py:call(caller, many, [same, N])),
    %% Of large arguments, 8 MiB are under way at a time.
    MiB = 1024 * 1024,
    ok = py:register_function(size, fun([Blob]) -> byte_size(Blob) end),
    ?assertEqual({ok, 40 * MiB}, py:call(caller, many_blobs, [size, 40, MiB])).

%% No more functions than `max_callbacks' run for one worker at a time; all are called.
-spec calls_are_bounded_in_number(ct_suite:ct_config()) -> ok.
calls_are_bounded_in_number(Config) ->
    ok = application:set_env(erlang_python, max_callbacks, 10),
    {ok, Worker} = py:start_worker(?config(own, Config)),
    Running = counters:new(1, []),
    Most = atomics:new(1, []),
    ok = py:register_function(counted, fun([N]) ->
        counters:add(Running, 1, 1),
        raise(Most, counters:get(Running, 1)),
        receive
        after 1 -> ok
        end,
        counters:sub(Running, 1, 1),
        N
    end),
    ?assertEqual({ok, 4950}, py:call(caller, many, [counted, 100], #{}, #{pool => Worker})),
    ?assert(atomics:get(Most, 1) =< 10),
    ok = py:stop_worker(Worker).

raise(Most, N) ->
    case atomics:get(Most, 1) of
        M when M >= N -> ok;
        M -> atomics:compare_exchange(Most, 1, M, N) =:= ok orelse raise(Most, N)
    end.

%% Python calls Erlang calls Python, and so on, on a worker that has one thread to give.
-spec to_and_fro(ct_suite:ct_config()) -> ok.
to_and_fro(Config) ->
    {ok, Worker} = py:start_worker((?config(own, Config))#{max_threads => 1}),
    Opts = #{pool => Worker},
    register_down(Opts),
    ?assertEqual({ok, 100}, py:call(caller, down, [100], #{}, Opts)),
    ?assertEqual({ok, 300}, py:call(caller, adown, [300], #{}, Opts)),
    ?assertEqual({ok, lists:seq(0, 20)}, py:stream(caller, stream_down, [20], #{}, Opts)),
    %% Several at once, each of which needs threads that the others hold.
    Refs = [py:spawn_call(caller, down, [20], #{}, Opts) || _ <- lists:seq(1, 10)],
    [?assertEqual({ok, 20}, py:await(Ref)) || Ref <- Refs],
    ok = py:stop_worker(Worker).

%% A chain of calls that is longer than the number of functions that may run goes on, slower.
-spec to_and_fro_past_every_bound(ct_suite:ct_config()) -> ok.
to_and_fro_past_every_bound(Config) ->
    ok = application:set_env(erlang_python, max_callbacks, 4),
    {ok, Worker} = py:start_worker((?config(own, Config))#{max_threads => 1}),
    Opts = #{pool => Worker},
    register_down(Opts),
    ?assertEqual({ok, 30}, py:call(caller, down, [30], #{}, Opts)),
    ?assertEqual({ok, 30}, py:call(caller, adown, [30], #{}, Opts)),
    ok = py:stop_worker(Worker).

register_down(Opts) ->
    ok = py:register_function(down, fun([Depth]) ->
        {ok, Result} = py:call(caller, down, [Depth], #{}, Opts),
        Result
    end),
    ok = py:register_function(adown, fun([Depth]) ->
        {ok, Result} = py:call(caller, adown, [Depth], #{}, Opts),
        Result
    end),
    ok = py:register_function(stream_down, fun([Depth]) ->
        {ok, Values} = py:stream(caller, stream_down, [Depth], #{}, Opts),
        Values
    end).

%% Code that runs before the worker takes work may send and call.
-spec preloaded_code_may_call(ct_suite:ct_config()) -> ok.
preloaded_code_may_call(Config) ->
    true = register(preloaded, self()),
    {ok, Worker} = py:start_worker((?config(own, Config))#{preload => [caller]}),
    ?assertEqual({ok, 3}, py:call(caller, imported, [], #{}, #{pool => Worker})),
    ?assertEqual(<<"hello">>, next()),
    ok = py:stop_worker(Worker),
    true = unregister(preloaded),
    ok.

%% Names of processes are looked up on the node.
-spec whereis(ct_suite:ct_config()) -> ok.
whereis(_Config) ->
    ?assertEqual({ok, erlang:whereis(kernel_sup)}, py:call(caller, whereis, [<<"kernel_sup">>])),
    ?assertEqual({ok, none}, py:call(caller, whereis, [<<"no such process">>])).

%% A stream knows its reference, its owner and whether it is still wanted; a call is none.
-spec about_streams(ct_suite:ct_config()) -> ok.
about_streams(_Config) ->
    Self = self(),
    Owner = spawn_link(fun() -> forward(Self) end),
    [
        begin
            {ok, Ref} = py:stream_start(caller, Function, [Function], #{owner => Owner, window => 5}),
            [
                ?assertEqual({far, {py_stream, Ref, {data, Value}}}, next_from(far))
             || Value <- [Ref, Owner, false]
            ],
            ok = py:stream_cancel(Ref),
            test_eventually:equal({ok, {true, true}}, fun() -> py:call(caller, note, [Function]) end),
            flush_stream(Ref)
        end
     || Function <- [about_the_stream, about_the_async_stream]
    ],
    {ok, [_, Self, false]} = py:stream(caller, about_the_stream, [taken], #{}, #{take => 3}),
    ?assertEqual({ok, true}, py:call(caller, no_stream, [])),
    ?assertEqual({ok, true}, py:call(caller, no_async_stream, [])).

flush_stream(Ref) ->
    receive
        {far, {py_stream, Ref, {error, cancelled}}} -> ok;
        {far, {py_stream, Ref, _}} -> flush_stream(Ref)
    end.

%% A forked child cannot write to its parent's port.
-spec a_forked_child_has_no_node(ct_suite:ct_config()) -> ok.
a_forked_child_has_no_node(_Config) ->
    ?assertEqual({ok, <<"RuntimeError,RuntimeError">>}, py:call(caller, forked, [])),
    ?assertEqual({ok, 3}, py:call(caller, call, [plus, 1, 2])).

%%% Helpers.

next() ->
    receive
        Message -> Message
    after 10000 -> error(nothing_came)
    end.
