#!/usr/bin/env escript
%% Writes terms.txt: terms as a node encodes them, and what each is in Python.
%%
%%     escript test/golden/make.escript
%%
%% One line for each, with tabs between: name, encoding (hexadecimal), Python expression (with
%% binaries => str), Erlang expression. The last is missing for terms that have none. Both sides'
%% tests read the file; run this again only to add to it.

main([]) ->
    File = filename:join(filename:dirname(escript:script_name()), "terms.txt"),
    Header = "# Written by make.escript: name, encoding, Python, Erlang. Do not edit.\n",
    Lines = [line(V) || V <- encoded() ++ made_by_hand()],
    ok = file:write_file(File, unicode:characters_to_binary([Header | Lines])).

line({Name, Encoded, Python, Erlang}) when is_binary(Encoded) ->
    %% What the table says is what the node reads.
    Term = binary_to_term(Encoded),
    _ = [Term = evaluate(Erlang) || Erlang =/= ""],
    Hex = binary:encode_hex(Encoded),
    [lists:join($\t, [Name, string:lowercase(Hex), Python, Erlang]), $\n].

evaluate(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Expressions, erl_eval:new_bindings()),
    Value.

%% Terms that this node encodes, with today's and with older encodings.
encoded() ->
    Default = [{Name, term_to_binary(evaluate(Erlang)), Python, Erlang}
               || {Name, Erlang, Python} <- terms()],
    Old = [{Name ++ "_old", term_to_binary(evaluate(Erlang), [{minor_version, 0}]), Python, Erlang}
           || {Name, Erlang, Python} <- terms(), lists:prefix("float", Name)],
    Utf8 = [{Name ++ "_utf8", term_to_binary(evaluate(Erlang), [{minor_version, 2}]),
             Python, Erlang}
            || {Name, Erlang, Python} <- terms(), lists:prefix("atom", Name)],
    Compressed = [{Name ++ "_compressed", term_to_binary(evaluate(Erlang), [compressed]),
                   Python, Erlang}
                  || {Name, Erlang, Python} <- terms(), lists:prefix("large", Name)],
    Default ++ Old ++ Utf8 ++ Compressed.

terms() ->
    [{"zero", "0", "0"},
     {"small_integer_max", "255", "255"},
     {"integer_256", "256", "256"},
     {"minus_one", "-1", "-1"},
     {"integer_min", "-(1 bsl 31)", "-(1 << 31)"},
     {"integer_max", "(1 bsl 31) - 1", "(1 << 31) - 1"},
     {"past_integer_max", "1 bsl 31", "1 << 31"},
     {"past_integer_min", "-(1 bsl 31) - 1", "-(1 << 31) - 1"},
     {"smallnum_max", "(1 bsl 59) - 1", "(1 << 59) - 1"},
     {"past_smallnum_max", "1 bsl 59", "1 << 59"},
     {"int64_max", "(1 bsl 63) - 1", "(1 << 63) - 1"},
     {"int64_min", "-(1 bsl 63)", "-(1 << 63)"},
     {"uint64_max", "(1 bsl 64) - 1", "(1 << 64) - 1"},
     {"past_uint64", "1 bsl 64", "1 << 64"},
     {"small_big_max", "(1 bsl 2040) - 1", "(1 << 2040) - 1"},
     {"large_big", "1 bsl 2040", "1 << 2040"},
     {"large_big_minus", "-(1 bsl 2040)", "-(1 << 2040)"},
     {"float_zero", "0.0", "0.0"},
     {"float_minus_zero", "-0.0", "-0.0"},
     {"float_one", "1.0", "1.0"},
     {"float_tenth", "0.1", "0.1"},
     {"float_max", "1.7976931348623157e308", "1.7976931348623157e308"},
     {"float_min", "-1.7976931348623157e308", "-1.7976931348623157e308"},
     {"float_tiny", "5.0e-324", "5e-324"},
     {"true", "true", "True"},
     {"false", "false", "False"},
     {"none", "none", "None"},
     {"nil_atom", "nil", "None"},
     {"undefined", "undefined", "None"},
     {"atom", "ok", "Atom('ok')"},
     {"atom_empty", "''", "Atom('')"},
     {"atom_latin1", "'\\x{e9}'", "Atom('\\xe9')"},
     {"atom_cjk", "'\\x{4e2d}'", "Atom('\\u4e2d')"},
     {"atom_emoji", "'\\x{1f600}'", "Atom('\\U0001f600')"},
     {"atom_255", "list_to_atom(lists:duplicate(255, $a))", "Atom('a' * 255)"},
     {"atom_255_latin1", "list_to_atom(lists:duplicate(255, 16#e9))", "Atom('\\xe9' * 255)"},
     {"atom_255_emoji", "list_to_atom(lists:duplicate(255, 16#1f600))",
      "Atom('\\U0001f600' * 255)"},
     {"binary_empty", "<<>>", "''"},
     {"binary", "<<\"hello\">>", "'hello'"},
     {"binary_utf8", "<<\"\\x{4e2d}\\x{1f600}\"/utf8>>", "'\\u4e2d\\U0001f600'"},
     {"binary_zero", "<<0>>", "'\\0'"},
     {"bytes", "{bytes, <<255, 0>>}", "b'\\xff\\0'"},
     {"bytes_of_integer", "{bytes, 5}", "(Atom('bytes'), 5)"},
     {"bytes_of_bits", "{bytes, <<5:3>>}", "(Atom('bytes'), Bitstring(b'\\xa0', 3))"},
     {"bytes_of_three", "{bytes, <<>>, 1}", "(Atom('bytes'), '', 1)"},
     {"bits_1", "<<1:1>>", "Bitstring(b'\\x80', 1)"},
     {"bits_7", "<<127:7>>", "Bitstring(b'\\xfe', 7)"},
     {"bits_9", "<<511:9>>", "Bitstring(b'\\xff\\x80', 9)"},
     {"nil", "[]", "[]"},
     {"list_of_nil", "[[]]", "[[]]"},
     {"string", "\"hello\"", "[104, 101, 108, 108, 111]"},
     {"list", "[1, a, <<\"b\">>]", "[1, Atom('a'), 'b']"},
     {"large_list", "lists:seq(-1000, 1000)", "list(range(-1000, 1001))"},
     {"large_floats", "[float(I) || I <- lists:seq(1, 300)]",
      "[float(i) for i in range(1, 301)]"},
     {"improper", "[1 | 2]", "ImproperList([1], 2)"},
     {"improper_longer", "[1, [2 | 3] | <<\"t\">>]",
      "ImproperList([1, ImproperList([2], 3)], 't')"},
     {"tuple_empty", "{}", "()"},
     {"tuple", "{1, {2}, [3]}", "(1, (2,), [3])"},
     {"tuple_255", "erlang:make_tuple(255, 0)", "(0,) * 255"},
     {"tuple_256", "erlang:make_tuple(256, 0)", "(0,) * 256"},
     {"map_empty", "#{}", "{}"},
     {"map", "#{<<\"a\">> => 1, b => none}", "{'a': 1, Atom('b'): None}"},
     {"map_tuple_key", "#{{1, a} => 2}", "{(1, Atom('a')): 2}"},
     {"map_list_key", "#{[1, [2]] => 3}", "{FrozenList([1, FrozenList([2])]): 3}"},
     {"map_map_key", "#{#{1 => [2]} => 3}", "{FrozenDict({1: FrozenList([2])}): 3}"},
     {"map_nil_key", "#{[] => #{}}", "{FrozenList(): {}}"},
     {"map_string_key", "#{\"ab\" => 1}", "{FrozenList([97, 98]): 1}"},
     {"map_same_numbers", "#{1 => a, 1.0 => b, true => c}",
      "{MapKey(b'a\\1', 1): Atom('a'), MapKey(b'F\\x3f\\xf0' + bytes(6), 1.0): Atom('b'), "
      "MapKey(b'd\\0\\4true', True): Atom('c')}"},
     {"map_large", "maps:from_list([{I, -I} || I <- lists:seq(1, 100)])",
      "{i: -i for i in range(1, 101)}"},
     {"deep", "lists:foldl(fun(_, T) -> [T] end, [], lists:seq(1, 900))", "nested(900)"},
     {"export", "fun lists:map/2", "Fun(b'qd\\0\\5listsd\\0\\3mapa\\2')"}].

