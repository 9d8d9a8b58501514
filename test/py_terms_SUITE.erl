%% @doc Every term, both ways, over a real port; with erlpack and without, with one worker each, so
%% that what is hostile to it is followed by work on the same one.
-module(py_terms_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([
    golden_terms/1,
    random_terms/1,
    random_terms_as_a_stream/1,
    terms_of_proper/1,
    atoms_by_option/1,
    binaries_by_option/1,
    binaries_that_are_not_utf8/1,
    bytes_and_msgpack/1,
    none_by_option/1,
    conversions/1,
    opaque_formats/1,
    large_opaque_values_are_shared/1,
    hostile_terms/1,
    hostile_values/1,
    hostile_values_in_a_stream/1,
    atoms_are_limited/1,
    sizes_and_times/1
]).

-define(SEED, 20240229).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 3}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, accelerator}, {group, erlpack}, {group, plain_python}].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        golden_terms,
        random_terms,
        random_terms_as_a_stream,
        terms_of_proper,
        atoms_by_option,
        binaries_by_option,
        binaries_that_are_not_utf8,
        bytes_and_msgpack,
        none_by_option,
        conversions,
        opaque_formats,
        large_opaque_values_are_shared,
        hostile_terms,
        hostile_values,
        hostile_values_in_a_stream,
        atoms_are_limited,
        sizes_and_times
    ],
    [{Group, [], Cases} || Group <- [accelerator, erlpack, plain_python]].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(Group, Config) ->
    Path = [?config(data_dir, Config)] ++ left_out(Group, Config),
    Pool = #{workers => 1, python_path => Path, cd => ?config(priv_dir, Config)},
    ok = application:set_env(erlang_python, pools, #{
        default => Pool,
        names => Pool#{atoms => str},
        nil => Pool#{none => nil},
        bytes => Pool#{binaries => bytes, none => undefined}
    }),
    {ok, _} = application:ensure_all_started(erlang_python),
    #{python := #{writer := Writer}} = py:info(default),
    Expected = case Group of plain_python -> python; _ -> Group end,
    case Writer of
        Expected -> Config;
        _ -> end_per_group(Group, Config), {skip, atom_to_list(Group) ++ " is not installed"}
    end.

%% A directory whose modules cannot be imported comes before the installed ones.
left_out(accelerator, _Config) -> [];
left_out(erlpack, Config) -> [filename:join(?config(data_dir, Config), "no_accelerator")];
left_out(plain_python, Config) ->
    left_out(erlpack, Config) ++ [filename:join(?config(data_dir, Config), "no_erlpack")].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_testcase(Case, Config) ->
    NeedsMsgpack = [bytes_and_msgpack, opaque_formats, large_opaque_values_are_shared],
    case not lists:member(Case, NeedsMsgpack) orelse has_msgpack() of
        true -> Config;
        false -> {skip, "msgpack is not installed"}
    end.

has_msgpack() ->
    {ok, Has} = py:call(terms_of_python, has_msgpack, []),
    Has.

%% Whatever the case did, the same worker still answers, and nothing is left behind.
-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    receive
        {py_stream, _, _} = Left -> {fail, {left_in_mailbox, Left}}
    after 0 -> ok
    end.

%% Each golden vector is the term that it says, goes to Python, and comes back.
-spec golden_terms(ct_suite:ct_config()) -> ok.
golden_terms(Config) ->
    HasMsgpack = has_msgpack(),
    Vectors = golden(Config),
    ?assert(length(Vectors) > 100),
    lists:foreach(
        fun([Name, Hex, _Python | Erlang]) ->
            Term = binary_to_term(binary:decode_hex(Hex)),
            [?assertEqual(evaluate(Text), Term, Name) || Text <- Erlang, Text =/= <<>>],
            case Name of
                <<"bytes">> -> ?assertEqual({ok, element(2, Term)}, same(Term));
                <<"msgpack">> when not HasMsgpack -> {error, _} = same(Term);
                <<"msgpack">> -> ?assertEqual({ok, [1, none]}, same(Term));
                _ -> ?assert(came_back(Term, same(Term)), Name)
            end
        end,
        Vectors
    ).

golden(Config) ->
    File = filename:join([?config(data_dir, Config), "..", "golden", "terms.txt"]),
    {ok, Text} = file:read_file(File),
    Lines = binary:split(Text, <<"\n">>, [global, trim_all]),
    [binary:split(Line, <<"\t">>, [global]) || <<First, _/binary>> = Line <- Lines, First =/= $#].

evaluate(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text) ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Expressions, erl_eval:new_bindings()),
    Value.

