%% @doc Decodes what a worker has sent. Its bytes may be anything: they are never
%% uncompressed, and the atoms that they make are counted for the node.
%%
%% Erlang never frees an atom, and a full atom table ends the node. Python limits the
%% atoms of one process; this limits those of all of them, for the life of the node, whatever is sent.
%% A term without a new atom costs no more than `binary_to_term/1'.
%% @hidden
-module(py_etf).

-export([init/0, decode/1]).
-export_type([reason/0]).

-type reason() :: bad_frame | atom_limit.

%% New atoms may take this part of the atom table. A larger part leaves less for the rest
%% of the node, a smaller one refuses programs that use many names.
-define(PART_OF_TABLE, 10).

%% @doc Makes the counter, which outlives the application as its atoms do.
-spec init() -> ok.
init() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> persistent_term:put(?MODULE, atomics:new(1, []));
        _ -> ok
    end.

%% @doc The term of a payload.
-spec decode(binary()) -> {ok, term()} | {error, reason()}.
decode(<<131, $P, _/binary>>) ->
    {error, bad_frame};
decode(Payload) ->
    try
        {ok, binary_to_term(Payload, [safe])}
    catch
        error:badarg -> decode_new(Payload)
    end.

%% It is no term, or has names that the node does not know.
decode_new(<<131, Term/binary>> = Payload) ->
    Counter = persistent_term:get(?MODULE),
    Limit = erlang:system_info(atom_limit) div ?PART_OF_TABLE,
    try new_names(Term, 1, Limit - atomics:get(Counter, 1), #{}) of
        Names ->
            case reserve(map_size(Names), Limit, Counter) of
                true -> decode_any(Payload);
                false -> {error, atom_limit}
            end
    catch
        throw:atom_limit -> {error, atom_limit};
        error:_ -> {error, bad_frame}
    end;
decode_new(_) ->
    {error, bad_frame}.

%% Not every sequence of tags is a term: a float may be none.
decode_any(Payload) ->
    try
        {ok, binary_to_term(Payload)}
    catch
        error:badarg -> {error, bad_frame}
    end.

reserve(N, Limit, Counter) ->
    case atomics:add_get(Counter, 1, N) of
        Sum when Sum =< Limit ->
            true;
        _ ->
            atomics:sub(Counter, 1, N),
            false
    end.

%%% The names of a term that are no atoms yet. What is no term raises an error.

new_names(_, _, Left, New) when map_size(New) > Left -> throw(atom_limit);
new_names(_, 0, _, New) -> New;
new_names(<<Tag, Rest/binary>>, N, Left, New) -> names(Tag, Rest, N - 1, Left, New).

%% `N' more terms follow this one.
names($a, <<_, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($b, <<_:32, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($F, <<_:64, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($c, <<_:31/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($n, <<Size, _, _:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($o, <<Size:32, _, _:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($m, <<Size:32, _:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($M, <<Size:32, _, _:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($k, <<Size:16, _:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, New);
names($j, R, N, Left, New) -> new_names(R, N, Left, New);
names($h, <<Size, R/binary>>, N, Left, New) -> new_names(R, N + Size, Left, New);
names($i, <<Size:32, R/binary>>, N, Left, New) -> new_names(R, N + Size, Left, New);
names($l, <<Size:32, R/binary>>, N, Left, New) -> new_names(R, N + Size + 1, Left, New);
names($t, <<Size:32, R/binary>>, N, Left, New) -> new_names(R, N + 2 * Size, Left, New);
%% Pids, ports and references: the node's name and numbers.
names($X, R, N, Left, New) -> node_name(R, 12, N, Left, New);
names($g, R, N, Left, New) -> node_name(R, 9, N, Left, New);
names($x, R, N, Left, New) -> node_name(R, 12, N, Left, New);
names($Y, R, N, Left, New) -> node_name(R, 8, N, Left, New);
names($f, R, N, Left, New) -> node_name(R, 5, N, Left, New);
names($Z, <<Size:16, R/binary>>, N, Left, New) -> node_name(R, 4 + 4 * Size, N, Left, New);
names($r, <<Size:16, R/binary>>, N, Left, New) -> node_name(R, 1 + 4 * Size, N, Left, New);
names($e, R, N, Left, New) -> node_name(R, 5, N, Left, New);
%% Functions: `fun M:F/A' makes an entry of the table of exports, which counts as an atom.
names($q, R0, N, Left, New0) ->
    {M, R1} = atom_name(R0),
    {F, <<$a, Arity, R2/binary>>} = atom_name(R1),
    New = add(F, add(M, New0)),
    new_names(R2, N, Left, New#{{M, F, Arity} => true});
names($p, <<_:32, _, _:16/binary, _:32, Free:32, R/binary>>, N, Left, New) ->
    new_names(R, N + 4 + Free, Left, New);
names($w, <<Size, Name:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, add(Name, New));
names($v, <<Size:16, Name:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, add(Name, New));
names($d, <<Size:16, Name:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, add(utf8(Name), New));
names($s, <<Size, Name:Size/binary, R/binary>>, N, Left, New) -> new_names(R, N, Left, add(utf8(Name), New)).

node_name(R0, Numbers, N, Left, New) ->
    {Name, R1} = atom_name(R0),
    <<_:Numbers/binary, R/binary>> = R1,
    new_names(R, N, Left, add(Name, New)).

atom_name(<<$w, Size, Name:Size/binary, R/binary>>) -> {Name, R};
atom_name(<<$v, Size:16, Name:Size/binary, R/binary>>) -> {Name, R};
atom_name(<<$d, Size:16, Name:Size/binary, R/binary>>) -> {utf8(Name), R};
atom_name(<<$s, Size, Name:Size/binary, R/binary>>) -> {utf8(Name), R}.

utf8(Name) -> unicode:characters_to_binary(Name, latin1).

add(Name, New) ->
    try binary_to_existing_atom(Name) of
        _ -> New
    catch
        error:badarg -> New#{Name => true}
    end.
