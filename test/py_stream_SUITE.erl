%% @doc Streams: what an owner may rely on.
%%
%% The same cases run over sync and over async generators, with one worker and with
%% several, and with a Python that lacks erlpack. After each of them nothing is left: no
%% process, no table entry, no request in Python.
-module(py_stream_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [all_events/1, next_values/2]).

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    values_in_order/1,
    every_kind_of_iterable/1,
    arguments/1,
    take/1,
    take_sends_the_last_value_before_it_closes/1,
    a_value_leaves_at_once/1,
    the_last_of_a_burst_leaves_at_once/1,
    a_generator_that_computes_holds_nothing_back/1,
    values_before_an_exception/1,
    values_before_one_that_cannot_be_sent/1,
    nothing_comes_after_the_end/1,
    the_generator_is_closed/1,
    the_generator_is_closed_by_the_owners_exit/1,
    what_close_raises/1,
    a_generator_that_yields_when_it_is_closed/1,
    cancel/1,
    cancel_from_the_first_moment/1,
    cancel_by_many/1,
    cancel_and_flush/1,
    cancel_and_flush_by_another/1,
    cancel_one_that_goes_on/1,
    next/1,
    fold/1,
    collect/1,
    collect_leaves_nothing_in_the_mailbox/1,
    collect_for_a_caller_that_is_killed/1,
    evaluate/1,
    timeout/1,
    timeout_of_collect/1,
    owners/1,
    large_arguments/1,
    start_does_not_wait/1
]).

%% Long enough for whatever should come, on a machine that does other things as well.
-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, Name} || {Name, _, _} <- groups()].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        values_in_order,
        every_kind_of_iterable,
        arguments,
        take,
        take_sends_the_last_value_before_it_closes,
        a_value_leaves_at_once,
        the_last_of_a_burst_leaves_at_once,
        a_generator_that_computes_holds_nothing_back,
        values_before_an_exception,
        values_before_one_that_cannot_be_sent,
        nothing_comes_after_the_end,
        the_generator_is_closed,
        the_generator_is_closed_by_the_owners_exit,
        what_close_raises,
        a_generator_that_yields_when_it_is_closed,
        cancel,
        cancel_from_the_first_moment,
        cancel_by_many,
        cancel_and_flush,
        cancel_and_flush_by_another,
        next,
        fold,
        collect,
        collect_leaves_nothing_in_the_mailbox,
        collect_for_a_caller_that_is_killed,
        evaluate,
        timeout,
        timeout_of_collect,
        owners,
        large_arguments,
        start_does_not_wait
    ],
    [
        {sync, [], Cases},
        {async, [], [cancel_one_that_goes_on | Cases]},
        {sync_on_many_workers, [], Cases},
        {async_on_many_workers, [], Cases},
        {sync_without_erlpack, [], Cases}
    ].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(sync, Config) ->
    start(sync_sources, 1, ["sources"], Config);
init_per_group(async, Config) ->
    start(async_sources, 1, ["sources"], Config);
init_per_group(sync_on_many_workers, Config) ->
    start(sync_sources, 3, ["sources"], Config);
init_per_group(async_on_many_workers, Config) ->
    start(async_sources, 3, ["sources"], Config);
init_per_group(sync_without_erlpack, Config) ->
    Started = start(sync_sources, 1, ["sources", "without_erlpack"], Config),
    #{python := #{writer := python}} = py:info(default),
    Started.

start(Module, Workers, Directories, Config) ->
    Path = [filename:join(?config(data_dir, Config), Directory) || Directory <- Directories],
    Pool = #{workers => Workers, python_path => Path, interrupt_after => 200},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{sources, Module} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    try
        test_leftovers:none()
    catch
        error:Reason -> {fail, Reason}
    end.

%%% Values.