%% Encodings that this node reads but does not write, and terms of other nodes.
made_by_hand() ->
    Hand = [{"pid_new", <<88, 119, 3, "a@b", 1:32, 2:32, 3:32>>, "Pid"},
            {"pid_new_long_atom", <<88, 118, 3:16, "a@b", 1:32, 2:32, 3:32>>, "Pid"},
            {"pid_old", <<103, 100, 3:16, "a@b", 1:32, 2:32, 3>>, "Pid"},
            {"port_v4", <<120, 119, 3, "a@b", (1 bsl 40):64, 3:32>>, "Port"},
            {"port_new", <<89, 119, 3, "a@b", 7:32, 3:32>>, "Port"},
            {"port_old", <<102, 115, 3, "a@b", 7:32, 3>>, "Port"},
            {"reference_newer", <<90, 3:16, 119, 3, "a@b", 9:32, 1:32, 2:32, 3:32>>, "Reference"},
            {"reference_newer_5",
             <<90, 5:16, 119, 3, "a@b", 9:32, 1:32, 2:32, 3:32, 4:32, 5:32>>, "Reference"},
            {"reference_new", <<114, 3:16, 100, 3:16, "a@b", 1, 1:32, 2:32, 3:32>>, "Reference"},
            {"reference_old", <<101, 100, 3:16, "a@b", 1:32, 1>>, "Reference"},
            {"export_utf8", <<113, 119, 5, "lists", 119, 3, "map", 97, 2>>, "Fun"},
            {"fun_local", local_fun(), "Fun"}],
    [{Name, <<131, Body/binary>>, [Kind, "(bytes.fromhex('", binary:encode_hex(Body), "'))"], ""}
     || {Name, Body, Kind} <- Hand]
        ++ [{"latin1_small_atom", <<131, 115, 1, 16#e9>>, "Atom('\\xe9')", "'\\x{e9}'"},
            {"list_in_tail", <<131, 108, 1:32, 97, 1, 108, 1:32, 97, 2, 106>>, "[1, 2]", "[1, 2]"},
            {"string_in_tail", <<131, 108, 1:32, 97, 1, 107, 1:16, 2>>, "[1, 2]", "[1, 2]"},
            {"big_of_few_bytes", <<131, 110, 1, 0, 5>>, "5", "5"},
            {"big_with_leading_zeros", <<131, 110, 4, 1, 5, 0, 0, 0>>, "-5", "-5"},
            {"large_tuple_of_one", <<131, 105, 1:32, 97, 1>>, "(1,)", "{1}"},
            {"msgpack", <<131, 104, 2, 119, 7, "msgpack", 109, 3:32, 16#92, 1, 16#c0>>,
             "[1, None]", "{msgpack, <<146, 1, 192>>}"}].

%% The encoding of a fun that some module of this node holds, as term_to_binary/1 writes it.
local_fun() ->
    Body = <<2, 0:128, 4:32, 1:32, 119, 5, "lists", 97, 4, 98, 1000:32,
             88, 119, 3, "a@b", 1:32, 2:32, 3:32, 97, 42>>,
    <<112, (byte_size(Body) + 4):32, Body/binary>>.
