%% @doc Names of Python modules, functions and variables.
-module(py_name).

-export([identifier/1, keywords/1, locals/1]).
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
%% @doc Keyword arguments by name, from a map or a list of pairs. The names may be any
%% text, as in `f(**kwargs)'; one that is none, or comes twice, raises
%% `error({badopt, {kwargs, Kwargs}})'.
-spec keywords(py_options:pairs()) -> #{binary() => term()}.
keywords(Kwargs) when Kwargs =:= #{} ->
    Kwargs;
keywords(Kwargs) ->
    unique(fun keyword/1, pairs(kwargs, Kwargs), kwargs, Kwargs).

keyword(Name) when is_atom(Name) -> atom_to_binary(Name);
keyword(Name) when is_binary(Name); is_list(Name) ->
    case unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> Binary
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
    first(Binary, Name),
    Binary.

-define(IS_START(C),
    ((C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z) orelse C =:= $_)
).

%% Letters outside ASCII pass if they are UTF-8: Python itself decides what is an
%% identifier there, and an unknown name is an AttributeError.
%% ASCII is read by the byte, which takes a third of the time.
first(<<C, Rest/binary>>, Name) when ?IS_START(C) -> rest(Rest, Name);
first(<<C/utf8, Rest/binary>>, Name) when C >= 128 -> rest(Rest, Name);
first(_, Name) -> error({invalid_python_identifier, Name}).

rest(<<>>, _Name) -> ok;
rest(<<$., Rest/binary>>, Name) -> first(Rest, Name);
rest(<<C, Rest/binary>>, Name) when ?IS_START(C); C >= $0, C =< $9 -> rest(Rest, Name);
rest(<<C/utf8, Rest/binary>>, Name) when C >= 128 -> rest(Rest, Name);
rest(_, Name) -> error({invalid_python_identifier, Name}).