%% Values come in the order in which they were yielded, none lost, none twice, then `done',
%% for lengths on both sides of every limit: runs, windows, none at all.
-spec values_in_order(ct_suite:ct_config()) -> ok.
values_in_order(Config) ->
    lists:foreach(
        fun(N) ->
            {ok, Ref} = start_stream(count, [N], Config),
            ?assertEqual({lists:seq(0, N - 1), done}, all_events(Ref))
        end,
        [0, 1, 2, 3, 4, 7, 8, 9, 255, 256, 257, 1023, 1024, 1025, 20000]
    ).

%% Generators, iterators, iterables, and awaitables of any of these stream alike.
-spec every_kind_of_iterable(ct_suite:ct_config()) -> ok.
every_kind_of_iterable(Config) ->
    Sources = ?config(sources, Config),
    {ok, Kinds} = py:call(Sources, kinds, []),
    ?assert(length(Kinds) > 8),
    lists:foreach(
        fun(Kind) ->
            {ok, Ref} = py:stream_start(Sources, Kind, [5]),
            ?assertEqual({Kind, {[4, 3, 2, 1, 0], done}}, {Kind, all_events(Ref)}),
            ?assertEqual({ok, [4, 3, 2, 1, 0]}, py:stream(Sources, Kind, [5])),
            ?assertEqual({ok, []}, py:stream(Sources, Kind, [0]))
        end,
        Kinds
    ),
    ?assertEqual({ok, []}, py:stream(Sources, empty, [])).

%% Arguments, keyword arguments and the meaning of binaries reach the function.
-spec arguments(ct_suite:ct_config()) -> ok.
arguments(Config) ->
    Opts = #{kwargs => #{key => [2.5], <<"other">> => none}},
    {ok, Ref} = start_stream(echo, [1, <<"text">>, {a, b}], Opts, Config),
    Kwargs = #{<<"key">> => [2.5], <<"other">> => none},
    ?assertEqual({[[1, <<"text">>, {a, b}], Kwargs], done}, all_events(Ref)),
    Sources = ?config(sources, Config),
    ?assertMatch({ok, [[], #{<<"x">> := 1}]}, py:stream(Sources, echo, [], #{x => 1})),
    ?assertMatch(
        {ok, [[<<255>>], #{}]},
        py:stream(Sources, echo, [<<255>>], #{}, #{binaries => bytes})
    ).

%% A stream ends with `done' after as many values as were to be taken, or before.
-spec take(ct_suite:ct_config()) -> ok.
take(Config) ->
    lists:foreach(
        fun(N) ->
            {ok, Ref} = start_stream(forever, [], #{take => N}, Config),
            ?assertEqual({lists:seq(0, N - 1), done}, all_events(Ref))
        end,
        [1, 2, 3, 8, 9, 255, 256, 257, 5000]
    ),
    [
        begin
            {ok, Ref} = start_stream(count, [10], #{take => N}, Config),
            ?assertEqual({lists:seq(0, 9), done}, all_events(Ref))
        end
     || N <- [10, 11, 1 bsl 62]
    ],
    Sources = ?config(sources, Config),
    ?assertEqual({ok, [0, 1, 2]}, py:stream(Sources, forever, [], #{}, #{take => 3})),
    Code = <<"__import__('itertools').count(7)">>,
    ?assertEqual({ok, [7, 8]}, py:stream_eval(Code, #{}, #{take => 2})).

%% The last value that is taken is with its owner before the generator's `finally' block,
%% which may take its time, has run.
-spec take_sends_the_last_value_before_it_closes(ct_suite:ct_config()) -> ok.
take_sends_the_last_value_before_it_closes(Config) ->
    [
        begin
            Sign = sign(Config),
            Values = lists:seq(1, N),
            {ok, Ref} = start_stream(close_waits, [Values, path(Sign)], #{take => N}, Config),
            [?assertEqual({ok, V}, py:stream_next(Ref, ?LONG)) || V <- Values],
            put_sign(Sign),
            ?assertEqual(done, py:stream_next(Ref, ?LONG))
        end
     || N <- [1, 2, 500]
    ],
    ok.

%% A value that is yielded before a pause leaves when it is yielded.
-spec a_value_leaves_at_once(ct_suite:ct_config()) -> ok.
a_value_leaves_at_once(Config) ->
    Sign = sign(Config),
    {ok, Ref} = start_stream(yielding, [[<<"now">>], path(Sign)], Config),
    ?assertEqual({ok, <<"now">>}, py:stream_next(Ref, ?LONG)),
    put_sign(Sign),
    ?assertEqual(done, py:stream_next(Ref, ?LONG)).

%% The same for the last of many that are yielded without a pause, of which some share
%% frames; and for the one that comes after the pause.
-spec the_last_of_a_burst_leaves_at_once(ct_suite:ct_config()) -> ok.
the_last_of_a_burst_leaves_at_once(Config) ->
    lists:foreach(
        fun(N) ->
            Sign = sign(Config),
            {ok, Ref} = start_stream(burst, [N, path(Sign), last], Config),
            ?assertEqual(lists:seq(0, N - 1), next_values(N, Ref)),
            put_sign(Sign),
            ?assertEqual({[last], done}, all_events(Ref))
        end,
        [2, 3, 4, 5, 10, 12, 13, 100, 253, 1000]
    ).

%% What was yielded is with its owner while the generator computes.
-spec a_generator_that_computes_holds_nothing_back(ct_suite:ct_config()) -> ok.
a_generator_that_computes_holds_nothing_back(Config) ->
    lists:foreach(
        fun(N) ->
            Sign = sign(Config),
            {ok, Ref} = start_stream(computing, [N, path(Sign)], Config),
            ?assertEqual(lists:seq(0, N - 1), next_values(N, Ref)),
            put_sign(Sign),
            ?assertEqual(done, py:stream_next(Ref, ?LONG))
        end,
        [1, 3, 100]
    ).

%%% The end.

%% All that was yielded before an exception comes before its terminal event, however it
%% falls into runs and windows.
-spec values_before_an_exception(ct_suite:ct_config()) -> ok.
values_before_an_exception(Config) ->
    Reason = {'ValueError', <<"that was all">>},
    [
        begin
            {ok, Ref} = start_stream(failing_after, [N], Opts, Config),
            ?assertEqual({Opts, lists:seq(0, N - 1), {error, Reason}}, full_result(Opts, Ref)),
            Collected = py:stream(?config(sources, Config), failing_after, [N], #{}, Opts),
            ?assertEqual({error, Reason}, Collected)
        end
     || N <- [0, 1, 3, 5, 100, 1000],
        Opts <- [#{}, #{window => 1}, #{window => 7}, #{window_bytes => 1}, #{window_bytes => 300}]
    ],
    ok.

%% A value that is no term ends the stream as an exception would: what was yielded before
%% it comes, what was yielded after it does not, whether a run or the ticker finds it.
-spec values_before_one_that_cannot_be_sent(ct_suite:ct_config()) -> ok.
values_before_one_that_cannot_be_sent(Config) ->
    [
        begin
            {ok, Ref} = start_stream(bad_value, [N, 10], Config),
            {Values, Terminal} = all_events(Ref),
            ?assertEqual(lists:seq(0, N - 1), Values),
            ?assertMatch({error, {'TypeError', _}}, Terminal)
        end
     || N <- [0, 1, 2, 3, 5, 20, 100, 300]
    ],
    %% The pause lets the ticker, or the idle loop, find it before the generator's next value.
    [
        begin
            Sign = sign(Config),
            {ok, Ref} = start_stream(bad_value, [N, 10, path(Sign)], Config),
            ?assertEqual(lists:seq(0, N - 1), next_values(N, Ref)),
            put_sign(Sign),
            ?assertMatch({[], {error, {'TypeError', _}}}, all_events(Ref))
        end
     || N <- [5, 20, 100, 300]
    ],
    ok.

%% There is exactly one terminal event, and it is the last event, whatever ends the stream.
-spec nothing_comes_after_the_end(ct_suite:ct_config()) -> ok.
nothing_comes_after_the_end(Config) ->
    Endings = [
        {count, [1000], #{}, fun(_) -> ok end, done},
        {forever, [], #{take => 1000}, fun(_) -> ok end, done},
        {failing_after, [1000], #{}, fun(_) -> ok end, {error, {'ValueError', <<"that was all">>}}},
        {forever, [], #{}, fun py:stream_cancel/1, {error, cancelled}},
        {slow_start, [path(sign(Config))], #{timeout => 10}, fun(_) -> ok end, {error, timeout}}
    ],
    lists:foreach(
        fun({Function, Args, Opts, End, Terminal}) ->
            {ok, Ref} = start_stream(Function, Args, Opts, Config),
            Monitor = monitor_stream(Ref),
            End(Ref),
            ?assertMatch({_, Terminal}, all_events(Ref)),
            receive
                {'DOWN', Monitor, _, _, _} -> ok
            end,
            %% Nobody is left who could send another.
            ?assertEqual({messages, []}, process_info(self(), messages))
        end,
        Endings
    ).

%% A generator is closed, so that its `finally' blocks run, for whatever reason its stream ends.
-spec the_generator_is_closed(ct_suite:ct_config()) -> ok.
the_generator_is_closed(Config) ->
    Forever = 1 bsl 60,
    Ends = [
        {with_finally, fun(P) -> [3, P] end, #{}, fun(R) -> {[0, 1, 2], done} = all_events(R) end},
        {with_finally, fun(P) -> [Forever, P] end, #{take => 1}, fun take_one/1},
        {with_finally, fun(P) -> [Forever, P] end, #{}, fun cancel_after_a_value/1},
        {with_finally, fun(P) -> [Forever, P, 0.001] end, #{}, fun cancel_after_a_value/1},
        {with_finally, fun(P) -> [Forever, P] end, #{window => 1}, fun cancel_after_a_value/1},
        {with_finally, fun(P) -> [Forever, P] end, #{demand => 1}, fun cancel_after_a_value/1},
        {with_finally, fun(P) -> [Forever, P, 1] end, #{timeout => 300}, fun(R) ->
            {[0], {error, timeout}} = all_events(R)
        end},
        {failing_with_finally, fun(P) -> [P] end, #{}, fun(R) ->
            {[1], {error, {'KeyError', <<"'key'">>}}} = all_events(R)
        end}
    ],
    lists:foreach(
        fun({Function, Args, Opts, End}) ->
            Sign = sign(Config),
            {ok, Ref} = start_stream(Function, Args(path(Sign)), Opts, Config),
            End(Ref),
            await_sign(Sign)
        end,
        Ends
    ).

take_one(Ref) ->
    {[0], done} = all_events(Ref).

cancel_after_a_value(Ref) ->
    {ok, 0} = py:stream_next(Ref, ?LONG),
    ok = py:stream_cancel(Ref),
    {_, {error, cancelled}} = all_events(Ref).

%% An owner that exits or is killed cancels its streams; one that is dead from the start,
%% too.
-spec the_generator_is_closed_by_the_owners_exit(ct_suite:ct_config()) -> ok.
the_generator_is_closed_by_the_owners_exit(Config) ->
    [
        begin
            Sign = sign(Config),
            Self = self(),
            Owner = spawn(fun() ->
                receive
                    {py_stream, _, _} -> Self ! first
                end,
                receive
                    stop -> ok
                end
            end),
            Args = [1 bsl 60, path(Sign), 0.001],
            {ok, _} = start_stream(with_finally, Args, #{owner => Owner}, Config),
            receive
                first -> ok
            end,
            End(Owner),
            await_sign(Sign)
        end
     || End <- [fun(Pid) -> Pid ! stop end, fun(Pid) -> exit(Pid, kill) end]
    ],
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Monitor, _, _, _} -> ok
    end,
    {ok, _} = start_stream(forever, [], #{owner => Dead}, Config),
    ok.

%% An exception that closing a generator raises is the stream's, after all of its values.
-spec what_close_raises(ct_suite:ct_config()) -> ok.
what_close_raises(Config) ->
    {ok, Ref} = start_stream(close_fails, [2], #{take => 2}, Config),
    Reason = {'LookupError', <<"while it was closed">>},
    ?assertEqual({[0, 1], {error, Reason}}, all_events(Ref)).

%% A generator that yields from its `finally' block is done with, and the worker goes on.
-spec a_generator_that_yields_when_it_is_closed(ct_suite:ct_config()) -> ok.
a_generator_that_yields_when_it_is_closed(Config) ->
    Sign = sign(Config),
    {ok, Ref} = start_stream(refuses_to_end, [path(Sign)], #{take => 1}, Config),
    ?assertMatch({[1], {error, {'RuntimeError', _}}}, all_events(Ref)),
    await_sign(Sign),
    {ok, Other} = start_stream(count, [2], Config),
    ?assertEqual({[0, 1], done}, all_events(Other)).

%%% Cancelling.

%% Cancelling twice, after the end, and by a reference that never was a stream is `ok'; the
%% owner has one terminal event.
-spec cancel(ct_suite:ct_config()) -> ok.
cancel(Config) ->
    {ok, Ref} = start_stream(forever, [], Config),
    ?assertEqual({ok, 0}, py:stream_next(Ref, ?LONG)),
    ?assertEqual(ok, py:stream_cancel(Ref)),
    ?assertEqual(ok, py:stream_cancel(Ref)),
    ?assertMatch({_, {error, cancelled}}, all_events(Ref)),
    ?assertEqual(ok, py:stream_cancel(Ref)),
    {ok, Done} = start_stream(count, [1], Config),
    ?assertEqual({[0], done}, all_events(Done)),
    ?assertEqual(ok, py:stream_cancel(Done)),
    ?assertEqual(ok, py:stream_cancel(Done, [flush])),
    ?assertEqual(ok, py:stream_cancel(make_ref())),
    ?assertEqual(ok, py:stream_cancel(make_ref(), [flush])),
    test_leftovers:none(),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% A cancel that overtakes the start, or meets it half-way, ends the stream as any other.
-spec cancel_from_the_first_moment(ct_suite:ct_config()) -> ok.
cancel_from_the_first_moment(Config) ->
    [
        begin
            {ok, Ref} = start_stream(Function, Args, Config),
            spin(N rem 50 * 200),
            ok = py:stream_cancel(Ref),
            {_, Terminal} = all_events(Ref),
            MayBeDone = Function =:= count,
            ?assert(Terminal =:= {error, cancelled} orelse (MayBeDone andalso Terminal =:= done))
        end
     || N <- lists:seq(1, 150), {Function, Args} <- [{count, [3]}, {forever, []}]
    ],
    ok.

spin(0) -> ok;
spin(N) -> spin(N - 1).

%% Many processes cancel at once while the stream may be ending by itself: one terminal event.
-spec cancel_by_many(ct_suite:ct_config()) -> ok.
cancel_by_many(Config) ->
    [
        begin
            {ok, Ref} = start_stream(count, [N], Config),
            Monitors = [
                element(2, spawn_monitor(py, stream_cancel, [Ref | Flush]))
             || Flush <- [[], [[flush]], [], [[flush]]]
            ],
            {Values, Terminal} = all_events(Ref),
            ?assert(Terminal =:= {error, cancelled} orelse Terminal =:= done),
            ?assertEqual(lists:seq(0, length(Values) - 1), Values),
            [
                receive
                    {'DOWN', M, _, _, Reason} -> ?assertEqual(normal, Reason)
                end
             || M <- Monitors
            ],
            ?assertEqual({messages, []}, process_info(self(), messages))
        end
     || N <- lists:seq(0, 2000, 40)
    ],
    ok.

%% After a cancel with `flush' no event of the stream is in the caller's mailbox, and none comes;
%% other mail stays.
-spec cancel_and_flush(ct_suite:ct_config()) -> ok.
cancel_and_flush(Config) ->
    self() ! other,
    [
        begin
            {ok, Ref} = start_stream(forever, [], Opts, Config),
            Monitor = monitor_stream(Ref),
            ?assertMatch({ok, _}, py:stream_next(Ref, ?LONG)),
            ?assertEqual(ok, py:stream_cancel(Ref, [flush])),
            receive
                {'DOWN', Monitor, _, _, _} -> ok
            end,
            ?assertEqual({messages, [other]}, process_info(self(), messages))
        end
     || Opts <- [#{}, #{batch => 10}, #{window => 1}, #{demand => 3}], _ <- lists:seq(1, 10)
    ],
    receive
        other -> ok
    end.

%% A process that does not own a stream may cancel it with `flush', too: its own mail is
%% not touched, and the owner has its terminal event.
-spec cancel_and_flush_by_another(ct_suite:ct_config()) -> ok.
cancel_and_flush_by_another(Config) ->
    {ok, Ref} = start_stream(forever, [], Config),
    {ok, Other} = start_stream(count, [2], Config),
    {_, Monitor} = spawn_monitor(fun() -> ok = py:stream_cancel(Ref, [flush]) end),
    receive
        {'DOWN', Monitor, _, _, Reason} -> ?assertEqual(normal, Reason)
    end,
    ?assertMatch({_, {error, cancelled}}, all_events(Ref)),
    ?assertEqual({[0, 1], done}, all_events(Other)).

%% An async generator that swallows the cancellation is closed all the same.
-spec cancel_one_that_goes_on(ct_suite:ct_config()) -> ok.
cancel_one_that_goes_on(Config) ->
    Sign = sign(Config),
    {ok, Ref} = start_stream(stubborn, [path(Sign)], Config),
    ?assertEqual({ok, 1}, py:stream_next(Ref, ?LONG)),
    ok = py:stream_cancel(Ref),
    ?assertMatch({_, {error, cancelled}}, all_events(Ref)),
    await_sign(Sign).

%%% Ways to read a stream.

%% The next event comes out of the mailbox as a value; a timeout ends nothing.
-spec next(ct_suite:ct_config()) -> ok.
next(Config) ->
    Sign = sign(Config),
    {ok, Ref} = start_stream(yielding, [[a], path(Sign)], Config),
    ?assertEqual({ok, a}, py:stream_next(Ref)),
    ?assertEqual(timeout, py:stream_next(Ref, 0)),
    ?assertEqual(timeout, py:stream_next(Ref, 10)),
    put_sign(Sign),
    ?assertEqual(done, py:stream_next(Ref)),
    {ok, Failing} = start_stream(failing_after, [0], Config),
    ?assertEqual({error, {'ValueError', <<"that was all">>}}, py:stream_next(Failing)),
    {ok, Batches} = start_stream(count, [2], #{batch => 1}, Config),
    ?assertEqual({ok, [0]}, py:stream_next(Batches)),
    ?assertEqual({ok, [1]}, py:stream_next(Batches)),
    ?assertEqual(done, py:stream_next(Batches)).

%% A fold sees every value in order; it halts when its function says so, and then nothing of the
%% stream is left.
-spec fold(ct_suite:ct_config()) -> ok.
fold(Config) ->
    Sum = fun(Value, Acc) -> {cont, Value + Acc} end,
    Some = fun
        (Value, Acc) when length(Acc) < 9 -> {cont, [Value | Acc]};
        (Value, Acc) -> {halt, [Value | Acc]}
    end,
    [
        begin
            {ok, Whole} = start_stream(count, [1000], Opts, Config),
            ?assertEqual({ok, 499500}, py:stream_fold(Sum, 0, Whole)),
            {ok, Failing} = start_stream(failing_after, [10], Opts, Config),
            Reason = {'ValueError', <<"that was all">>},
            ?assertEqual({error, Reason, 45}, py:stream_fold(Sum, 0, Failing)),
            {ok, Endless} = start_stream(forever, [], Opts, Config),
            ?assertEqual({ok, lists:seq(9, 0, -1)}, py:stream_fold(Some, [], Endless)),
            ?assertEqual({messages, []}, process_info(self(), messages))
        end
     || Opts <- [#{}, #{batch => 7}]
    ],
    test_leftovers:none().

%% `stream' gives all values, or the reason.
-spec collect(ct_suite:ct_config()) -> ok.
collect(Config) ->
    Sources = ?config(sources, Config),
    ?assertEqual({ok, []}, py:stream(Sources, count, [0])),
    ?assertEqual({ok, lists:seq(0, 4999)}, py:stream(Sources, count, [5000])),
    ?assertEqual({ok, [0, 1]}, py:stream(Sources, count, [], #{n => 2})),
    ?assertEqual({ok, lists:seq(0, 99)}, py:stream(Sources, count, [100], #{}, #{window => 1})),
    ?assertEqual({ok, lists:seq(0, 99)}, py:stream(Sources, count, [100], #{}, #{batch => 3})),
    Sizes = [10, 100000, 10, 3000000, 3000000, 1],
    {ok, Values} = py:stream(Sources, sized, [Sizes]),
    ?assertEqual(Sizes, [byte_size(V) || V <- Values]).

%% Whatever ends it, `stream' leaves the caller's mailbox as it was.
-spec collect_leaves_nothing_in_the_mailbox(ct_suite:ct_config()) -> ok.
collect_leaves_nothing_in_the_mailbox(Config) ->
    Sources = ?config(sources, Config),
    Sign = path(sign(Config)),
    self() ! other,
    Results = [
        py:stream(Sources, count, [1000]),
        py:stream(Sources, failing_after, [1000]),
        py:stream(Sources, forever, [], #{}, #{take => 1000}),
        py:stream(Sources, slow_start, [Sign], #{}, #{timeout => 10}),
        py:stream(no_such_module, count, [1]),
        py:stream(Sources, count, [wrong, number]),
        py:stream_eval(<<"1 +">>)
    ],
    ?assertMatch(
        [
            {ok, _},
            {error, {'ValueError', _}},
            {ok, _},
            {error, timeout},
            {error, {'ModuleNotFoundError', _}},
            {error, {'TypeError', _}},
            {error, {'SyntaxError', _}}
        ],
        Results
    ),
    test_leftovers:none(),
    ?assertEqual({messages, [other]}, process_info(self(), messages)).

%% A caller of `stream' that is killed takes its stream along.
-spec collect_for_a_caller_that_is_killed(ct_suite:ct_config()) -> ok.
collect_for_a_caller_that_is_killed(Config) ->
    Sources = ?config(sources, Config),
    [
        begin
            Sign = sign(Config),
            Caller = spawn(py, stream, [Sources, with_finally, [1 bsl 60, path(Sign), 0.001]]),
            test_eventually:true(fun() -> ets:info(py_streams, size) =:= 1 end),
            Running andalso test_eventually:true(fun() -> requests() > 0 end),
            exit(Caller, kill),
            test_eventually:equal(0, fun() -> ets:info(py_streams, size) end),
            test_leftovers:none()
        end
     || Running <- [true, false, true, false]
    ],
    ok.

requests() ->
    #{workers := Workers} = py:info(default),
    lists:sum([maps:get(requests, W, 0) || W <- Workers]).

%% An expression streams as a function's result does, with local variables by name.
-spec evaluate(ct_suite:ct_config()) -> ok.
evaluate(Config) ->
    Sources = atom_to_binary(?config(sources, Config)),
    Code = ["__import__('", Sources, "').count(n)"],
    ?assertEqual({ok, [0, 1, 2]}, py:stream_eval(Code, #{n => 3})),
    ?assertEqual({ok, [0, 1]}, py:stream_eval(Code, #{<<"n">> => 9}, #{take => 2})),
    ?assertEqual({ok, [1, 3]}, py:stream_eval(<<"(x for x in range(y) if x % 2)">>, #{y => 5})).

%%% The clock and the owner.

%% A stream whose next event does not come in time ends with `{error, timeout}', after the
%% events that did.
-spec timeout(ct_suite:ct_config()) -> ok.
timeout(Config) ->
    {ok, Never} = start_stream(slow_start, [path(sign(Config))], #{timeout => 20}, Config),
    ?assertEqual({[], {error, timeout}}, all_events(Never)),
    Args = [lists:seq(1, 50), path(sign(Config))],
    {ok, Late} = start_stream(yielding, Args, #{timeout => 100}, Config),
    ?assertEqual({lists:seq(1, 50), {error, timeout}}, all_events(Late)),
    %% Many short pauses are no long one.
    {ok, InTime} = start_stream(ticks, [20, 0.05], #{timeout => 800}, Config),
    ?assertEqual({lists:seq(0, 19), done}, all_events(InTime)).

%% The same for `stream' and `stream_eval'.
-spec timeout_of_collect(ct_suite:ct_config()) -> ok.
timeout_of_collect(Config) ->
    Sources = ?config(sources, Config),
    Opts = #{timeout => 20},
    Sign = path(sign(Config)),
    ?assertEqual({error, timeout}, py:stream(Sources, slow_start, [Sign], #{}, Opts)),
    ?assertEqual({error, timeout}, py:stream(Sources, yielding, [[1], Sign], #{}, Opts)),
    Code = ["__import__('", atom_to_list(Sources), "').slow_start(sign)"],
    ?assertEqual({error, timeout}, py:stream_eval(Code, #{sign => Sign}, Opts)).

%% Events go to the owner that was named, who may cancel; the starter gets none.
-spec owners(ct_suite:ct_config()) -> ok.
owners(Config) ->
    Self = self(),
    Owner = spawn_link(fun() ->
        receive
            {start, Ref} -> Self ! {self(), all_events(Ref)}
        end
    end),
    {ok, Ref} = start_stream(count, [500], #{owner => Owner}, Config),
    Owner ! {start, Ref},
    receive
        Message -> ?assertEqual({Owner, {lists:seq(0, 499), done}}, Message)
    end,
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% Arguments that are longer than any buffer on the way arrive whole, one after another.
-spec large_arguments(ct_suite:ct_config()) -> ok.
large_arguments(Config) ->
    Sources = ?config(sources, Config),
    [
        begin
            Text = binary:copy(<<"0123456789abcdef">>, Size div 16 + 1),
            ?assertEqual({ok, [[Text], #{}]}, py:stream(Sources, echo, [Text]))
        end
     || Size <- [60000, 65400, 65536, 131072, 5000000]
    ],
    Many = [
        begin
            {ok, Ref} = start_stream(echo, [N, binary:copy(<<"x">>, 30000)], Config),
            {N, Ref}
        end
     || N <- lists:seq(1, 20)
    ],
    [?assertMatch({[[N, _], #{}], done}, all_events(Ref)) || {N, Ref} <- Many],
    ok.

%% `stream_start' returns while the function that it names has not.
-spec start_does_not_wait(ct_suite:ct_config()) -> ok.
start_does_not_wait(Config) ->
    Sign = sign(Config),
    {ok, _} = py:stream_start(signs, wait, [path(Sign)]),
    {ok, Ref} = start_stream(count, [3], Config),
    ?assertEqual({[0, 1, 2], done}, all_events(Ref)),
    put_sign(Sign),
    receive
        {py_stream, _, Event} -> ?assertMatch({error, {'TypeError', _}}, Event)
    end.

%%% What the cases share.

start_stream(Function, Args, Config) ->
    start_stream(Function, Args, #{}, Config).

start_stream(Function, Args, Opts, Config) ->
    py:stream_start(?config(sources, Config), Function, Args, Opts).

full_result(Opts, Ref) ->
    {Values, Terminal} = all_events(Ref),
    {Opts, Values, Terminal}.

%% The stream's process ends after its last event.
monitor_stream(Ref) ->
    case ets:lookup(py_streams, Ref) of
        [Row] -> monitor(process, element(2, Row));
        [] -> monitor(process, spawn(fun() -> ok end))
    end.

sign(Config) ->
    Name = "sign" ++ integer_to_list(erlang:unique_integer([positive])),
    filename:join(?config(priv_dir, Config), Name).

path(Sign) ->
    unicode:characters_to_binary(Sign).

put_sign(Sign) ->
    ok = file:write_file(Sign, <<"x">>).

await_sign(Sign) ->
    test_eventually:true(fun() -> filelib:is_regular(Sign) end).
