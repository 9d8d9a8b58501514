%% @doc Frames: what this side writes and reads is what test/golden/frames.txt says.
%%
%% test/python/test_frames.py holds the other side to the same file.
-module(py_frame_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    python_reads_what_is_written/1,
    what_python_writes_is_read/1,
    nonsense_is_an_error/1,
    any_bytes_are_a_frame_or_an_error/1,
    no_atoms_are_made/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        python_reads_what_is_written,
        what_python_writes_is_read,
        nonsense_is_an_error,
        any_bytes_are_a_frame_or_an_error,
        no_atoms_are_made
    ].

%% Every frame that goes to Python has the bytes of the golden file.
-spec python_reads_what_is_written(ct_suite:ct_config()) -> ok.
python_reads_what_is_written(Config) ->
    Golden = golden("to_python", Config),
    ?assert(length(Golden) > 10),
    [
        ?assertEqual({Name, Bytes}, {Name, evaluate("iolist_to_binary(" ++ Erlang ++ ")")})
     || {Name, Bytes, Erlang} <- Golden
    ],
    ok.

%% Every frame that Python writes is taken apart as the golden file says.
-spec what_python_writes_is_read(ct_suite:ct_config()) -> ok.
what_python_writes_is_read(Config) ->
    Golden = golden("to_erlang", Config),
    ?assert(length(Golden) > 10),
    [
        %% An address is one of the node that reads it, whatever that is called today.
        ?assertEqual({Name, true}, {Name, matches(Erlang, py_frame:parse(local(Bytes)))})
     || {Name, Bytes, Erlang} <- Golden
    ],
    ok.

%% What is no frame is an error, and no exception.
-spec nonsense_is_an_error(ct_suite:ct_config()) -> ok.
nonsense_is_an_error(Config) ->
    Golden = golden("nonsense", Config),
    ?assert(length(Golden) > 5),
    [
        ?assertEqual({Name, error}, {Name, py_frame:parse(local(Bytes))})
     || {Name, Bytes, _} <- Golden
    ],
    %% A process of another node is none of this worker's business.
    Elsewhere = <<131, 88, 119, 3, "a@b", 77:32, 0:32, 7:32>>,
    ?assertEqual(error, py_frame:parse(<<66, (byte_size(Elsewhere)), Elsewhere/binary, "x">>)).

%% Whatever bytes come, made at random or out of good frames, the answer is a frame or an
%% error. PY_FUZZ says how many are tried.
-spec any_bytes_are_a_frame_or_an_error(ct_suite:ct_config()) -> {comment, string()}.
any_bytes_are_a_frame_or_an_error(Config) ->
    Seed = {1, 2, 3},
    Tries = list_to_integer(os:getenv("PY_FUZZ", "20000")),
    ct:log("seed ~p, ~p tries", [Seed, Tries]),
    _ = rand:seed(exsss, Seed),
    Good = list_to_tuple([local(Bytes) || {_, Bytes, _} <- golden("to_erlang", Config)]),
    Any = fun() -> element(rand:uniform(tuple_size(Good)), Good) end,
    Kinds = [parsed(mutated(Any())) || _ <- lists:seq(1, Tries)],
    Errors = length([error || error <- Kinds]),
    ?assert(Errors > 0 andalso Errors < Tries),
    {comment, lists:concat([Errors, " errors in ", Tries, " tries"])}.

parsed(Bytes) ->
    case py_frame:parse(Bytes) of
        error -> error;
        {pong, Requests, Streams} when is_integer(Requests), is_integer(Streams) -> pong;
        {Kind, _, Payload} when is_atom(Kind), is_binary(Payload) -> Kind
    end.

mutated(Bytes) ->
    Size = byte_size(Bytes),
    At = rand:uniform(Size) - 1,
    <<Before:At/binary, Byte, After/binary>> = Bytes,
    case rand:uniform(4) of
        1 -> <<Before/binary, (rand:uniform(256) - 1), After/binary>>;
        2 -> Before;
        3 -> <<Before/binary, Byte, (rand:bytes(rand:uniform(20)))/binary, After/binary>>;
        4 -> rand:bytes(rand:uniform(40))
    end.

%% An address never makes an atom.
-spec no_atoms_are_made(ct_suite:ct_config()) -> ok.
no_atoms_are_made(_Config) ->
    Name = <<"never_heard_of_", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    Address = <<131, 88, 119, (byte_size(Name)), Name/binary, 77:32, 0:32, 0:32>>,
    ?assertEqual(error, py_frame:parse(<<66, (byte_size(Address)), Address/binary, "x">>)),
    ?assertError(badarg, binary_to_existing_atom(Name)).

%%% The golden file.

golden(Direction, Config) ->
    Tests = filename:dirname(string:trim(?config(data_dir, Config), trailing, "/")),
    File = filename:join([Tests, "golden", "frames.txt"]),
    {ok, Text} = file:read_file(File),
    [
        {binary_to_list(Name), binary:decode_hex(Hex), binary_to_list(Erlang)}
     || Line <- binary:split(Text, <<"\n">>, [global, trim]),
        [Way, Name, Hex, Erlang | _] <- [binary:split(Line, <<"\t">>, [global])],
        Way =:= list_to_binary(Direction)
    ].

-define(PID, <<131, 88, 119, 13, "nonode@nohost", 77:32, 0:32, 0:32>>).
-define(REF, <<131, 90, 3:16, 119, 13, "nonode@nohost", 0:32, 1:32, 2:32, 3:32>>).

bindings(Pid, Ref) ->
    Flags = fun(Binaries, Atoms, Traceback) ->
        #{binaries => Binaries, atoms => Atoms, traceback => Traceback}
    end,
    maps:to_list(#{
        'Pid' => Pid,
        'Ref' => Ref,
        'Address' => <<(byte_size(?PID)), ?PID/binary>>,
        'RefAddress' => <<(byte_size(?REF)), ?REF/binary>>,
        'Device' => binary:part(?PID, 1, byte_size(?PID) - 1),
        'Function' => py_frame:target(function, {<<"os">>, <<"abc">>}, [1], #{}),
        'Expression' => py_frame:target(expression, {<<"x + 1">>, <<>>}, [], #{<<"x">> => 2}),
        'Flagged' => Flags(bytes, atom, true),
        'Strings' => Flags(str, str, false),
        'Plain' => Flags(str, atom, false)
    }).

evaluate(Text) ->
    {value, Value, _} = erl_eval:exprs(
        parse(Text), bindings(binary_to_term(?PID), binary_to_term(?REF))
    ),
    Value.

%% Whether a value matches a pattern, in which some variables are bound.
matches(Pattern, Value) ->
    {Pid, Ref} = own(),
    Match = "case Value of " ++ Pattern ++ " -> true; _ -> Value end",
    {value, Result, _} = erl_eval:exprs(parse(Match), [{'Value', Value} | bindings(Pid, Ref)]),
    Result.

parse(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Expressions.

%% A pid and a reference of this node take the place of the golden ones.
local(Frame) ->
    {Pid, Ref} = own(),
    lists:foldl(
        fun({Golden, Own}, Acc) ->
            binary:replace(Acc, <<(byte_size(Golden)), Golden/binary>>, py_frame:address(Own))
        end,
        Frame,
        [{?PID, Pid}, {?REF, Ref}]
    ).

own() ->
    case get(own) of
        undefined ->
            put(own, {self(), make_ref()}),
            get(own);
        Own ->
            Own
    end.
