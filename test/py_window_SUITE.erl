%% @doc Flow control: how far a generator may be ahead of its owner, in values, in bytes, and by demand.
-module(py_window_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(test_flow, [least/1, pulled/2, start_stream/3, start_stream/4, stays/1]).
-import(test_stream_events, [all_values/1, label/0, next_values/2]).

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
    demand_that_comes_too_late/1
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
        demand_that_comes_too_late
    ],
    [{sync, [], Cases}, {async, [], Cases}].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(Group, Config) ->
    test_flow:start(Group, Config).

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    test_flow:stop().

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    test_flow:end_of_case().

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

%%% Helpers.

take_values(_Owner, _Ref, N) when N =< 0 ->
    [];
take_values(Owner, Ref, N) ->
    [Event] = test_sleeper:take(Owner, Ref, 1),
    values_of(Event) ++ take_values(Owner, Ref, N - length(values_of(Event))).

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
