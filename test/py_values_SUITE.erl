%% @doc A value is what it was when it was yielded, whatever the generator does to the
%% object afterwards: every kind of object that can change, as terms, MessagePack and JSON,
%% by every way to stream, with every window and batch.
-module(py_values_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([
    streams/1,
    windows_and_batches/1,
    formats/1,
    take/1,
    collected/1,
    evaluated/1,
    fixed_and_changing_values_in_turn/1,
    messages/1,
    the_stream_ends_at_a_value_that_cannot_be_sent/1
]).

-define(COUNT, 600).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        streams,
        windows_and_batches,
        formats,
        take,
        collected,
        evaluated,
        fixed_and_changing_values_in_turn,
        messages,
        the_stream_ends_at_a_value_that_cannot_be_sent
    ].

-spec init_per_suite([term()]) -> [term()].
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{
        default => #{workers => 1, python_path => [?config(data_dir, Config)]}
    }),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite([term()]) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

%% Every kind of object, and what value number I is.
kinds() ->
    Map = fun(I) -> #{<<"i">> => I} end,
    List = fun(I) -> [I] end,
    Bytes = fun(I) -> <<I:32>> end,
    [
        {in_dict, Map},
        {in_list, List},
        {in_tuple, fun(I) -> {Map(I)} end},
        {in_set, List},
        {in_bytearray, Bytes},
        {in_memoryview, Bytes},
        {in_dataclass, Map},
        {in_cursor, Map},
        {cleared, List},
        {by_finally, List},
        {by_a_thread, List},
        {made_unsendable_later, List},
        {async_dict, Map},
        {async_awaiting, List}
    ].

%% What an owner gets one by one.
-spec streams([term()]) -> ok.
streams(_Config) ->
    [check(Kind, Value, #{}) || {Kind, Value} <- kinds()],
    ok.

%% Runs of every length, and an owner that stops the generator again and again.
-spec windows_and_batches([term()]) -> ok.
windows_and_batches(_Config) ->
    [
        check(Kind, Value, Opts)
     || {Kind, Value} <- kinds(),
        Opts <- [
            #{window => 1},
            #{window => 8},
            #{window => 100, window_bytes => 300},
            #{batch => 1},
            #{batch => 7},
            #{batch => 256}
        ]
    ],
    ok.

%% Binaries in other formats are made at the yield, too.
-spec formats([term()]) -> ok.
formats(_Config) ->
    Json = fun(I) -> iolist_to_binary(io_lib:format("{\"i\":~p}", [I])) end,
    MsgPack = fun
        (I) when I < 128 -> <<16#81, 16#a1, $i, I>>;
        (I) when I < 256 -> <<16#81, 16#a1, $i, 16#cc, I>>;
        (I) -> <<16#81, 16#a1, $i, 16#cd, I:16>>
    end,
    [
        check(Kind, Value, #{format => Format})
     || Kind <- [in_dict, in_dataclass, in_cursor, async_dict],
        {Format, Value} <- [{json, Json}, {msgpack, MsgPack}]
    ],
    ok.

%% The last value that is taken is the object before its generator is closed.
-spec take([term()]) -> ok.
take(_Config) ->
    [
        ?assertEqual(
            [I || I <- lists:seq(0, Take - 1)],
            [I || [I] <- stream(by_finally, 1000, #{take => Take})]
        )
     || Take <- [1, 2, 5, 100, 700]
    ],
    ok.

-spec collected([term()]) -> ok.
collected(_Config) ->
    [
        ?assertEqual({Kind, {ok, expected(Value)}}, {Kind, py:stream(reusing, Kind, [?COUNT])})
     || {Kind, Value} <- kinds()
    ],
    ok.

-spec evaluated([term()]) -> ok.
evaluated(_Config) ->
    Code = <<"(row for row in [[0]] for i in range(n) if not row.__setitem__(0, i))">>,
    ?assertEqual(
        {ok, [[I] || I <- lists:seq(0, ?COUNT - 1)]},
        py:stream_eval(Code, #{n => ?COUNT}, #{})
    ).

%% A run that began with values that cannot change.
-spec fixed_and_changing_values_in_turn([term()]) -> ok.
fixed_and_changing_values_in_turn(_Config) ->
    check(
        mixed,
        fun
            (I) when I rem 2 =:= 0 -> I;
            (I) -> [I]
        end,
        #{}
    ).

%% What Python sends by itself is encoded when it is sent.
-spec messages([term()]) -> ok.
messages(_Config) ->
    ?assertEqual({ok, ?COUNT}, py:call(reusing, sends, [self(), ?COUNT])),
    [
        receive
            Message -> ?assertEqual(#{<<"i">> => I}, Message)
        after 10000 -> ct:fail({missing, I})
        end
     || I <- lists:seq(0, ?COUNT - 1)
    ],
    ok.

%% The values before it come, and the generator is not resumed.
-spec the_stream_ends_at_a_value_that_cannot_be_sent([term()]) -> ok.
the_stream_ends_at_a_value_that_cannot_be_sent(_Config) ->
    ok = py:exec(<<
        "resumed = []\n"
        "def bad(n):\n"
        "    yield from range(n)\n"
        "    yield [object()]\n"
        "    resumed.append(n)\n"
    >>),
    [
        begin
            {ok, Ref} = py:stream_start('__main__', bad, [N]),
            {Values, End} = events(Ref, []),
            ?assertEqual(lists:seq(0, N - 1), Values),
            ?assertMatch({error, {'TypeError', _}}, End)
        end
     || N <- [0, 1, 5, 100, 500]
    ],
    ?assertEqual({ok, []}, py:eval(<<"resumed">>)).

%%% What the cases share.

check(Kind, Value, Opts) ->
    Expected = expected(Value),
    ?assertEqual({Kind, Opts, Expected}, {Kind, Opts, stream(Kind, ?COUNT, Opts)}).

expected(Value) ->
    [Value(I) || I <- lists:seq(0, ?COUNT - 1)].

stream(Kind, Count, Opts) ->
    {ok, Ref} = py:stream_start(reusing, Kind, [Count], Opts),
    {Values, done} = events(Ref, []),
    Values.

events(Ref, Values) ->
    receive
        {py_stream, Ref, {data, Value}} -> events(Ref, [Value | Values]);
        {py_stream, Ref, {batch, Run}} -> events(Ref, lists:reverse(Run, Values));
        {py_stream, Ref, End} -> {lists:reverse(Values), End}
    after 10000 -> {lists:reverse(Values), nothing}
    end.
