%% @doc Flow control: how far a generator may be ahead of its owner, and that nobody is
%% forgotten on either side.
-module(py_window_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [all_values/1, batch_events/1, label/0, next_values/2, now_ms/0]).

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    a_sleeping_owner_stops_the_generator/1,
    a_window_is_never_exceeded/1,
    bytes_are_never_exceeded/1,
    a_value_larger_than_the_window/1,
    what_waits_for_the_window_comes_without_the_generators_help/1,
    demand/1,
    demand_past_the_window/1,
    demand_that_comes_too_late/1,
    batches/1,
    every_combination/1,
    formats/1,
    formatted_values_are_not_copied/1,
    no_timeout_while_the_owner_sleeps/1,
    timeout_of_a_generator_that_is_late/1,
    other_mail/1,
    an_owner_that_waits_for_something_else/1,
    an_owner_that_is_asleep_is_counted_once/1,
    one_count_at_a_time/1,
    two_streams_of_one_owner/1,
    a_fast_stream_holds_nobody_back/1,
    many_at_once/1,
    past_max_threads_streams_wait/1,
    past_max_streams_the_answer_is_overloaded/1,
    streams_spread_over_workers/1,
    two_workers_compute_at_the_same_time/1,
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
        a_sleeping_owner_stops_the_generator,
        a_window_is_never_exceeded,
        bytes_are_never_exceeded,
        a_value_larger_than_the_window,
        what_waits_for_the_window_comes_without_the_generators_help,
        demand,
        demand_past_the_window,
        demand_that_comes_too_late,
        batches,
        every_combination,
        formats,
        formatted_values_are_not_copied,
        no_timeout_while_the_owner_sleeps,
        timeout_of_a_generator_that_is_late,
        other_mail,
        an_owner_that_waits_for_something_else,
        an_owner_that_is_asleep_is_counted_once,
        one_count_at_a_time,
        two_streams_of_one_owner,
        a_fast_stream_holds_nobody_back,
        many_at_once
    ],
    Pools = [
        past_max_threads_streams_wait,
        past_max_streams_the_answer_is_overloaded,
        streams_spread_over_workers,
        two_workers_compute_at_the_same_time
    ],
    Nodes = [
        owner_on_another_node,
        a_count_sends_no_mail_back,
        sleeping_owner_on_another_node,
        other_mail_on_another_node,
        the_other_node_goes_down
    ],
    [{sync, [], Cases}, {async, [], Cases}, {pools, [], Pools}, {nodes, [], Nodes}].

-spec init_per_group(atom(), ct_suite:ct_config()) ->
    ct_suite:ct_config() | {skip, string()}.
init_per_group(async, Config) ->
    start([{flow, async_flow} | Config]);
init_per_group(nodes, Config) ->
    case test_other_node:distribution() of
        ok -> start([{flow, sync_flow} | Config]);
        Skip -> Skip
    end;
init_per_group(_Group, Config) ->
    start([{flow, sync_flow} | Config]).

start(Config) ->
    Path = [filename:join(?config(data_dir, Config), "sources")],
    Pool = #{workers => 1, python_path => Path, interrupt_after => 100},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{path, Path} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    try
        [ok = py:stream_cancel(element(1, Row)) || Row <- ets:tab2list(py_streams)],
        test_leftovers:none()
    catch
        error:Reason -> {fail, Reason}
    end.

%%% Windows.