%% Random terms over the whole type space come back as they were.
-spec random_terms(ct_suite:ct_config()) -> ok.
random_terms(_Config) ->
    Terms = test_terms_gen:terms(?SEED, 1000),
    ct:pal("~b terms of seed ~b", [length(Terms), ?SEED]),
    [?assert(came_back(Term, same(Term)), Term) || Term <- Terms],
    ok.

%% The same as the values of one stream, one by one and in batches.
-spec random_terms_as_a_stream(ct_suite:ct_config()) -> ok.
random_terms_as_a_stream(_Config) ->
    Terms = test_terms_gen:terms(?SEED + 1, 1000),
    {ok, Values} = py:stream(builtins, iter, [Terms], #{}, #{binaries => bytes}),
    ?assert(came_back(Terms, {ok, Values})),
    Opts = #{binaries => bytes, batch => 7, window => 20},
    {ok, Ref} = py:stream_start(builtins, iter, [Terms], Opts),
    {ok, Reversed} = py:stream_fold(fun(Value, Acc) -> {cont, [Value | Acc]} end, [], Ref),
    ?assert(came_back(Terms, {ok, lists:reverse(Reversed)})).

%% PropEr's own generator of terms says the same, and shrinks what does not come back.
-spec terms_of_proper(ct_suite:ct_config()) -> ok | {skip, string()}.
terms_of_proper(_Config) ->
    case code:ensure_loaded(proper) of
        {module, proper} ->
            Comes = fun(Term) -> came_back(Term, same(Term)) end,
            Property = proper:forall(proper_types:any(), Comes),
            Print = fun(Format, Args) -> ct:log(Format, Args) end,
            ?assert(proper:quickcheck(Property, [{numtests, 500}, {on_output, Print}])),
            ok;
        {error, _} ->
            {skip, "PropEr is not installed"}
    end.

%% Binaries are str or bytes by the option of a call, of a stream, and of a pool.
-spec binaries_by_option(ct_suite:ct_config()) -> ok.
binaries_by_option(_Config) ->
    Args = [[<<"a">>, {<<"b">>, #{<<"c">> => c}}]],
    Str = {ok, <<"['a', ('b', {'c': Atom('c')})]">>},
    Bytes = {ok, <<"[b'a', (b'b', {b'c': Atom('c')})]">>},
    ?assertEqual(Str, py:call(builtins, repr, Args)),
    ?assertEqual(Bytes, py:call(builtins, repr, Args, #{}, #{binaries => bytes})),
    ?assertEqual(Bytes, py:call(builtins, repr, Args, #{}, #{pool => bytes})),
    ?assertEqual(Str, py:call(builtins, repr, Args, #{}, #{pool => bytes, binaries => str})),
    Stream = fun(Opts) -> py:stream(terms_of_python, reprs, [Args], #{}, Opts) end,
    ?assertMatch({ok, [<<"[['a', ", _/binary>>]}, Stream(#{})),
    ?assertMatch({ok, [<<"[[b'a', ", _/binary>>]}, Stream(#{binaries => bytes})),
    ?assertMatch({ok, [<<"[[b'a', ", _/binary>>]}, Stream(#{pool => bytes})).

%% Atoms are erlang.Atom or plain str by the same options; those that Python has a value for
%% are that value. Arguments and keyword arguments, at any depth, alone and with binaries.
-spec atoms_by_option(ct_suite:ct_config()) -> ok.
atoms_by_option(_Config) ->
    Args = [[ok, {<<"b">>, #{c => [d | e], true => none}}]],
    Repr = fun(Opts) -> py:call(builtins, repr, Args, #{}, Opts) end,
    Str = {ok, <<"['ok', ('b', {'c': ImproperList(['d'], 'e'), True: None})]">>},
    {ok, <<"[Atom('ok'), ", _/binary>>} = Repr(#{}),
    {ok, <<"[Atom('ok'), ", _/binary>>} = Repr(#{pool => names, atoms => atom}),
    ?assertEqual(sorted(Str), sorted(Repr(#{atoms => str}))),
    ?assertEqual(sorted(Str), sorted(Repr(#{pool => names}))),
    {ok, <<"['ok', (b'b', ", _/binary>>} = Repr(#{pool => names, binaries => bytes}),
    Types = <<"[type(v).__name__ for v in (a, b)]">>,
    Values = #{a => ok, b => <<"x">>},
    ?assertEqual({ok, [<<"Atom">>, <<"str">>]}, py:eval(Types, Values)),
    ?assertEqual({ok, [<<"str">>, <<"str">>]}, py:eval(Types, Values, #{atoms => str})),
    ?assertEqual({ok, [<<"str">>, <<"bytes">>]}, py:eval(Types, Values, #{atoms => str, binaries => bytes})),
    ?assertMatch({ok, [<<"[['ok', ", _/binary>>]}, py:stream(terms_of_python, reprs, [Args], #{}, #{atoms => str})),
    ?assertMatch({ok, [<<"[['ok', ", _/binary>>]}, py:stream(terms_of_python, reprs, [Args], #{}, #{pool => names})),
    ?assertMatch({ok, [<<"[[Atom('ok'), ", _/binary>>]}, py:stream(terms_of_python, reprs, [Args], #{}, #{})),
    %% What comes back is a binary then, and what needs no type of its own takes it.
    ?assertEqual({ok, [<<"ok">>]}, py:stream(builtins, iter, [[ok]], #{}, #{atoms => str})).

%% The order of a small map's keys is not the same in every OTP.
sorted({ok, Text}) -> {ok, lists:sort(binary_to_list(Text))}.

%% A binary that is not UTF-8 is an error that says where it sits, and what to do.
-spec binaries_that_are_not_utf8(ct_suite:ct_config()) -> ok.
binaries_that_are_not_utf8(_Config) ->
    Args = [#{<<"k">> => [1, <<255>>]}],
    {error, {'UnicodeDecodeError', Message}} = py:call(builtins, repr, Args),
    [?assertMatch({_, _}, binary:match(Message, Part), Part)
     || Part <- [<<"['k'][1]">>, <<"{bytes, B}">>, <<"binaries => bytes">>]],
    {error, {'UnicodeDecodeError', _}} = py:stream(builtins, iter, [[<<255>>]]),
    ?assertEqual({ok, <<255>>}, py:call(builtins, bytes, [{bytes, <<255>>}])),
    ?assertEqual({ok, [<<255>>]}, py:stream(builtins, iter, [[<<255>>]], #{}, #{binaries => bytes})).

%% {bytes, B} is bytes, {msgpack, B} what B unpacks to, anywhere in the arguments.
-spec bytes_and_msgpack(ct_suite:ct_config()) -> ok.
bytes_and_msgpack(_Config) ->
    Packed = <<16#82, 16#a1, $a, 16#93, 1, 16#c0, 16#c3, 1, 16#c4, 1, 255>>,
    ?assertEqual(
        {ok, <<"[b'\\xff', {'a': [1, None, True], 1: b'\\xff'}]">>},
        py:call(builtins, repr, [[{bytes, <<255>>}, {msgpack, Packed}]])
    ),
    {error, {_, Message}} = py:call(builtins, repr, [{msgpack, <<16#92, 1>>}]),
    ?assertMatch({_, _}, binary:match(Message, <<"cannot be unpacked">>)).

%% None is the atom that the pool says; the three of them are None in all.
-spec none_by_option(ct_suite:ct_config()) -> ok.
none_by_option(_Config) ->
    Nones = [none, nil, undefined, {none}, #{a => nil, none => 1}, [1.5, undefined]],
    Expect = fun(A) -> [A, A, A, {A}, #{a => A, A => 1}, [1.5, A]] end,
    ?assertEqual({ok, Expect(none)}, same(Nones)),
    ?assertEqual({ok, Expect(nil)}, same(Nones, #{pool => nil})),
    ?assertEqual({ok, Expect(undefined)}, same(Nones, #{pool => bytes})),
    ?assertEqual({ok, [nil, 1]}, py:stream(builtins, iter, [[none, 1]], #{}, #{pool => nil})).

%% One value of each kind that is no term itself.
-spec conversions(ct_suite:ct_config()) -> ok.
conversions(_Config) ->
    {ok, Values} = py:call(terms_of_python, conversions, []),
    ?assertEqual(
        #{
            <<"nan">> => [nan, infinity, neg_infinity],
            <<"set">> => [5],
            <<"bytearray">> => <<255>>,
            <<"enum">> => [<<"red">>, 2],
            <<"dataclass">> => #{<<"x">> => 1, <<"y">> => [none]},
            <<"named_tuple">> => {1, none},
            <<"datetime">> => <<"2024-02-29T12:30:00">>,
            <<"timedelta">> => <<"-P1DT0.5S">>,
            <<"collections">> => [[1], [0, 1], [{<<"k">>, 1}], #{<<"k">> => [1]}],
            <<"decimal">> => <<"1.10">>,
            <<"uuid">> => <<"00000000-0000-0000-0000-000000000001">>,
            <<"path">> => <<"/a/b">>,
            <<"own">> => {money, 5, <<"EUR">>},
            <<"registered">> => {127, 0, 0, 1},
            <<"big">> => -(1 bsl 100),
            <<"atom">> => [ok, '\x{4e2d}'],
            <<"numpy">> => [
                1, 1.5, true, [[0, 1], [2, 3]], [nan], [<<"2024-02-29T00:00:00">>, none], <<"PT1S">>
            ]
        },
        Values
    ).

%% With `format' each value reaches the owner as one binary in that format.
-spec opaque_formats(ct_suite:ct_config()) -> ok.
opaque_formats(_Config) ->
    Values = [#{<<"a">> => [1, none, 2.5]}, <<"text">>, ok],
    Stream = fun(Format) -> py:stream(builtins, iter, [Values], #{}, #{format => Format}) end,
    ?assertEqual(
        {ok, [<<"{\"a\":[1,null,2.5]}">>, <<"\"text\"">>, <<"\"ok\"">>]},
        Stream(json)
    ),
    %% More digits than Python writes by itself.
    ?assertEqual({ok, [integer_to_binary(1 bsl 20000)]}, py:stream_eval(<<"[1 << 20_000]">>, #{}, #{format => json})),
    {ok, [Map, Text, Atom]} = Stream(msgpack),
    ?assertEqual(<<16#81, 16#a1, $a, 16#93, 1, 16#c0, 16#cb, 2.5/float>>, Map),
    ?assertEqual([<<16#a4, "text">>, <<16#a2, "ok">>], [Text, Atom]),
    %% What a format has no type for ends the stream, after the values before it.
    {ok, Ref} = py:stream_start(builtins, iter, [[1, self(), 2]], #{format => json}),
    ?assertEqual({ok, <<"1">>}, py:stream_next(Ref, 5000)),
    {error, {'TypeError', Message}} = py:stream_next(Ref, 5000),
    ?assertMatch({_, _}, binary:match(Message, <<"JSON has no type">>)).

%% A value of an opaque format over 64 bytes is a binary that processes share.
-spec large_opaque_values_are_shared(ct_suite:ct_config()) -> ok.
large_opaque_values_are_shared(_Config) ->
    [begin
         {ok, Ref} = py:stream_start(builtins, iter, [[binary:copy(<<"x">>, 1000)]],
                                     #{format => Format}),
         {ok, Value} = py:stream_next(Ref, 5000),
         done = py:stream_next(Ref, 5000),
         {binary, Shared} = process_info(self(), binary),
         ?assert(byte_size(Value) > 1000),
         ?assert(lists:any(fun({_, Size, _}) -> Size >= 1000 end, Shared))
     end || Format <- [json, msgpack]],
    ok.

%% Terms that are too much for Python are one clear error, and the worker goes on.
-spec hostile_terms(ct_suite:ct_config()) -> ok.
hostile_terms(_Config) ->
    Worker = worker(),
    Deep = lists:foldl(fun(_, Term) -> [Term] end, [], lists:seq(1, 1_000_000)),
    {error, {_, TooDeep}} = same(Deep),
    ?assertMatch({_, _}, binary:match(TooDeep, <<"nested more than 1000 deep">>)),
    Long = improper(1_000_000),
    ?assertEqual({ok, Long}, same(Long)),
    Map = maps:from_list([{I, I} || I <- lists:seq(1, 1_000_000)]),
    ?assertEqual({ok, Map}, same(Map)),
    Keys = #{[1] => a, #{} => b, {[]} => c, 1 => d, 1.0 => e, none => f, nil => g, true => h},
    ?assertEqual({ok, Keys}, same(Keys)),
    ?assertEqual(Worker, worker()).

improper(N) ->
    lists:seq(1, N) ++ tail.

%% Each hostile value is the value or one clear error, and the next call on the worker works.
-spec hostile_values(ct_suite:ct_config()) -> ok.
hostile_values(_Config) ->
    Worker = worker(),
    [begin
         {error, {Class, Message}} = py:call(terms_of_python, hostile, [Name]),
         ct:log("~s: ~s: ~s", [Name, Class, Message]),
         ?assertEqual(Expected, Class, Name),
         ?assertMatch({_, _}, binary:match(Message, Part), Name),
         ?assertEqual(Worker, worker())
     end || {Name, Expected, Part} <- hostile()],
    [begin
         {ok, Value} = py:call(terms_of_python, hostile, [Name]),
         ?assert(Test(Value), Name)
     end || {Name, Test} <- large()],
    ?assertEqual(Worker, worker()).

%% As a value of a stream each ends that stream, after the values before it.
-spec hostile_values_in_a_stream(ct_suite:ct_config()) -> ok.
hostile_values_in_a_stream(_Config) ->
    [begin
         {ok, Ref} = py:stream_start(terms_of_python, two_and_hostile, [Name]),
         ?assertEqual([{ok, 1}, {ok, 2}], [py:stream_next(Ref, 10_000) || _ <- [1, 2]], Name),
         ?assertMatch({error, {Expected, _}}, py:stream_next(Ref, 30_000), Name)
     end || {Name, Expected, _} <- hostile()],
    ok.

hostile() ->
    [{<<"deep list">>, 'ValueError', <<"nested more than 1000 deep">>},
     {<<"cyclic list">>, 'ValueError', <<"contains itself">>},
     {<<"wide cyclic list">>, 'ValueError', <<"contains itself">>},
     {<<"cyclic dataclass">>, 'ValueError', <<"1000 deep">>},
     {<<"lone surrogate">>, 'UnicodeEncodeError', <<"surrogates not allowed">>},
     {<<"lone surrogate in a key">>, 'UnicodeEncodeError', <<"surrogates not allowed">>},
     {<<"long atom">>, 'ValueError', <<"at most 255 characters, this one has 256">>},
     {<<"function">>, 'TypeError', <<"cannot send a value of type 'builtins.function'">>},
     {<<"generator inside">>, 'TypeError', <<"'builtins.generator'">>},
     {<<"same key twice">>, 'ValueError', <<"same term in Erlang: 'a' and b'a'">>},
     {<<"huge integer">>, 'ValueError', <<"larger than Erlang's largest">>},
     {<<"own error">>, 'LookupError', <<"my own">>}].

large() ->
    [{<<"large dict">>, fun(Map) -> map_size(Map) =:= 1_000_000 end},
     {<<"large bytes">>, fun(Bytes) -> byte_size(Bytes) =:= 200 bsl 20 end},
     {<<"large str">>, fun(Text) -> byte_size(Text) =:= 20_000_000 end},
     {<<"large integer">>, fun(Integer) -> Integer =:= 1 bsl 1_000_000 end}].

%% A loop that makes atoms comes to an end before the node's table does.
-spec atoms_are_limited(ct_suite:ct_config()) -> ok.
atoms_are_limited(_Config) ->
    Before = erlang:system_info(atom_count),
    {error, {'ValueError', Message}} = py:stream(terms_of_python, atoms, []),
    ?assertMatch({_, _}, binary:match(Message, <<"made 10000 atoms of its own">>)),
    ?assert(erlang:system_info(atom_count) - Before < 10_500),
    %% Atoms that the node has, such as these, are as good as ever.
    ?assertEqual({ok, [ok, came_from_the_node]}, same([ok, came_from_the_node])),
    ?assertEqual({ok, came_from_the_node}, py:call(erlang, 'Atom', [<<"came_from_the_node">>])),
    Classes = erlang:system_info(atom_count),
    {error, {<<"Unheard", _/binary>>, _}} = py:call(terms_of_python, unheard_of, []),
    ?assertEqual(Classes, erlang:system_info(atom_count)).

%% Large arguments, end to end; the times are in the log.
-spec sizes_and_times(ct_suite:ct_config()) -> ok.
sizes_and_times(_Config) ->
    [begin
         {Time, {ok, Size}} = timer:tc(fun() -> py:call(builtins, len, [Value]) end),
         ct:pal("~s to Python: ~.1f ms", [What, Time / 1000]),
         ?assertEqual(Length, Size)
     end || {What, Value, Length} <- [
         {"100,000 integers", lists:seq(1, 100_000), 100_000},
         {"100 MiB of text", binary:copy(<<"x">>, 100 bsl 20), 100 bsl 20},
         {"100 MiB of bytes", {bytes, binary:copy(<<255>>, 100 bsl 20)}, 100 bsl 20}
     ]],
    {Time, {ok, Bytes}} = timer:tc(fun() -> py:call(builtins, bytes, [100 bsl 20]) end),
    ct:pal("100 MiB of bytes from Python: ~.1f ms", [Time / 1000]),
    ?assertEqual(100 bsl 20, byte_size(Bytes)).

%% The term as it comes back from Python.
same(Term) ->
    same(Term, #{}).

same(Term, Opts) ->
    py:call(terms_of_python, same, [Term], #{}, Opts#{binaries => bytes}).

came_back(Term, {ok, Back}) ->
    test_terms_gen:came_back(Term, Back);
came_back(_Term, {error, _}) ->
    false.

%% Which operating-system process the pool's only worker is.
worker() ->
    {ok, Pid} = py:call(os, getpid, []),
    Pid.
