%% Random terms, and a program that holds them up to Python's codec.
%%
%% The tests of the Python side start it as
%%     erl -noshell -noinput -pa DIR -run test_terms_gen serve
%% and talk to it over its standard input and output, in frames with a length of four bytes.
-module(test_terms_gen).

-export([term/1, terms/2, encode/2, came_back/2, serve/0]).

%% A term over the whole type space; Size bounds how many leaves it has.
-spec term(non_neg_integer()) -> term().
term(Size) when Size =< 1 ->
    leaf();
term(Size) ->
    case rand:uniform(8) of
        1 -> leaf();
        2 -> many(Size);
        3 -> list_to_tuple(many(Size));
        4 -> improper(many(Size), leaf());
        5 -> map(Size, fun() -> leaf() end);
        6 -> map(Size, fun() -> key() end);
        7 -> map(Size, fun() -> term(Size div 4) end);
        8 -> {term(Size div 2), term(Size div 2)}
    end.

%% Terms of many sizes, the same for the same seed.
-spec terms(integer(), pos_integer()) -> [term()].
terms(Seed, Count) ->
    _ = rand:seed(exsss, Seed),
    [term(rand:uniform(30)) || _ <- lists:seq(1, Count)].

many(Size) ->
    Count = rand:uniform(5) - 1,
    [term(Size div (Count + 1)) || _ <- lists:seq(1, Count)].

improper([], Tail) -> Tail;
improper(Elements, []) -> Elements;
improper(Elements, Tail) -> Elements ++ Tail.

map(Size, Key) ->
    Count = rand:uniform(5) - 1,
    maps:from_list([{Key(), term(Size div (Count + 1))} || _ <- lists:seq(1, Count)]).

%% Keys of which Python holds some equal to others.
key() ->
    one_of([0, 0.0, 1, 1.0, true, false, none, nil, undefined, a, <<"a">>, "a", {1}, {1.0}, {true},
            [], [1], [1.0], #{}, #{1 => 2}, #{1.0 => 2}, {a}, {<<"a">>}, {[a], #{a => []}}]).

leaf() ->
    case rand:uniform(20) of
        1 -> rand:uniform(256) - 1;
        2 -> rand:uniform(2000) - 1000;
        3 -> integer(rand:uniform(80));
        4 -> integer(rand:uniform(3000));
        5 -> rand:normal() * math:pow(10, rand:uniform(300) - 150);
        6 -> float(rand:uniform(100));
        7 -> one_of([true, false, none, nil, undefined, ok, error, '', a]);
        8 -> atom();
        9 -> text(rand:uniform(20) - 1);
        10 -> rand:bytes(rand:uniform(20) - 1);
        11 -> text(rand:uniform(2000));
        12 -> bits();
        13 -> [rand:uniform(256) - 1 || _ <- lists:seq(1, rand:uniform(20))];
        14 -> [rand:uniform(100000) || _ <- lists:seq(1, rand:uniform(300))];
        15 -> [rand:uniform() || _ <- lists:seq(1, rand:uniform(30))];
        16 -> one_of([[], {}, #{}, "", <<>>]);
        17 -> one_of([self(), spawn(fun() -> ok end), foreign_pid()]);
        18 -> one_of([make_ref(), alias()]);
        19 -> one_of(erlang:ports());
        20 -> one_of([fun lists:map/2, fun ?MODULE:term/1, fun(X) -> {X, self()} end])
    end.

one_of(Choices) ->
    lists:nth(rand:uniform(length(Choices)), Choices).

integer(Bits) ->
    Magnitude = rand:uniform(1 bsl Bits) - 1,
    one_of([Magnitude, -Magnitude, 1 bsl Bits, (1 bsl Bits) - 1, -(1 bsl Bits)]).

atom() ->
    Length = one_of([1, 3, 10, 127, 128, 255]),
    Character = one_of([$x, 16#e9, 16#4e2d, 16#1f600]),
    list_to_atom(lists:duplicate(Length, Character)).

text(Length) ->
    Character = one_of([$x, 16#e9, 16#4e2d, 16#1f600]),
    unicode:characters_to_binary(lists:duplicate(Length, Character)).

bits() ->
    Size = rand:uniform(60),
    <<Bits:Size/bits, _/bits>> = rand:bytes(8),
    Bits.

%% A pid as another node's would be: OTP has no function that makes one.
foreign_pid() ->
    binary_to_term(<<131, 88, 119, 7, "far@off", 77:32, 3:32, 5:32>>).

%% One of the ways that a node may encode a term, chosen by a number.
-spec encode(term(), non_neg_integer()) -> binary().
encode(Term, 0) -> term_to_binary(Term);
encode(Term, 1) -> term_to_binary(Term, [compressed]);
encode(Term, 2) -> term_to_binary(Term, [{minor_version, 0}]);
encode(Term, 3) -> term_to_binary(Term, [{minor_version, 2}]);
encode(Term, 4) -> iolist_to_binary(erlang:term_to_iovec(Term)).

%% Whether Back is what Term has to come back as from Python: the same, but for the atoms that are
%% None there.
-spec came_back(term(), term()) -> boolean().
came_back(Term, Back) ->
    Term =:= Back orelse same(Term, Back).

same(Atom, none) when Atom =:= nil; Atom =:= undefined -> true;
same([A | As], [B | Bs]) -> came_back(A, B) andalso came_back(As, Bs);
same(A, B) when is_tuple(A), is_tuple(B), tuple_size(A) =:= tuple_size(B) ->
    came_back(tuple_to_list(A), tuple_to_list(B));
same(A, B) when is_map(A), is_map(B), map_size(A) =:= map_size(B) ->
    %% Keys may have changed as well, so each entry searches its own.
    Left = maps:fold(fun(Key, Value, Rest) -> strike({Key, Value}, Rest) end, maps:to_list(B), A),
    Left =:= [];
same(_, _) ->
    false.

strike(Entry, [Other | Rest]) ->
    case came_back(Entry, Other) of
        true -> Rest;
        false -> [Other | strike(Entry, Rest)]
    end;
strike(_, []) ->
    [nothing_to_strike].

%% Requests, and their answers:
%%     $r Term          the term, decoded and encoded again by the node, or "badarg"
%%     $s Way Seed Max  how many terms, and then in frames of their own the terms of the seed,
%%                      encoded in that way; the client sends each back, in the same order, and
%%                      gets 1 or 0: whether it came back
-spec serve() -> no_return().
serve() ->
    loop(open_port({fd, 0, 1}, [{packet, 4}, binary, eof])).

loop(Port) ->
    case next(Port) of
        <<$r, Encoded/binary>> -> true = port_command(Port, round_trip(Encoded));
        <<$s, Way, Seed:32, Count:32>> -> send_terms(Port, Way, terms(Seed, Count))
    end,
    loop(Port).

round_trip(Encoded) ->
    try
        term_to_binary(binary_to_term(Encoded))
    catch
        error:badarg -> <<"badarg">>
    end.

send_terms(Port, Way, Terms) ->
    lists:foreach(fun(Term) -> port_command(Port, encode(Term, Way)) end, Terms),
    lists:foreach(fun(Term) -> port_command(Port, [verdict(Term, next(Port))]) end, Terms).

verdict(Term, Encoded) ->
    try came_back(Term, binary_to_term(Encoded)) of
        true -> 1;
        false -> 0
    catch
        error:badarg -> 0
    end.

next(Port) ->
    receive
        {Port, {data, Data}} -> Data;
        {Port, eof} -> halt()
    end.