%% A generator gets as far ahead of an owner that sleeps as its window, to the value, and goes
%% on when the owner wakes; nothing is lost.
-spec a_sleeping_owner_stops_the_generator(ct_suite:ct_config()) -> ok.
a_sleeping_owner_stops_the_generator(Config) ->
    [
        begin
            Owner = test_sleeper:start(),
            Label = label(),
            Opts = More#{owner => Owner, window => Window},
            {ok, Ref} = start_stream(numbers, [Label], Opts, Config),
            test_eventually:equal(Window, fun() -> length(test_sleeper:values(Owner, Ref)) end),
            stays(fun() -> length(test_sleeper:values(Owner, Ref)) =:= Window end),
            ?assertEqual(Window, pulled(Label, Config)),
            %% Half a window that is taken makes room for more.
            Half = take_values(Owner, Ref, (Window + 1) div 2),
            test_eventually:true(fun() -> pulled(Label, Config) > Window end),
            ?assert(length(test_sleeper:values(Owner, Ref)) =< Window),
            %% All that is there makes room for nearly as many.
            Rest = take_values(Owner, Ref, length(test_sleeper:values(Owner, Ref))),
            test_eventually:true(fun() -> length(test_sleeper:values(Owner, Ref)) >= least(Window) end),
            Taken = Half ++ Rest,
            %% The generator is no further than what is here.
            test_eventually:equal(length(Taken), fun() ->
                pulled(Label, Config) - length(test_sleeper:values(Owner, Ref))
            end),
            ?assert(length(test_sleeper:values(Owner, Ref)) =< Window),
            ok = py:stream_cancel(Ref),
            {Values, {error, cancelled}} = test_sleeper:take_all(Owner, Ref),
            ?assertEqual(lists:seq(0, length(Taken ++ Values) - 1), Taken ++ Values),
            test_sleeper:stop(Owner)
        end
     || Window <- [1, 2, 3, 4, 7, 8, 100], More <- [#{}, #{batch => 3}]
    ],
    %% It sleeps in the middle of a long stream.
    Owner = test_sleeper:start(),
    {ok, Ref} = start_stream(count, [20000], #{owner => Owner}, Config),
    test_eventually:equal(1024, fun() -> length(test_sleeper:mail(Owner)) end),
    ?assertEqual({lists:seq(0, 19999), done}, test_sleeper:take_all(Owner, Ref)),
    test_sleeper:stop(Owner).

%% What an owner finds at least when it has taken values and sleeps again. Credit is given for
%% a quarter of the window, and for a frame when all of it was taken; a frame has a quarter of
%% the window at most.
least(Window) ->
    NoCredit = (Window + 3) div 4 - 1,
    PartOfAFrame = max(1, Window div 4) - 1,
    Window - NoCredit - PartOfAFrame.

take_values(_Owner, _Ref, N) when N =< 0 ->
    [];
take_values(Owner, Ref, N) ->
    [Event] = test_sleeper:take(Owner, Ref, 1),
    values_of(Event) ++ take_values(Owner, Ref, N - length(values_of(Event))).

%% At no moment are there more values in the owner's mailbox than the window has, while
%% the owner takes them one by one and in lots.
-spec a_window_is_never_exceeded(ct_suite:ct_config()) -> ok.
a_window_is_never_exceeded(Config) ->
    [
        begin
            Owner = test_sleeper:start(),
            Opts = More#{owner => Owner, window => Window},
            {ok, Ref} = start_stream(count, [Window * 40], Opts, Config),
            Taken = take_and_look(Owner, Ref, fun(Values) -> length(Values) =< Window end),
            ?assertEqual(lists:seq(0, Window * 40 - 1), Taken),
            test_sleeper:stop(Owner)
        end
     || Window <- [1, 2, 3, 5, 8, 64], More <- [#{}, #{batch => 4}]
    ],
    ok.

%% The same for bytes: what is in flight never takes more than the window, encoded, but for one
%% value.
-spec bytes_are_never_exceeded(ct_suite:ct_config()) -> ok.
bytes_are_never_exceeded(Config) ->
    [
        begin
            Owner = test_sleeper:start(),
            Label = label(),
            Opts = More#{owner => Owner, window_bytes => Bytes, take => 60},
            {ok, Ref} = start_stream(sized, [Label, Sizes], Opts, Config),
            Fits = fun(Values) ->
                length(Values) =< 1 orelse lists:sum([byte_size(V) || V <- Values]) =< Bytes
            end,
            Taken = take_and_look(Owner, Ref, Fits),
            Numbers = [binary_to_integer(binary:part(V, 0, 20)) || V <- Taken],
            ?assertEqual(lists:seq(0, 59), Numbers),
            test_sleeper:stop(Owner)
        end
     || Bytes <- [1, 100, 300, 1000, 5000],
        Sizes <- [[0], [100], [0, 250], [10, 1000, 10, 4000], [6000, 1, 1, 1]],
        More <- [#{}, #{batch => 5}]
    ],
    ok.

%% Takes a stream's events a few at a time; before each time the mailbox must pass.
take_and_look(Owner, Ref, IsRight) ->
    take_and_look(Owner, Ref, IsRight, 1, []).

take_and_look(Owner, Ref, IsRight, N, Taken) ->
    Values = test_sleeper:values(Owner, Ref),
    IsRight(Values) orelse ct:fail("too much is out: ~b values", [length(Values)]),
    Events = test_sleeper:take(Owner, Ref, N),
    More = lists:append([values_of(Event) || Event <- Events]),
    case lists:last(Events) of
        done -> Taken ++ More;
        _ -> take_and_look(Owner, Ref, IsRight, 1 + N rem 5, Taken ++ More)
    end.

values_of({data, Value}) -> [Value];
values_of({batch, Values}) -> Values;
values_of(_) -> [].

%% A value that is larger than the whole window comes when nothing else is out.
-spec a_value_larger_than_the_window(ct_suite:ct_config()) -> ok.
a_value_larger_than_the_window(Config) ->
    Owner = test_sleeper:start(),
    Label = label(),
    Opts = #{owner => Owner, window_bytes => 1000},
    {ok, Ref} = start_stream(sized, [Label, [100000]], Opts, Config),
    test_eventually:equal(1, fun() -> length(test_sleeper:mail(Owner)) end),
    stays(fun() -> length(test_sleeper:mail(Owner)) =:= 1 end),
    ?assertEqual(1, pulled(Label, Config)),
    [?assertMatch([{data, _}], test_sleeper:take(Owner, Ref, 1)) || _ <- lists:seq(1, 20)],
    test_sleeper:stop(Owner).

%% A value that did not fit into what was left of its window comes when its owner has made
%% room, although the generator waits for something else by then.
-spec what_waits_for_the_window_comes_without_the_generators_help(ct_suite:ct_config()) -> ok.
what_waits_for_the_window_comes_without_the_generators_help(Config) ->
    [
        begin
            {ok, Ref} = start_stream(then_wait, [Sizes], #{window_bytes => Bytes}, Config),
            Values = [
                begin
                    {ok, Value} = py:stream_next(Ref, ?LONG),
                    Value
                end
             || _ <- Sizes
            ],
            ?assertEqual(Sizes, [byte_size(V) || V <- Values]),
            ok = py:stream_cancel(Ref, [flush])
        end
     || {Bytes, Sizes} <- [
            {1000, [200, 700]},
            {1000, [200, 700, 200, 700, 900]},
            {1000, lists:duplicate(30, 10) ++ [900]},
            {4000000, [300000, 3900000, 5]},
            {100000, lists:duplicate(10, 30000)}
        ]
    ],
    ok.

%%% Demand.

%% With `demand' as many values come as were asked for, and no more, whoever asks.
-spec demand(ct_suite:ct_config()) -> ok.
demand(Config) ->
    Owner = test_sleeper:start(),
    Label = label(),
    {ok, Ref} = start_stream(numbers, [Label], #{owner => Owner, demand => 0}, Config),
    Has = fun(N) ->
        test_eventually:equal(N, fun() -> length(test_sleeper:values(Owner, Ref)) end),
        stays(fun() -> length(test_sleeper:values(Owner, Ref)) =:= N end),
        ?assertEqual(N, pulled(Label, Config))
    end,
    Has(0),
    ok = py:stream_demand(Ref, 1),
    Has(1),
    ok = py:stream_demand(Ref, 2),
    ok = py:stream_demand(Ref, 3),
    Has(6),
    {_, Monitor} = spawn_monitor(fun() -> ok = py:stream_demand(Ref, 300) end),
    receive
        {'DOWN', Monitor, _, _, normal} -> ok
    end,
    Has(306),
    test_sleeper:stop(Owner),
    {ok, Ten} = start_stream(numbers, [label()], #{demand => 10}, Config),
    ?assertEqual(lists:seq(0, 9), next_values(10, Ten)),
    ?assertEqual(timeout, py:stream_next(Ten, 30)),
    ok = py:stream_cancel(Ten, [flush]).

%% A demand past the window, even past every number, is kept to by and by.
-spec demand_past_the_window(ct_suite:ct_config()) -> ok.
demand_past_the_window(Config) ->
    Owner = test_sleeper:start(),
    Opts = #{owner => Owner, demand => 1, window => 5},
    {ok, Ref} = start_stream(numbers, [label()], Opts, Config),
    ok = py:stream_demand(Ref, 19),
    test_eventually:equal(5, fun() -> length(test_sleeper:mail(Owner)) end),
    stays(fun() -> length(test_sleeper:mail(Owner)) =:= 5 end),
    ?assertEqual([{data, N} || N <- lists:seq(0, 19)], test_sleeper:take(Owner, Ref, 20)),
    stays(fun() -> test_sleeper:mail(Owner) =:= [] end),
    ok = py:stream_demand(Ref, 1 bsl 64),
    ok = py:stream_demand(Ref, 1 bsl 64),
    ?assertEqual(3000, length(test_sleeper:take(Owner, Ref, 3000))),
    test_sleeper:stop(Owner).

%% Asking for more of a stream that has ended, or never was, or does not need it, is `ok'.
-spec demand_that_comes_too_late(ct_suite:ct_config()) -> ok.
demand_that_comes_too_late(Config) ->
    {ok, Ref} = start_stream(count, [3], #{demand => 9}, Config),
    ?assertEqual({[0, 1, 2], done}, all_values(Ref)),
    ?assertEqual(ok, py:stream_demand(Ref, 1)),
    ?assertEqual(ok, py:stream_demand(make_ref(), 1)),
    {ok, Free} = start_stream(count, [3000], Config),
    ?assertEqual(ok, py:stream_demand(Free, 1)),
    ?assertEqual({lists:seq(0, 2999), done}, all_values(Free)),
    %% A demand of exactly what there is: the end needs none.
    {ok, Exact} = start_stream(count, [3], #{demand => 3, take => 3}, Config),
    ?assertEqual({[0, 1, 2], done}, all_values(Exact)),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%%% Batches and formats.

%% With `batch' every event has from one to that many values; fast ones share events.
-spec batches(ct_suite:ct_config()) -> ok.
batches(Config) ->
    [
        begin
            {ok, Ref} = start_stream(count, [Count], #{batch => N}, Config),
            {Batches, done} = batch_events(Ref),
            ?assertEqual(lists:seq(0, Count - 1), lists:append(Batches)),
            ?assert(lists:all(fun(B) -> length(B) >= 1 andalso length(B) =< N end, Batches)),
            Count < 1000 orelse N < 10 orelse ?assert(length(Batches) < Count div 2)
        end
     || N <- [1, 2, 10, 256, 1000000], Count <- [0, 1, 9, 5000]
    ],
    ok.

%% Small windows, batches, `take' and `demand' together give the same values as each alone.
-spec every_combination(ct_suite:ct_config()) -> {comment, string()}.
every_combination(Config) ->
    All = [
        maps:from_list(lists:append([Window, Batch, Take, Demand, Bytes]))
     || Window <- [[{window, N}] || N <- lists:seq(1, 8)],
        Batch <- [[], [{batch, 1}], [{batch, 3}], [{batch, 100}]],
        Take <- [[], [{take, 1}], [{take, 7}], [{take, 30}]],
        Demand <- [[], [{demand, 0}], [{demand, 5}]],
        Bytes <- [[], [{window_bytes, 1}], [{window_bytes, 150}]]
    ],
    lists:foreach(
        fun(Opts) ->
            {ok, Ref} = start_stream(count, [30], Opts, Config),
            Expected = lists:seq(0, maps:get(take, Opts, 30) - 1),
            Given = maps:get(demand, Opts, infinity),
            ?assertEqual({Opts, Expected}, {Opts, on_demand(Ref, Given, 0, [])})
        end,
        All
    ),
    {comment, lists:concat([length(All), " combinations"])}.

%% Asks for one more whenever all that was asked for is there.
on_demand(Ref, Asked, Asked, Values) ->
    ok = py:stream_demand(Ref, 1),
    on_demand(Ref, Asked + 1, Asked, Values);
on_demand(Ref, Asked, Got, Values) ->
    receive
        {py_stream, Ref, {data, Value}} ->
            on_demand(Ref, Asked, Got + 1, [Value | Values]);
        {py_stream, Ref, {batch, Batch}} ->
            on_demand(Ref, Asked, Got + length(Batch), lists:reverse(Batch, Values));
        {py_stream, Ref, done} ->
            lists:reverse(Values)
    after ?LONG -> error({stuck, Asked, Got})
    end.

%% `json' and `msgpack' give each value as one binary, alone or in batches.
-spec formats(ct_suite:ct_config()) -> ok.
formats(Config) ->
    Json = [
        <<"{\"i\":", (integer_to_binary(I))/binary, ",\"text\":\"ttt\"}">>
     || I <- lists:seq(0, 299)
    ],
    MsgPack = [msgpack(I) || I <- lists:seq(0, 299)],
    [
        begin
            {ok, Ref} = start_stream(texts, [300, 3], Opts#{format => Format}, Config),
            ?assertEqual({Opts, {Expected, done}}, {Opts, all_values(Ref)})
        end
     || {Format, Expected} <- [{json, Json}, {msgpack, MsgPack}],
        Opts <- [#{}, #{batch => 7}, #{window => 3}, #{window_bytes => 200}, #{take => 300}]
    ],
    Collected = py:stream(?config(flow, Config), texts, [300, 3], #{}, #{format => json}),
    ?assertEqual({ok, Json}, Collected).

%% A map of two: the number and three letters (MessagePack specification).
msgpack(I) when I < 128 -> <<16#82, 16#a1, "i", I, 16#a4, "text", 16#a3, "ttt">>;
msgpack(I) when I < 256 -> <<16#82, 16#a1, "i", 16#cc, I, 16#a4, "text", 16#a3, "ttt">>;
msgpack(I) -> <<16#82, 16#a1, "i", 16#cd, I:16, 16#a4, "text", 16#a3, "ttt">>.

%% Formatted values of more than 64 bytes are shared between the processes that they pass
%% through.
-spec formatted_values_are_not_copied(ct_suite:ct_config()) -> ok.
formatted_values_are_not_copied(Config) ->
    [
        begin
            Opts = More#{format => json, take => 5},
            {ok, Ref} = start_stream(texts, [5, Size], Opts, Config),
            {Values, done} = all_values(Ref),
            erlang:garbage_collect(),
            {binary, Shared} = process_info(self(), binary),
            ?assert(length(lists:usort(Shared)) >= 1),
            %% On the heap of this process there are no bytes of them.
            {heap_size, Words} = process_info(self(), heap_size),
            ?assert(Words * erlang:system_info(wordsize) < 5 * Size),
            [?assert(byte_size(V) > Size) || V <- Values]
        end
     || Size <- [200000], More <- [#{}, #{batch => 2}]
    ],
    ok.

%%% The clock.

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

%%% Owners with other mail, and many streams.

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
    1 = erlang:trace(whereis(py_mail_counter), true, [procs]),
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
    Counts = counts_until_none(fun() -> [stays(Full) || _ <- lists:seq(1, 20)] end, 20),
    ?assert(lists:sum(Counts) =< Streams, Counts),
    1 = erlang:trace(whereis(py_mail_counter), false, [procs]),
    %% It is noticed when it wakes up.
    [?assertEqual(500, length(test_sleeper:take(Owner, Ref, 500))) || Ref <- Refs],
    test_sleeper:stop(Owner).

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

%% An owner that takes one stream's events alone gets them all; the other stream waits in
%% its window, and comes afterwards.
-spec two_streams_of_one_owner(ct_suite:ct_config()) -> ok.
two_streams_of_one_owner(Config) ->
    {ok, Left} = start_stream(count, [5000], #{window => 2000}, Config),
    {ok, Right} = start_stream(count, [20000], #{window => 50}, Config),
    ?assertEqual({lists:seq(0, 19999), done}, all_values(Right)),
    ?assertEqual({lists:seq(0, 4999), done}, all_values(Left)).

%% While a stream runs at full speed, another one's rare values, calls, demands and
%% cancels on the same worker take their usual time. (The bounds are far from what is
%% measured in docs/benchmarks.md: these machines do other things as well.)
-spec a_fast_stream_holds_nobody_back(ct_suite:ct_config()) -> ok.
a_fast_stream_holds_nobody_back(Config) ->
    Eater = spawn_link(fun Eat() ->
        receive
            {py_stream, _, {error, cancelled}} -> ok;
            _ -> Eat()
        end
    end),
    {ok, Fast} = start_stream(numbers, [label()], #{owner => Eater}, Config),
    Before = now_ms(),
    {ok, Rare} = start_stream(ticks, [20, 0.01], Config),
    ?assertEqual({lists:seq(0, 19), done}, all_values(Rare)),
    [?assertEqual({ok, N}, py:call(builtins, abs, [-N])) || N <- lists:seq(1, 20)],
    {ok, Asked} = start_stream(numbers, [label()], #{demand => 0}, Config),
    [
        begin
            ok = py:stream_demand(Asked, 1),
            ?assertEqual({ok, N}, py:stream_next(Asked, ?LONG))
        end
     || N <- lists:seq(0, 19)
    ],
    ok = py:stream_cancel(Asked),
    ?assertEqual({error, cancelled}, py:stream_next(Asked, ?LONG)),
    Took = now_ms() - Before,
    ok = py:stream_cancel(Fast),
    ct:log("took ~b ms", [Took]),
    ?assert(Took < 5000).

%% A thousand sync generators, or ten thousand async ones, that pause between their values
%% run side by side on one worker.
-spec many_at_once(ct_suite:ct_config()) -> {comment, string()}.
many_at_once(Config) ->
    Count =
        case ?config(flow, Config) of
            sync_flow -> 1000;
            async_flow -> 10000
        end,
    Before = now_ms(),
    Refs = [
        begin
            {ok, Ref} = start_stream(ticks, [3, 0.1], Config),
            Ref
        end
     || _ <- lists:seq(1, Count)
    ],
    [?assertEqual({[0, 1, 2], done}, all_values(Ref)) || Ref <- Refs],
    Took = now_ms() - Before,
    %% One after another they would take 300 ms each.
    ?assert(Took < Count * 300 div 10),
    {comment, lists:concat([Count, " streams in ", Took, " ms"])}.

%%% Pools.

%% Streams past `max_threads' wait for one, which shows in `info', and all are served.
-spec past_max_threads_streams_wait(ct_suite:ct_config()) -> ok.
past_max_threads_streams_wait(Config) ->
    {ok, _} = py:start_pool(narrow, pool(#{max_threads => 2}, Config)),
    Opts = #{pool => narrow, window => 1},
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, count, [5], Opts#{owner => test_sleeper:start()}),
            Ref
        end
     || _ <- lists:seq(1, 3)
    ],
    ?assertEqual(3, length(Refs)),
    test_eventually:equal([{2, 1}], fun() -> threads(narrow) end),
    %% Neither a call nor an async stream waits for them.
    ?assertEqual({ok, 1}, py:call(builtins, abs, [-1], #{}, #{pool => narrow})),
    ?assertEqual({ok, [0, 1]}, py:stream(async_flow, count, [2], #{}, #{pool => narrow})),
    %% Their turn is that of their start: with windows of one value, none of the last three
    %% can end before this process has read the first two.
    Own = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, Function, [5], Opts),
            Ref
        end
     || Function <- [count_late, count, count, count, count]
    ],
    test_eventually:equal([{2, 6}], fun() -> threads(narrow) end),
    [ok = py:stream_cancel(Ref) || Ref <- Refs],
    [?assertEqual({lists:seq(0, 4), done}, all_values(Ref)) || Ref <- Own],
    test_eventually:equal([{0, 0}], fun() -> threads(narrow) end),
    ok = py:stop_pool(narrow).

threads(Pool) ->
    #{workers := Workers} = py:info(Pool),
    [{Running, Waiting} || #{sync_streams := Running, waiting_streams := Waiting} <- Workers].

%% Past `max_streams' the answer is `{error, overloaded}', until one has ended.
-spec past_max_streams_the_answer_is_overloaded(ct_suite:ct_config()) -> ok.
past_max_streams_the_answer_is_overloaded(Config) ->
    {ok, _} = py:start_pool(small, pool(#{max_streams => 3, workers => 2}, Config)),
    Opts = #{pool => small, demand => 0},
    %% Three on each of two workers.
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, numbers, [label()], Opts),
            Ref
        end
     || _ <- lists:seq(1, 6)
    ],
    ?assertEqual({error, overloaded}, py:stream_start(sync_flow, count, [1], Opts)),
    ?assertEqual({error, overloaded}, py:stream(sync_flow, count, [1], #{}, #{pool => small})),
    ?assertEqual({error, overloaded}, py:stream_eval("[1]", #{}, #{pool => small})),
    ?assertEqual({ok, 1}, py:call(builtins, abs, [-1], #{}, #{pool => small})),
    #{workers := Workers} = py:info(small),
    ?assertEqual([3, 3], [maps:get(streams, W) || W <- Workers]),
    ok = py:stream_cancel(hd(Refs), [flush]),
    test_eventually:true(fun() -> py:stream_eval("[1]", #{}, #{pool => small}) =:= {ok, [1]} end),
    ok = py:stop_pool(small),
    %% All that were left have got their terminal event.
    [
        ?assertEqual({[], {error, {worker_exit, stopped}}}, all_values(Ref))
     || Ref <- tl(Refs)
    ],
    ok.

%% Streams go to the worker that has the fewest requests.
-spec streams_spread_over_workers(ct_suite:ct_config()) -> ok.
streams_spread_over_workers(Config) ->
    {ok, _} = py:start_pool(wide, pool(#{workers => 3}, Config)),
    Opts = #{pool => wide, demand => 0},
    Start = fun() ->
        {ok, Ref} = py:stream_start(sync_flow, numbers, [label()], Opts),
        Ref
    end,
    Refs = [Start() || _ <- lists:seq(1, 12)],
    Loads = fun() ->
        #{workers := Workers} = py:info(wide),
        lists:sort([maps:get(streams, W) || W <- Workers])
    end,
    ?assertEqual([4, 4, 4], Loads()),
    %% Where some have ended, there the next ones go.
    [ok = py:stream_cancel(Ref, [flush]) || Ref <- lists:sublist(Refs, 5)],
    test_eventually:equal(7, fun() -> lists:sum(Loads()) end),
    [Start() || _ <- lists:seq(1, 5)],
    ?assertEqual([4, 4, 4], Loads()),
    ok = py:stop_pool(wide).

%% Two streams that compute do so in two processes at the same time.
-spec two_workers_compute_at_the_same_time(ct_suite:ct_config()) -> ok.
two_workers_compute_at_the_same_time(Config) ->
    {ok, _} = py:start_pool(pair, pool(#{workers => 2}, Config)),
    Folder = filename:join(?config(priv_dir, Config), "working"),
    ok = file:make_dir(Folder),
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, working, [list_to_binary(Folder), 2], #{pool => pair}),
            Ref
        end
     || _ <- [1, 2]
    ],
    [{[A], done}, {[B], done}] = [all_values(Ref) || Ref <- Refs],
    ?assertNotEqual(A, B),
    ok = py:stop_pool(pair).

pool(Opts, Config) ->
    maps:merge(#{workers => 1, python_path => ?config(path, Config)}, Opts).

%%% Owners on other nodes, which have nothing of this application.

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

%% When the owner's node goes down its streams are cancelled.
-spec the_other_node_goes_down(ct_suite:ct_config()) -> ok.
the_other_node_goes_down(Config) ->
    with_node(fun(Node) ->
        Owner = test_sleeper:start(Node),
        {ok, _} = start_stream(numbers, [label()], #{owner => Owner}, Config),
        test_eventually:equal(1024, fun() -> length(test_sleeper:mail(Owner)) end)
    end),
    test_leftovers:none().

with_node(Fun) ->
    {Peer, Node} = test_other_node:start([]),
    try
        Fun(Node)
    after
        peer:stop(Peer)
    end.

%%% What the cases share.

start_stream(Function, Args, Config) ->
    start_stream(Function, Args, #{}, Config).

start_stream(Function, Args, Opts, Config) ->
    py:stream_start(?config(flow, Config), Function, Args, Opts).

%% How many values were asked of a generator.
pulled(Label, Config) ->
    {ok, Count} = py:call(?config(flow, Config), progress, [Label]),
    Count.

%% What is true stays true while the worker answers calls, and for a moment longer than
%% any clock in it.
stays(Fun) ->
    [
        begin
            {ok, _} = py:call(time, sleep, [0.004]),
            ?assert(Fun())
        end
     || _ <- lists:seq(1, 5)
    ],
    ok.
