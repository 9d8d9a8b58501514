%% @doc Text as options have it: a string or a binary, of Unicode.
%%
%% What goes to the operating system goes as the node writes names of files, which is either
%% UTF-8 or, under `LC_ALL=C' or `+fnl', a byte for each character. Names are UTF-8 on either
%% side of such a node, so they pass through it as bytes.
%% @hidden
-module(py_text).

-export([is_native/1, native/1, readable/1, utf8/2, variable/1]).

%% @doc As UTF-8, for Python. What is no text raises `error({badopt, {Option, Text}})'.
-spec utf8(Option :: atom(), unicode:chardata()) -> binary().
utf8(Option, Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> py_badopt:raise(Option, Text)
    catch
        error:badarg -> py_badopt:raise(Option, Text)
    end.

%% @doc As `file', `open_port/2' and `os' of this node take and give it.
-spec native(string() | binary()) -> string().
native(Text) ->
    native(Text, file:native_name_encoding()).

native(Text, utf8) when is_binary(Text) ->
    unicode:characters_to_list(Text);
native(Text, utf8) ->
    Text;
native(Text, latin1) when is_binary(Text) ->
    binary_to_list(Text);
native(Text, latin1) ->
    %% What comes from `file:get_cwd/0' or `os:getenv/1' is bytes already; what was written
    %% in a program is Unicode, and next to never UTF-8 when read as bytes.
    case is_bytes(Text) andalso unicode:characters_to_list(list_to_binary(Text)) of
        Unicode when is_list(Unicode) -> Text;
        _ -> binary_to_list(unicode:characters_to_binary(Text))
    end.

is_bytes(Text) ->
    lists:all(fun(Char) -> Char < 256 end, Text).

%% @doc Whether {@link native/1} takes it. No name and no variable has a zero in it.
-spec is_native(term()) -> boolean().
is_native(Text) when is_binary(Text) ->
    is_binary(unicode:characters_to_binary(Text)) andalso binary:match(Text, <<0>>) =:= nomatch;
is_native(Text) ->
    io_lib:char_list(Text) andalso not lists:member(0, Text).

%% @doc UTF-8 of what {@link native/1} gave.
-spec readable(string()) -> binary().
readable(Native) ->
    case file:native_name_encoding() of
        utf8 -> unicode:characters_to_binary(Native);
        latin1 -> list_to_binary(Native)
    end.

%% @doc A variable of the environment as `open_port/2' wants it. `false' removes it.
-spec variable({string() | binary(), string() | binary() | false}) -> {string(), string() | false}.
variable({Name, false}) -> {native(Name), false};
variable({Name, Value}) -> {native(Name), native(Value)}.
