%% @doc What events are made of: batches, formats, and every combination of what limits them.
-module(py_batches_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_flow, [start_stream/4]).
-import(test_stream_events, [all_values/1, batch_events/1]).

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    batches/1,
    every_combination/1,
    formats/1,
    formatted_values_are_not_copied/1
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
        batches,
        every_combination,
        formats,
        formatted_values_are_not_copied
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

%%% Helpers.

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

%% A map of two: the number and three letters (MessagePack specification).
msgpack(I) when I < 128 -> <<16#82, 16#a1, "i", I, 16#a4, "text", 16#a3, "ttt">>;
msgpack(I) when I < 256 -> <<16#82, 16#a1, "i", 16#cc, I, 16#a4, "text", 16#a3, "ttt">>;
msgpack(I) -> <<16#82, 16#a1, "i", 16#cd, I:16, 16#a4, "text", 16#a3, "ttt">>.
