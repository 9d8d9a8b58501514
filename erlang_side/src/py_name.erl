%% @doc Names of Python modules, functions and variables.
-module(py_name).

-export([identifier/1]).
-export_type([name/0]).

-type name() :: atom() | binary() | string().

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

checked(Binary, Name) ->
    first(Binary, Name),
    Binary.

-define(IS_START(C),
    ((C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z) orelse C =:= $_ orelse C >= 128)
).

%% Letters outside ASCII pass if they are UTF-8: Python itself decides what is an
%% identifier there, and an unknown name is an AttributeError.
first(<<C/utf8, Rest/binary>>, Name) when ?IS_START(C) -> rest(Rest, Name);
first(_, Name) -> error({invalid_python_identifier, Name}).

rest(<<>>, _Name) -> ok;
rest(<<$., Rest/binary>>, Name) -> first(Rest, Name);
rest(<<C/utf8, Rest/binary>>, Name) when ?IS_START(C); C >= $0, C =< $9 -> rest(Rest, Name);
rest(_, Name) -> error({invalid_python_identifier, Name}).
