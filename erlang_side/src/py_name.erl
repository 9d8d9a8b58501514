%% @doc Names of Python modules, functions and variables. Those outside ASCII are normalised as Python's
%% compiler does it (NFKC, see PEP 3131): `µ' is the same name in whatever way it is written, and a name
%% that only looks like another is not it.
-module(py_name).

-export([identifier/1, keywords/1, locals/1, normalized/1]).
-export_type([name/0]).

-type name() :: atom() | binary() | string().

%% @private
%% @doc A name as UTF-8. Dots may join identifiers, as in `Class.method'; anything
%% else raises `error({invalid_python_identifier, Name})'.
-spec identifier(name()) -> binary().
identifier(Name) when is_atom(Name) ->
    checked(atom_to_binary(Name), Name);
identifier(Name) when is_binary(Name) ->
    checked(Name, Name);
identifier(Name) when is_list(Name) ->
    try unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> checked(Binary, Name);
        _ -> error({invalid_python_identifier, Name})
    catch
        error:badarg -> error({invalid_python_identifier, Name})
    end;
identifier(Name) ->
    error({invalid_python_identifier, Name}).

%% @private
%% @doc A text as {@link identifier/1} gives it if it is a name, else as it is.
-spec normalized(binary()) -> binary().
normalized(Text) ->
    case name(Text) of
        {ok, Name} -> Name;
        error -> Text
    end.

%% @private
%% @doc Keyword arguments by name, from a map or a list of pairs. The names may be any
%% text, as in `f(**kwargs)'; one that is none, or comes twice, raises
%% `error({badopt, {kwargs, Kwargs}})'.
-spec keywords(py_options:pairs()) -> #{binary() => term()}.
keywords(Kwargs) when Kwargs =:= #{} ->
    Kwargs;
keywords(Kwargs) ->
    unique(fun keyword/1, pairs(kwargs, Kwargs), kwargs, Kwargs).

keyword(Name) when is_atom(Name) -> normalized(atom_to_binary(Name));
keyword(Name) when is_binary(Name); is_list(Name) ->
    case unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> normalized(Binary)
    end.

%% @private
%% @doc The same for local variables, whose names are identifiers.
-spec locals(py_options:pairs()) -> #{binary() => term()}.
locals(Locals) ->
    unique(fun identifier/1, pairs(locals, Locals), locals, Locals).

pairs(_Option, Pairs) when is_map(Pairs) -> maps:to_list(Pairs);
pairs(_Option, Pairs) when is_list(Pairs) -> Pairs;
pairs(Option, Pairs) -> py_badopt:raise(Option, Pairs).

unique(Name, Pairs, Option, Given) ->
    try [{Name(Key), Value} || {Key, Value} <- all_pairs(Pairs)] of
        Named ->
            Map = maps:from_list(Named),
            map_size(Map) =:= length(Named) orelse py_badopt:raise(Option, Given),
            Map
    catch
        error:Reason when Reason =:= badarg; Reason =:= function_clause; element(1, Reason) =:= case_clause ->
            py_badopt:raise(Option, Given)
    end.

%% A comprehension would pass over what is no pair.
all_pairs(Pairs) ->
    lists:map(fun(Pair = {_, _}) -> Pair end, Pairs).

checked(Binary, Name) ->
    case name(Binary) of
        {ok, Normalized} -> Normalized;
        error -> error({invalid_python_identifier, Name})
    end.

name(Binary) ->
    case first(Binary) of
        ascii -> {ok, Binary};
        unicode -> unicode_name(Binary);
        invalid -> error
    end.

%% Each part by itself: what becomes a dot, a digit at the start or a bracket is no name.
unicode_name(Binary) ->
    Parts = [unicode:characters_to_nfkc_binary(Part) || Part <- binary:split(Binary, <<".">>, [global])],
    case lists:all(fun is_part/1, Parts) of
        true -> {ok, iolist_to_binary(lists:join($., Parts))};
        false -> error
    end.

-define(IS_START(C), ((C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z) orelse C =:= $_)).

first(<<C, Rest/binary>>) when ?IS_START(C) -> rest(Rest);
first(<<C, _/binary>>) when C >= 128 -> unicode;
first(_) -> invalid.

rest(<<>>) -> ascii;
rest(<<$., Rest/binary>>) -> first(Rest);
rest(<<C, Rest/binary>>) when ?IS_START(C); C >= $0, C =< $9 -> rest(Rest);
rest(<<C, _/binary>>) when C >= 128 -> unicode;
rest(_) -> invalid.

%% Letters outside ASCII pass: Python itself decides what is an
%% identifier there, and an unknown name is an AttributeError.
is_part(<<C/utf8, Rest/binary>>) when ?IS_START(C); C >= 128 -> is_rest(Rest);
is_part(_) -> false.

is_rest(<<C/utf8, Rest/binary>>) when ?IS_START(C); C >= $0, C =< $9; C >= 128 -> is_rest(Rest);
is_rest(Rest) -> Rest =:= <<>>.
